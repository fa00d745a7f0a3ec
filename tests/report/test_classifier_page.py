"""The values of a classifier's page that are computed for it alone."""

import numpy as np
import pytest

from lit_ft.report import classifier_page
from lit_ft.report.analysis import accepted, worst_mistakes
from lit_ft.report.page import coded, draw_curves


def shares(confidence: np.ndarray) -> dict[str, list[int]]:
    """What is accepted of texts of two classes that are all called the first one; every other is right."""
    return accepted(np.stack([confidence, 1 - confidence], axis=1), np.arange(len(confidence)) % 2)


def test_thresholds_are_those_that_a_model_reaches():
    sure = classifier_page._thresholds(shares(np.linspace(0.5, 0.99, 200)), [0.4, 0.6])
    assert [row["least"] for row in sure] == [0, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert (
        sure[0]["ends"] == (0.4, 0.6) == sure[1]["ends"] != sure[2]["ends"]
    )  # of all texts it is the accuracy's
    cautious = classifier_page._thresholds(shares(np.linspace(0.5, 0.7, 200)), [0.4, 0.6])
    assert [row["least"] for row in cautious[1:]] == pytest.approx([0.54, 0.58, 0.62, 0.66, 0.68], abs=0.011)
    assert all(row["accepted"] >= 20 for row in cautious)


def test_one_step_off_counts_the_neighbours():
    assert classifier_page._one_step_off([[5, 1, 2], [0, 6, 1], [4, 0, 1]]) == pytest.approx(14 / 20)
    assert classifier_page._one_step_off(None) is None


def test_a_frequent_confusion_has_its_share_of_the_texts():
    labels = np.array([0] * 100 + [1] * 900)
    probabilities = np.full((1000, 3), 0.2)
    probabilities[:100, 1], probabilities[100:, 2] = 0.6, 0.6  # 0 is called 1, and 1 is called 2
    probabilities[:100, 0] = 0.1  # the least likely labels are all of the rarer confusion
    kept = worst_mistakes(probabilities, labels, probabilities.argmax(1), 60)
    assert len(kept) == 60 and (labels[kept] == 1).sum() == 27


def test_one_validation_is_no_curve_over_epochs():
    points = {"train/loss": [(1, 2.0), (5, 1.0)], "val/loss": [(9, 1.5)]}
    history = {
        "train": [{"epoch": 1, "loss": 1.4}],
        "validation": [{"step": 10, "epoch": 1.0, "val/loss": 1.5}],
    }
    facts = {"kind": "classifier", "step": 10, "history": history}
    (by_step,) = draw_curves(points, facts)["main"]
    assert ">step<" in by_step and ">best<" not in by_step
    history["validation"].append({"step": 20, "epoch": 2.0, "val/loss": 1.2})
    (by_epoch,) = draw_curves(points, {**facts, "step": 20})["main"]
    assert ">epoch<" in by_epoch and ">best<" in by_epoch
    assert by_epoch.count("<polyline") == 1 and ">validation<" in by_epoch  # though its steps differ by one


def test_flags_and_what_stands_in_backticks_are_code():
    found = coded("`predict` with <b> or --data.max_tokens=256, not a - b")
    assert found == ("<code>predict</code> with &lt;b&gt; or <code>--data.max_tokens=256</code>, not a - b")
