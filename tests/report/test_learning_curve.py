"""What more labels bring: known curves, what cannot be said of others, and how often the range holds."""

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest

from lit_ft.report.learning_curve import CurvePoint, curve_chart, learning_curve, next_gain
from lit_ft.report.scores import SCORES

ACCURACY, MAE = SCORES["classifier"][0], SCORES["regression"][0]
SIZES = (950, 1900, 3800)


def points(errors, sizes=SIZES, deviation=0.002, higher=True):
    """Points with draws that differ by this much from share to share, and in common by five times as much."""
    rng = np.random.default_rng(3)
    common = rng.normal(0, 5 * deviation, 400)
    found = []
    for error, size in zip(errors, sizes, strict=True):
        drawn = error + np.concatenate([[0.0], common + rng.normal(0, deviation, 400)])
        values = 1 - drawn if higher else drawn
        found.append(CurvePoint(size / max(sizes), size, values, [values[0]] * 3))
    return found


def told(facts):
    return " ".join(facts["sentences"])


@pytest.mark.parametrize("power", [0.15, 0.25, 0.5])
def test_the_range_covers_the_power_law_and_a_floor(power):
    errors = [0.3 * (n / SIZES[-1]) ** -power for n in SIZES]
    coming = learning_curve(points(errors), ACCURACY)["next"]
    law = errors[-1] * (1 - 2**-power)
    assert coming["lowest"] < coming["low"] < law < coming["high"] < coming["highest"]
    assert coming["texts"] == 7600 and 0 < coming["low"]
    floor = 0.5 * (errors[1] - errors[2])  # each doubling brings half of what the one before it brought
    low = learning_curve(points([errors[2] + 6 * floor, errors[2] + 2 * floor, errors[2]]), ACCURACY)["next"]
    assert low["low"] < floor < low["high"], "the same last step, after a larger one"
    assert low["low"] < coming["low"] and low["high"] < coming["high"]


def test_a_curve_in_words_and_in_rows():
    given = points([0.5, 0.42, 0.37])
    facts = learning_curve([replace(given[2], baseline=0.6), given[0], given[1]], ACCURACY)
    assert [row["texts"] for row in facts["rows"]] == list(SIZES), "ordered by size"
    assert facts["rows"][2]["baseline"] == 0.6 and facts["rows"][0]["by_seed"] == pytest.approx([0.5] * 3)
    assert facts["rows"][1]["low"] < facts["rows"][1]["figure"] < facts["rows"][1]["high"]
    step, coming = facts["step"], facts["next"]
    assert step["value"] == pytest.approx(0.05) and step["low"] > 0.04 and step["certain"]
    assert step["high"] - step["low"] < 0.02, "paired: what the draws have in common is not in it"
    first, second = facts["sentences"]
    assert first.startswith("The last doubling, from 1,900 to 3,800 training texts: accuracy +5.0 points (95")
    assert first.endswith("better.")
    assert f"7,600 instead of 3,800, might raise accuracy by {100 * coming['low']:.1f} to" in second


def test_lower_is_better_for_an_error():
    facts = learning_curve(points([0.8, 0.7, 0.62], higher=False), MAE)
    assert facts["step"]["value"] == pytest.approx(-0.08) and facts["sentences"][0].endswith("better.")
    assert facts["next"]["lowest"] < facts["next"]["low"] < facts["next"]["high"] < 0
    assert "might lower mean absolute error by 0.0" in facts["sentences"][1]
    errors = [0.4, 0.2, 0.1]
    facts = learning_curve(points(errors, deviation=0.0001, higher=False), MAE)
    assert facts["next"]["lowest"] >= -0.1, "no error below 0"


@pytest.mark.parametrize(
    ("before", "last", "said"),
    [
        ([0.58, 0.58], [0.58, 0.68], "but the seeds of the two overlap: it may be a seed's luck."),
        ([0.58, 0.57], [0.62, 0.64], "better."),
        ([0.58], [0.63], "better; another seed may say otherwise."),
    ],
)
def test_a_step_is_certain_of_seeds_too(before, last, said):
    given = points([0.42, 0.37], SIZES[-2:])
    given = [replace(one, by_seed=of) for one, of in zip(given, (before, last), strict=True)]
    assert learning_curve(given, ACCURACY)["sentences"][0].endswith(said)


def test_a_flat_curve_has_hardly_anything_to_gain():
    facts = learning_curve(points([0.3, 0.3, 0.3], deviation=0.001), ACCURACY)
    assert "may be chance" in facts["sentences"][0]
    assert facts["next"]["low"] < 0 < facts["next"]["high"] < 0.007
    assert "by up to 0." in facts["sentences"][1]


