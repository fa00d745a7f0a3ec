"""The figures of a multi-label evaluation, against scikit-learn and against plain resampling."""

import time
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from lit_ft.report.multi_label import (
    average_precisions,
    choose_thresholds,
    figures_of_tags,
    scores_of_tags,
    sigmoid,
    summarise_tags,
    tag_differences,
    tag_intervals,
)


def rows(num_rows: int = 400, num_labels: int = 6, ties: bool = False, seed: int = 0):
    """Logits, labels and the row losses of a model that is often right."""
    rng = np.random.default_rng(seed)
    tags = rng.random((num_rows, num_labels)) < np.linspace(0.02, 0.5, num_labels)
    logits = (tags * 3.0 - 2.0 + rng.normal(size=tags.shape)).astype(np.float32)
    logits = logits.round(0 if ties else 6)
    return logits, tags, (np.logaddexp(0, logits) - logits * tags).mean(1)


@pytest.mark.parametrize("ties", [False, True])
def test_figures_are_those_of_scikit_learn(ties):
    logits, tags, _ = rows(ties=ties)
    tags[:, 0] = False  # a label that no row has
    probabilities = sigmoid(logits)
    thresholds = choose_thresholds(probabilities, tags)
    found = figures_of_tags(probabilities, tags, probabilities >= thresholds)
    for end, said in (("", probabilities >= 0.5), ("_chosen", probabilities >= thresholds)):
        for name, value in (
            ("micro_f1", sk.f1_score(tags, said, average="micro")),
            ("macro_f1", sk.f1_score(tags, said, average="macro", zero_division=0)),
            ("subset_accuracy", sk.accuracy_score(tags, said)),
        ):
            assert found[name + end] == pytest.approx(value, abs=1e-6)
    with warnings.catch_warnings(action="ignore"):
        theirs = sk.average_precision_score(tags, probabilities, average=None)
    own = average_precisions(tags, probabilities)
    assert np.isnan(own[0]) and own[1:] == pytest.approx(theirs[1:], abs=1e-6)
    assert found["average_precision"] == pytest.approx(theirs.mean(), abs=1e-6)


def test_figures_are_those_of_torchmetrics():
    import torch
    from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

    logits, tags, _ = rows()
    tags[:, 0] = False
    found = figures_of_tags(sigmoid(logits), tags, tags)
    given = torch.tensor(logits), torch.tensor(tags).long(), 6
    for average in ("micro", "macro"):
        assert found[f"{average}_f1"] == pytest.approx(
            float(multilabel_f1_score(*given, average=average)), abs=1e-6
        )
    with warnings.catch_warnings(action="ignore"):
        assert found["average_precision"] == pytest.approx(
            float(multilabel_average_precision(*given)), abs=1e-6
        )


def test_a_threshold_has_the_highest_f1_of_all_and_half_for_rare_labels():
    logits, tags, _ = rows(num_labels=4)
    tags[:, 0] = np.arange(400) < 9  # fewer than ten
    probabilities = sigmoid(logits - 1.5)
    found = choose_thresholds(probabilities, tags)
    assert found[0] == 0.5
    for c in (1, 2, 3):
        said = probabilities[:, c] >= np.r_[found[c], np.unique(probabilities[:, c])][:, None]
        right, total = (said & tags[:, c]).sum(1), said.sum(1) + tags[:, c].sum()
        reached, *of_all = 2 * right / total
        assert reached == pytest.approx(max(of_all)) and found[c] < 0.5
    sure = np.where(tags, 0.9, 0.1)
    assert choose_thresholds(sure, tags) == [0.5] * 4  # every threshold between is as good


def test_intervals_are_those_of_resampled_rows():
    logits, tags, losses = rows(num_rows=150)
    probabilities = sigmoid(logits)
    said = probabilities >= choose_thresholds(probabilities, tags)
    found = tag_intervals(probabilities, tags, said, losses)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        at = rng.integers(0, 150, 150)
        figures = figures_of_tags(probabilities[at], tags[at], said[at])
        drawn.append([figures["micro_f1"], figures["macro_f1_chosen"], figures["average_precision"]])
    ends = np.quantile(drawn, [0.025, 0.975], axis=0).T
    for name, pair in zip(("micro_f1", "macro_f1_chosen", "average_precision"), ends, strict=True):
        assert found["scores"][name] == pytest.approx(pair.tolist(), abs=0.02)
    f1 = sk.f1_score(tags[:, 5], said[:, 5])
    low, high = found["classes"]["5"]["f1"]
    assert low < f1 < high and len(found["classes"]) == 6
    perfect = tag_intervals(np.where(tags, 0.9, 0.1), tags, tags, losses)
    assert perfect["scores"]["subset_accuracy"][0] < 1 == perfect["scores"]["subset_accuracy"][1]
    assert perfect["classes"]["0"]["f1"][0] < 0.9 and perfect["scores"]["micro_f1"][0] < 1
    nothing = tag_intervals(np.where(tags, 0.1, 0.2), tags, ~tags & False, losses)
    assert nothing["scores"]["micro_f1"] == [0.0, pytest.approx(nothing["scores"]["micro_f1_chosen"][1])]
    assert 0 < nothing["scores"]["micro_f1"][1] < 0.1


def test_intervals_take_less_than_two_seconds():
    logits, tags, losses = rows(5000, 50)
    begun = time.process_time()
    tag_intervals(sigmoid(logits), tags, logits > 0, losses)
    assert time.process_time() - begun < 2


def test_a_difference_and_its_draws():
    logits, tags, _ = rows()
    one, other = logits > 0, logits > -0.5
    found = tag_differences(tags, one, other)
    for name, (value, draws) in found.items():
        assert value == pytest.approx(scores_of_tags(tags, other)[name] - scores_of_tags(tags, one)[name])
        assert draws.mean() == pytest.approx(value, abs=0.01) and draws.std() > 0
    assert not tag_differences(tags, one, one)["micro_f1"][1].any()


def test_what_a_report_holds_by_hand():
    tags = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    said = np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], bool)
    probabilities = np.where(said, 0.8, 0.2)
    losses = np.array([0.3, 0.9, 0.1])
    found = summarise_tags(
        probabilities, tags, said, losses, np.array([4, 5, 6]), [0.5] * 3, np.array([True, True, False])
    )
    assert found["class_counts"] == {"rows": [1, 2, 0], "predicted": [1, 1, 1], "right": [1, 1, 0]}
    assert found["without_label"] == {"given": 1, "predicted": 0, "at_half": 0, "both": 0}
    assert found["pairs"] == [[0, 1, 1, 0]] and found["together"]["given"][0] == [1, 1, 0]
    assert found["num_mistakes"] == 2 and found["cut"] == {"rows": 2, "right": 0}
    first, second = found["mistakes"]
    assert (first["index"], first["missed"], first["wrong"], first["right"]) == (5, [], [[2, 0.8]], [])
    assert (second["index"], second["missed"], second["right"]) == (4, [[1, 0.2]], [0])
    assert found["curve"][0] == [0.05, 3 / 9, 1.0]
