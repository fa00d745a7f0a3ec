"""The figures of numbers against scikit-learn and scipy, their intervals, and what a report shows of them."""

import time

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from lit_ft.report import charts
from lit_ft.report.regression import (
    gain_over,
    groups_of,
    number_intervals,
    number_scores,
    of_draws,
    ranks,
    scatter_points,
    summarise_numbers,
)

RNG = np.random.default_rng(3)
STARS = RNG.integers(1, 6, 400).astype(float)
SAID = STARS + RNG.normal(size=400)


@pytest.mark.parametrize("unit", [1.0, 1e-20, 1e25])
@pytest.mark.parametrize("middle", [0.0, 1e4])
def test_figures_are_those_of_scikit_learn(unit, middle):
    labels, said = (STARS + middle) * unit, (SAID.round(1) + middle) * unit  # with ties in both
    found = number_scores(labels, said)
    expected = {
        "mae": mean_absolute_error(labels, said),
        "rmse": root_mean_squared_error(labels, said),
        "r2": r2_score(labels, said),
        "spearman": spearmanr(labels, said).statistic,
    }
    assert found == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(ranks(labels), rankdata(labels))


def test_what_is_not_defined_is_left_out():
    assert number_scores(np.full(3, 2.0), np.array([1.0, 2.0, 3.0])).keys() == {"mae", "rmse"}
    assert number_scores(np.ones(1), np.zeros(1)) == {"mae": 1.0, "rmse": 1.0}
    assert number_intervals(np.full(3, 2.0), np.arange(3.0), 1.0)["scores"].keys() == {"mae", "rmse", "loss"}
    few = number_intervals(np.array([1.0, 2.0]), np.array([1.0, 1.5]), 1.0)["scores"]
    assert few["r2"][0] > -100 and few["spearman"] == [1, 1]  # half of the draws are of one label alone
    constant = number_scores(STARS, np.full(400, STARS.mean()))
    assert constant["spearman"] == 0 and constant["r2"] == pytest.approx(0)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch):
    """Of 100 samples, nearly all of the 95 % intervals hold the figures of the whole."""
    monkeypatch.setattr("lit_ft.report.intervals.DRAWS", 200)
    truth = {
        "mae": np.sqrt(2 / np.pi),
        "rmse": 1.0,
        "r2": 1 / 2,
        "spearman": 6 / np.pi * np.arcsin(0.5**0.5 / 2),
    }
    held = dict.fromkeys(truth, 0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        # labels = said + noise with variance 1 each, so that R2 is a half and the correlation its root
        for said, error in rng.normal(size=(5, 2, 300)):
            found = number_intervals(said + error, said, 1.0)["scores"]
            for name, value in truth.items():
                held[name] += found[name][0] <= value <= found[name][1]
    assert all(87 <= count <= 100 for count in held.values()), held


def test_a_part_of_many_rows_gives_the_interval_of_all(monkeypatch):
    labels = RNG.normal(size=6_000)
    said = labels + RNG.normal(size=6_000)
    whole = number_intervals(labels, said, 2.0)["scores"]
    monkeypatch.setattr("lit_ft.report.regression.MOST_DRAWN", 1_000)
    part = number_intervals(labels, said, 2.0)["scores"]
    for name in whole:
        wide, width = np.ptp(whole[name]), np.ptp(part[name])
        assert width == pytest.approx(wide, rel=0.25)
        assert part[name] == pytest.approx(whole[name], abs=0.4 * wide)
    assert whole["loss"] == pytest.approx([end**2 / 4 for end in whole["rmse"]])


def test_intervals_of_50_000_rows_take_two_seconds_of_a_core():
    labels = RNG.normal(size=50_000)
    said = labels + RNG.normal(size=50_000)
    begun = time.process_time()
    number_intervals(labels, said, 1.0)
    summarise_numbers(labels, said, np.arange(50_000))
    assert time.process_time() - begun < 2


def test_two_models_are_drawn_on_the_same_rows():
    found, _ = of_draws(STARS, np.stack([SAID, SAID + 0.01]))
    apart = np.ptp(found["rmse"][1] - found["rmse"][0])
    assert apart < 0.1 * np.ptp(found["rmse"][0])
    gain, low, high = gain_over(STARS, SAID, np.full(400, 3.0))
    expected = np.abs(3 - STARS).mean() - np.abs(SAID - STARS).mean()
    assert gain == pytest.approx(expected) and low < gain < high
    assert gain_over(np.ones(1), np.ones(1), np.zeros(1)) == (1, 1, 1)


def test_errors_by_level():
    levels = groups_of(STARS, STARS, STARS + np.where(STARS == 1, 0.5, -0.25))
    assert [(group["low"], group["high"]) for group in levels] == [(s, s) for s in range(1, 6)]
    assert [group["bias"] for group in levels] == [0.5, *[-0.25] * 4]
    assert sum(group["rows"] for group in levels) == 400
    fifths = groups_of(SAID, STARS, SAID)
    assert len(fifths) == 5 and max(group["rows"] for group in fifths) == 80
    assert len(groups_of(np.ones(3), np.ones(3), np.zeros(3))) == 1


def test_summary_is_plain_and_whole():
    cut = STARS == 5
    found = summarise_numbers(STARS, SAID, np.arange(400) * 2, cut, clipped=7)
    assert found["rows"] == 400 and found["clipped"] == 7
    worst = found["mistakes"][0]
    assert worst["index"] == 2 * int(np.abs(SAID - STARS).argmax()) and len(found["mistakes"]) == 60
    assert found["cut"]["rows"] == cut.sum()
    assert found["cut"]["long"]["mae"] == pytest.approx(np.abs(SAID - STARS)[cut].mean())
    assert found["within"]["half"] == pytest.approx(np.median(np.abs(SAID - STARS)))
    assert summarise_numbers(STARS, SAID, np.arange(400), np.zeros(400, bool))["cut"].keys() == {
        "rows",
        "short",
    }


def test_a_scatter_of_few_points_and_of_many():
    few = scatter_points(STARS, SAID)
    assert few["points"] == np.stack([STARS, SAID], 1).tolist() and few["outside"] == 0
    labels = np.tile(STARS, 10)
    said = np.tile(SAID, 10)
    said[0] = 1e6  # one of them would leave the picture empty
    many = scatter_points(labels, said)
    assert many["outside"] <= 12 and many["high"] < 100
    assert sum(count for *_, count in many["squares"]) == 4000 - many["outside"]
    for data in (few, many, scatter_points(np.ones(2), np.ones(2))):
        drawn = charts.scatter(data, "Title", "true <b>", "predicted")
        assert "true &lt;b&gt;" in drawn and "nan" not in drawn and "<svg" in drawn
    assert charts.scatter(few, "", "", "").count("<circle") == 400
    assert charts.scatter(many, "", "", "").count("<rect") == len(many["squares"])