def test_the_luck_of_seeds_makes_the_range_wider():
    given = points([0.5, 0.42, 0.37])
    spread = [replace(one, by_seed=[one.by_seed[0] + d for d in (-0.02, 0.0, 0.02)]) for one in given]
    steady, lucky = (learning_curve(of, ACCURACY)["next"] for of in (given, spread))
    assert lucky["high"] - lucky["low"] > 1.2 * (steady["high"] - steady["low"])


@pytest.mark.parametrize(
    ("errors", "sizes", "deviation", "why"),
    [
        ([0.3], (3800,), 0.002, "cannot be said from one share"),
        ([0.34, 0.3], (1900, 3800), 0.002, "two shares do not show how fast the gains shrink; add smaller"),
        ([0.31, 0.305, 0.3], (3000, 3400, 3800), 0.002, "less than a doubling apart; add smaller"),
        ([0.3, 0.28, 0.33], SIZES, 0.002, "with more texts it became worse"),
        ([0.5, 0.49, 0.3], SIZES, 0.002, "has not begun to level off, and more labels are likely to help"),
        ([0.5, 0.3, 0.4, 0.39], (475, *SIZES), 0.002, "lie on no curve that levels off"),
        ([0.32, 0.31, 0.3], SIZES, 0.05, "differ by too little beside chance"),
        ([0.1, 0.02, 0.0], SIZES, 0.0, "no error is left on these texts"),
        ([0.3, 0.2, 0.1], SIZES, math.nan, "measured texts are too few"),
    ],
)
def test_what_cannot_be_said(errors, sizes, deviation, why):
    facts = learning_curve(points(errors, sizes, deviation), ACCURACY)
    assert why in told(facts) and facts["next"] is None
    assert "nan" not in told(facts) + curve_chart(facts)
    assert (facts["step"] is None) == (len(errors) == 1)


def test_steps_in_words():
    worse = learning_curve(points([0.3, 0.28, 0.33]), ACCURACY)["sentences"][0]
    assert "accuracy -5.0 points" in worse and "worse: more labels did not help here" in worse
    step = learning_curve(points([0.31, 0.305, 0.3], (1000, 3000, 3800)), ACCURACY)["sentences"][0]
    assert step.startswith("The last step, from 3,000 to 3,800")
    twice = points([0.3, 0.28, 0.27], (1900, 3800, 3800))
    facts = learning_curve(twice, ACCURACY)
    assert [row["share"] for row in facts["rows"]] == [0.5, 1.0], "shares of the same texts count once"


def test_shares_that_were_measured_on_other_texts_are_not_paired():
    given = points([0.5, 0.42, 0.37])
    facts = learning_curve([*given[:2], replace(given[2], measured=900)], ACCURACY)
    assert "not all shares were measured on the same texts" in told(facts)
    assert facts["step"] is None and len(facts["rows"]) == 3 and "polyline" in curve_chart(facts)


def test_about_so_many_ranges_hold():
    """Curves with all kinds of powers and floors, measured on 1,000 texts and trained once."""
    rng = np.random.default_rng(5)
    held = []
    for _ in range(120):
        power, scale, floor = rng.uniform(0.15, 1.2), rng.uniform(0.05, 0.12), rng.uniform(0, 0.15)
        sizes = np.array([0.25, 0.5, 1.0])
        true = floor + scale * np.array([0.25, 0.5, 1.0, 2.0]) ** -power
        trained = true * (1 + rng.normal(0, 0.02, 4))
        noise = 0.3 * np.sqrt(trained[:3] * (1 - trained[:3]) / 1000)  # what texts do not have in common
        errors = trained[:3] + rng.normal(0, noise)
        found = next_gain(sizes, errors, errors + rng.normal(0, noise, (200, 3)), 0.02 * errors)
        assert not isinstance(found, str), found
        gain = trained[2] - trained[3]
        held.append((found[1] < gain < found[2], found[0] < gain < found[3]))
    likely, wide = np.mean(held, axis=0)
    assert 0.7 < likely < 0.95 and 0.9 < wide


def test_the_chart_shows_intervals_and_what_may_come():
    given = [replace(one, baseline=0.5) for one in points([0.5, 0.42, 0.37])]
    root = ElementTree.fromstring(curve_chart(learning_curve(given, ACCURACY)))
    letters = [element.text for element in root.iter("text")]
    assert {"950", "1,900", "3,800", "7,600", "training texts"} <= set(letters)
    assert len(root.findall(".//circle")) == 6 and len(root.findall(".//polygon")) == 1
    assert len([line for line in root.iter("line") if line.get("class") == "l0"]) == 3
    assert "extrapolated, at most 80 % sure: 0.6" in root.find("svg").get("aria-label")
    xs = [float(c.get("cx")) for c in root.findall(".//circle")][:3]
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.2), "doublings are equally far apart"
    bare = curve_chart(learning_curve(points([0.3, 0.28], (1900, 3800)), ACCURACY))
    assert "polygon" not in bare and "key" not in bare
