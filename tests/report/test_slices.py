"""Slices: which rows, how they differ from the rest, and what is said of them. Whatever the labels are."""

from statistics import NormalDist

import numpy as np
import pytest

from lit_ft.report.scores import CLASSIFIER
from lit_ft.report.slices import (
    lines_of_slices,
    measure_slices,
    part_and_rest,
    rows_of_slices,
    slice_tables,
    slice_tags,
    told_of_slices,
)


def measured(good: np.ndarray, measure: str = "accuracy", **columns: list) -> dict:
    """A summary with slices whose only figure is the mean of `good`."""
    coded = {}
    for name, values in columns.items():
        names = list(dict.fromkeys(value for value in values if value is not None))
        coded[name] = names, np.array([-1 if value is None else names.index(value) for value in values])

    def figures(rows: np.ndarray) -> dict[str, tuple[float, float, float]]:
        return {measure: (good[rows].mean(), good[rows].min(), good[rows].max())}

    return {"rows": len(good), "slices": measure_slices(coded, figures, good, measure, [measure])}


def told(summary: dict) -> str | None:
    found = told_of_slices(summary, "<{}>".format)
    return found and found[0]


def test_the_lowest_and_the_highest_slice_in_a_line():
    good = np.r_[np.ones(45, bool), np.zeros(15, bool), np.ones(35, bool)]
    language = ["de"] * 60 + ["en"] * 35
    few = [f"v{i % 10}" for i in range(60)] + ["v"] * 35
    assert lines_of_slices(measured(good, language=language, few=few)) == [
        "  by language: accuracy 0.75 (de) to 1 (en)",
        "  by few: 11 slices, one of 30 texts or more",
    ]
    assert lines_of_slices(measured(good, same=["v"] * 95)) == ["  by same: one slice, of 95 texts"]
    assert lines_of_slices({"rows": 9}) == []


def test_the_most_frequent_values_others_and_none():
    names = [f"v{i}" for i in range(30)]
    codes = np.r_[np.repeat(np.arange(30), np.arange(30, 0, -1)), [-1] * 4]
    found = rows_of_slices(names, codes)
    assert list(found)[:3] == ["v0", "v1", "v2"] and list(found)[20:] == ["others (10 values)", "(none)"]
    assert [len(found[name]) for name in ("v0", "others (10 values)", "(none)")] == [30, 55, 4]
    assert np.array_equal(np.sort(np.concatenate(list(found.values()))), np.arange(len(codes)))
    assert (
        list(rows_of_slices(names[:21], codes[(0 <= codes) & (codes < 21)])) == names[:21]
    )  # one is not worth "others"
    long = rows_of_slices(["x" * 80 + "a", "x" * 80 + "b", "a\nb"], np.array([0, 1, 2, 0]))
    assert list(long) == ["x" * 57 + "...", "x" * 57 + "... (2)", "a b"]


def test_a_difference_and_its_interval():
    """By hand: 12 of 40 against 48 of 60, with one more of both answers on each side."""
    part, rest = np.arange(40) < 12, np.arange(60) < 48
    value, low, high = part_and_rest(part, rest, 1.96)
    p, q = 13 / 42, 49 / 62
    half = 1.96 * (p * (1 - p) / 42 + q * (1 - q) / 62) ** 0.5
    assert (value, low, high) == pytest.approx((0.3 - 0.8, p - q - half, p - q + half))
    assert part_and_rest(np.ones(5, bool), np.ones(5, bool), 1.96)[1] < 0  # five texts say little
    part, rest = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0])
    half = 2 * (part.var(ddof=1) / 3 + rest.var(ddof=1) / 2) ** 0.5
    assert part_and_rest(part, rest, 2) == pytest.approx(
        [7 / 3 - 0.5, 7 / 3 - 0.5 - half, 7 / 3 - 0.5 + half]
    )


def test_each_interval_is_wider_the_more_slices_are_compared():
    good = np.arange(400) % 5 > 0
    two = measured(good, by=["a"] * 200 + ["b"] * 200)["slices"]
    many = measured(good, by=[f"{i % 10}" for i in range(400)])["slices"]
    assert (two["compared"], many["compared"]) == (2, 10)
    for found, wanted in ((two, 1 - 0.05 / 4), (many, 1 - 0.05 / 20)):
        for entry in found["columns"]["by"]:
            inside, outside = entry["rows"], 400 - entry["rows"]
            value, low, high = entry["difference"]
            right = round(inside * entry["scores"]["accuracy"][0])
            p, q = (right + 1) / (inside + 2), (320 - right + 1) / (outside + 2)
            half = (p * (1 - p) / (inside + 2) + q * (1 - q) / (outside + 2)) ** 0.5
            assert (high - low) / 2 == pytest.approx(NormalDist().inv_cdf(wanted) * half)


def test_what_is_clearly_below_the_rest_is_said():
    good = np.r_[np.arange(300) % 10 > 0, np.arange(60) % 2 > 0]  # 90 % and 50 %
    summary = measured(good, language=["en"] * 300 + ["de"] * 60)
    assert told(summary) == (
        "Clearly worse than the rest: language <de> (60 texts): 50.0\u2009% right, of the others "
        "90.0\u2009% (lower by 25.0 to 54.5 points) (95\u2009% intervals for all 2 slices together)."
    )
    (table,) = slice_tables(summary, CLASSIFIER)
    assert [(row["value"], row["below"], row["few"]) for row in table["slices"]] == [
        ("en", False, False), ("de", True, False),
    ]  # fmt: skip
    assert slice_tags("test", summary)["test/slice/language=de/accuracy"] == 0.5


@pytest.mark.parametrize(
    "good, values",
    [
        (np.arange(300) % 10 > 0, ["en"] * 240 + ["de"] * 60),  # equally good
        (np.r_[np.ones(300, bool), np.zeros(20, bool)], ["en"] * 300 + ["de"] * 20),  # too few to say
        (np.arange(300) % 10 > 0, ["en"] * 300),  # nothing to compare with
    ],
)
def test_what_is_not_said(good, values):
    assert told(measured(good, language=values)) is None
    assert (
        told({"rows": 3}) is None
        and slice_tables({"rows": 3}, CLASSIFIER) == []
        and slice_tags("val", {}) == {}
    )


def test_chance_is_rarely_said():
    """Of 100 evaluations with ten equal slices about 2.5 name one."""
    draw = np.random.default_rng(0)
    values = [f"{i % 10}" for i in range(1000)]
    assert sum(told(measured(draw.random(1000) < 0.8, by=values)) is not None for _ in range(100)) <= 7


def test_another_kind_of_figure():
    """Of a regression the errors are compared, in the units of the labels."""
    draw = np.random.default_rng(0)
    errors = np.r_[draw.normal(0.5, 0.1, 200), draw.normal(0.9, 0.1, 50)]
    text = told(measured(-errors, "mae", channel=["web"] * 200 + ["app"] * 50))
    assert text and "channel <app> (50 texts): mae worse by 0.389 (0.348 to 0.431)" in text
