"""What is read off the probabilities, against hand-computed figures and other libraries."""

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

from lit_ft.report.analysis import (
    MOST_IN_MATRIX,
    MOST_SUSPECT,
    ROWS_AT_ONCE,
    SURE,
    TEMPERATURES,
    calibration_error,
    class_counts,
    count_confusions,
    fit_temperature,
    frequent_confusions,
    label_errors,
    per_class,
    reliability,
    softmax,
    summarise,
    worst_mistakes,
)


def drawn(scale: float, rows: int = 4000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `scale` times too large, and labels drawn from the true probabilities."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, classes))
    labels = (softmax(logits).cumsum(1) > rng.random((rows, 1))).argmax(1)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_temperature_undoes_the_scale(scale):
    assert fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.1)


def test_temperature_is_where_the_likelihood_is_greatest():
    logits, labels = drawn(2.0)
    found = fit_temperature(logits, labels)

    def loss(temperature: float) -> float:
        return -np.log(softmax(logits, temperature)[np.arange(len(labels)), labels]).mean()

    assert all(loss(found) < loss(found * factor) for factor in (0.97, 1.03))


def test_temperature_stays_in_its_range():
    right = np.eye(3)
    assert fit_temperature(right, np.arange(3)) == pytest.approx(TEMPERATURES[0])
    assert fit_temperature(right, np.array([1, 2, 0])) == pytest.approx(TEMPERATURES[1])


def test_calibration_error_is_that_of_torchmetrics():
    logits, labels = drawn(3.0)
    probabilities = softmax(logits)
    ours = calibration_error(reliability(probabilities, labels))
    theirs = multiclass_calibration_error(
        torch.tensor(probabilities), torch.tensor(labels), num_classes=4, n_bins=15, norm="l1"
    )
    assert ours == pytest.approx(float(theirs), abs=1e-6)
    better = softmax(logits, fit_temperature(logits, labels))
    assert calibration_error(reliability(better, labels)) < ours / 3


def test_reliability_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.4, 0.6], [1.0, 0.0]])
    bins = reliability(probabilities, np.array([0, 1, 1, 0]), num_bins=10)
    assert [entry["count"] for entry in bins] == [1, 3]  # confidence 0.6; 0.9, 0.95 and 1.0 together
    assert bins[1]["accuracy"] == pytest.approx(2 / 3) and bins[1]["confidence"] == pytest.approx(0.95)
    assert calibration_error(bins) == pytest.approx(0.25 * 0.4 + 0.75 * (0.95 - 2 / 3))


def test_per_class_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(0, 4, 300), rng.integers(0, 3, 300)  # the last class is never predicted
    ours = per_class(class_counts(labels, predicted, 4))
    theirs = precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "rows"), theirs, strict=True):
        assert [entry[key] for entry in ours] == pytest.approx(values.tolist()), key


def test_a_matrix_is_kept_of_few_classes_only():
    labels, predicted = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 2, 2, 1, 0, 2])
    assert count_confusions(labels, predicted, 3) == [[1, 0, 2], [0, 1, 0], [1, 0, 1]]
    assert len(count_confusions(labels, predicted, MOST_IN_MATRIX) or ()) == MOST_IN_MATRIX
    assert count_confusions(labels, predicted, MOST_IN_MATRIX + 1) is None
    assert frequent_confusions(labels, predicted) == [[0, 2, 2], [2, 0, 1]]
    assert frequent_confusions(labels, labels) == []


def test_the_temperature_of_many_rows_is_that_of_all_at_once():
    """It is looked for in pieces of rows, so that many classes take no more memory than a few."""
    logits, labels = drawn(2.0, rows=ROWS_AT_ONCE + 7)

    def gap(temperature: float) -> float:
        return (softmax(logits, temperature) * logits).sum(-1).mean() - logits[
            np.arange(len(labels)), labels
        ].mean()

    found = fit_temperature(logits, labels)
    assert gap(found * (1 - 1e-9)) > 0 > gap(found * (1 + 1e-9))


def test_worst_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.99, 0.01], [0.2, 0.8], [0.7, 0.3], [0.9, 0.1]])
    labels = np.array([1, 1, 1, 0, 1])
    predicted = probabilities.argmax(1)
    assert worst_mistakes(probabilities, labels, predicted).tolist() == [1, 4, 0]
    assert worst_mistakes(probabilities, labels, predicted, count=2).tolist() == [1, 4]


def calibrated(num_rows: int, num_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: a model that is right about itself."""
    rng = np.random.default_rng(2)
    probabilities = softmax(rng.normal(size=(num_rows, num_classes)) * 4)
    draws = rng.random((num_rows, 1))
    return probabilities, (probabilities.cumsum(1) < draws).sum(1).clip(0, num_classes - 1)


@pytest.mark.parametrize("num_classes", [2, 5, 40])
def test_sound_labels_are_not_doubted(num_classes):
    assert not len(label_errors(*calibrated(3000, num_classes)))


def test_label_errors_find_what_was_swapped():
    probabilities, labels = calibrated(3000)
    rng = np.random.default_rng(3)
    swapped = rng.choice(3000, 150, replace=False)
    labels[swapped] = (labels[swapped] + rng.integers(1, 3, 150)) % 3
    found = label_errors(probabilities, labels)
    right = np.isin(found, swapped)
    assert right.mean() > 0.5 and right.sum() > 40  # most of the others have a label that is not so unlikely
    assert right[:20].mean() >= right.mean()  # the likeliest first
    assert (probabilities[found].max(1) >= SURE).all()
    assert (probabilities[found].argmax(1) != labels[found]).all()
    assert len(label_errors(probabilities, (labels + 1) % 3)) <= MOST_SUSPECT * 3000


def test_summary_holds_no_more_than_it_shows():
    logits, labels = drawn(1.0)
    summary = summarise(logits, labels, logits.argmax(1), np.arange(len(labels)) + 7, 1.5)
    assert len(summary["mistakes"]) == 60
    wrong = logits.argmax(1) != labels
    assert summary["num_mistakes"] == wrong.sum() and summary["rows"] == len(labels)
    assert all(wrong[entry["index"] - 7] for entry in summary["mistakes"])
