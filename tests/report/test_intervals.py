"""The bootstrap against scipy's, and against what is known."""

import time

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score, f1_score, precision_score, recall_score

from lit_ft.report import intervals
from lit_ft.report.analysis import calibration_error, reliability, softmax, summary_intervals


def drawn(num_rows: int, num_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and answers, 70 % of them right."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    wrong = rng.integers(0, num_classes, num_rows)
    return labels, np.where(rng.random(num_rows) < 0.7, labels, wrong)


def of_class(labels: np.ndarray, predicted: np.ndarray, c: int) -> dict[str, float]:
    """Precision, recall and F1; scikit-learn's take a hundred times longer, which a bootstrap multiplies."""
    right = ((labels == c) & (predicted == c)).sum()
    said, there = (predicted == c).sum(), (labels == c).sum()
    return {"precision": right / said, "recall": right / there, "f1": 2 * right / (said + there)}


def kappa(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Quadratic: 1 less the squared distance, over the one of independent answers."""
    chance = np.square(labels[:, None] - predicted[None, :]).mean()
    return 1 - np.square(labels - predicted).mean() / chance


SCORES = {
    "accuracy": lambda y, p: (y == p).mean(),
    "macro_f1": lambda y, p: np.mean([of_class(y, p, c)["f1"] for c in range(4)]),
    "mae": lambda y, p: np.abs(y - p).mean(),
    "kappa": kappa,
}


def test_scores_are_those_of_scikit_learn():
    labels, predicted = drawn(300, 4)
    assert SCORES["macro_f1"](labels, predicted) == pytest.approx(
        f1_score(labels, predicted, average="macro")
    )
    expected = cohen_kappa_score(labels, predicted, weights="quadratic")
    assert SCORES["kappa"](labels, predicted) == pytest.approx(expected)
    for name, score in {"precision": precision_score, "recall": recall_score, "f1": f1_score}.items():
        expected = score(labels == 2, predicted == 2)
        assert of_class(labels, predicted, 2)[name] == pytest.approx(expected)


def by_scipy(labels, predicted, score):
    drawn = stats.bootstrap(
        (labels, predicted), score, paired=True, vectorized=False, method="percentile", n_resamples=1_000,
        rng=np.random.default_rng(7),
    )  # fmt: skip
    return drawn.confidence_interval


@pytest.mark.parametrize("score", SCORES)
def test_scores_as_scipy(score):
    labels, predicted = drawn(300, 4)
    found = intervals.of_answers(labels, predicted, 4, True)["scores"][score]
    expected = by_scipy(labels, predicted, SCORES[score])
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.12 * width)


@pytest.mark.parametrize("score", ["precision", "recall", "f1"])
def test_classes_as_scipy(score):
    labels, predicted = drawn(300, 4)
    found = intervals.of_answers(labels, predicted, 4, False)["classes"][2][score]
    expected = by_scipy(labels, predicted, lambda y, p: of_class(y, p, 2)[score])
    width = expected.high - expected.low
    assert found == pytest.approx((expected.low, expected.high), abs=0.12 * width)


def test_loss_and_calibration_as_scipy():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(400, 3)) * 2
    labels = np.where(rng.random(400) < 0.6, logits.argmax(1), rng.integers(0, 3, 400))
    found = summary_intervals(logits, labels, logits.argmax(1), 1.7, True)["scores"]
    probabilities = softmax(logits)
    losses = -np.log(probabilities[np.arange(400), labels])

    def error(rows):
        return calibration_error(reliability(probabilities[rows], labels[rows]))

    rows = np.arange(400)
    for name, score in (("loss", lambda rows: losses[rows].mean()), ("ece", error)):
        result = stats.bootstrap(
            (rows,), score, vectorized=False, method="percentile", n_resamples=1_000,
            rng=np.random.default_rng(3),
        )  # fmt: skip
        low, high = result.confidence_interval
        bias = result.bootstrap_distribution.mean() - score(rows) if name == "ece" else 0.0
        assert found[name] == pytest.approx((low - bias, high - bias), abs=0.12 * (high - low))
        assert found[name][0] < score(rows) < found[name][1]
    assert {"accuracy", "macro_f1", "mae", "kappa", "ece_calibrated"} <= found.keys()


@pytest.mark.parametrize(("right", "total"), [(320, 400), (30, 60), (90, 100)])
def test_accuracy_as_wilson(right, total):
    expected = stats.binomtest(right, total).proportion_ci(method="wilson")
    assert intervals.of_accuracy(right, total) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert intervals.wilson(right, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_all_right_is_not_certain():
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    found = intervals.of_answers(labels, labels, 3, False)
    assert found["scores"]["accuracy"].high == 1 and 0.6 < found["scores"]["accuracy"].low < 0.7
    assert 0.4 < found["classes"][0]["recall"].low < 0.5 and 0.4 < found["classes"][0]["f1"].low < 0.5
    never = intervals.of_answers(labels, np.zeros(8, np.int64), 3, False)["classes"][1]
    assert never["recall"].low == never["f1"].low == 0 < never["f1"].high
    assert found["classes"][2]["recall"] == (0, 1), "no text of the class: nothing is known"


def test_many_classes_are_drawn_in_time():
    labels, predicted = drawn(50_000, 5_000)
    begin = time.process_time()
    found = intervals.of_answers(labels, predicted, 5_000, False)
    assert time.process_time() - begin < 2
    assert len(found["classes"]) == intervals.MOST_CLASSES and found["draws"] >= intervals.FEWEST_DRAWS
    rows = np.bincount(labels, minlength=5_000)
    assert min(rows[list(found["classes"])]) >= np.sort(rows)[-intervals.MOST_CLASSES]


def test_the_same_each_time_and_no_stream_is_touched():
    labels, predicted = drawn(200, 5)
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    one, other = (intervals.of_answers(labels, predicted, 5, True) for _ in range(2))
    assert one == other and np.random.get_state()[1].tolist() == before  # noqa: NPY002
