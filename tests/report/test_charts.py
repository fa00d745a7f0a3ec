"""The charts of the report: SVG whose words are data."""

import math
import xml.etree.ElementTree as ElementTree

import pytest

from lit_ft.report import charts

NASTY = '<b>&"'


def parsed(figure: str) -> ElementTree.Element:
    """A figure as XML; it is well-formed."""
    return ElementTree.fromstring(figure)


def texts(figure: str) -> list[str]:
    return [element.text or "" for element in parsed(figure).iter("text")]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.93, 1.07, [0.95, 1.0, 1.05]),
        (3, 3, [3]),
        (0, 5e-5, [0, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert charts.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1200, "1.2k"), (2e6, "2M"), (0.25, "0.25"), (5e-5, "5e-05"), (-3, "-3")]
)
def test_numbers_of_an_axis_are_short(value, text):
    assert charts.tick_text(value) == text


def test_lines_are_told_in_words_too():
    drawn = {"training": [(0.5, 2.0), (1, 1.0), (2, math.nan), (3, 0.5)], NASTY: [(1, 1.5), (3, 1.0)]}
    figure = charts.lines(drawn, f"Loss {NASTY}", "epoch", best=2, whole_numbers=True)
    root = parsed(figure)
    svg = root.find("svg")
    assert svg.get("aria-label") == f"Loss {NASTY}: training from 2 to 0.5; {NASTY} from 1.5 to 1"
    assert root.find("figcaption").text == f"Loss {NASTY}" and "best" in texts(figure)
    assert len(root.findall(".//polyline")) == 2 and "nan" not in figure
    assert {"0", "1", "2", "3", "epoch"} <= set(texts(figure)), "whole epochs, from 0"
    places = [float(x) for line in root.iter("polyline") for point in line.get("points").split()
              for x in point.split(",")]  # fmt: skip
    assert all(0 <= place <= charts.WIDTH for place in places)


def test_a_single_point_and_none():
    assert len(parsed(charts.lines({"a": [(10, 0.3)]}, "A", "step")).findall(".//circle")) == 1
    assert charts.lines({"a": [(1, math.inf)]}, "A", "step") == ""
    assert "polyline" in charts.lines({"a": [(1, 2.0), (2, 2.0)]}, "A", "step"), "a level line"


def test_bars_mark_the_cut():
    figure = charts.bars([0, 10, 20, 30], [5, 9, 1], "Length", "tokens", 25, "cut at 25")
    root = parsed(figure)
    heights = [float(rect.get("height")) for rect in root.iter("rect")]
    assert heights[1] == max(heights) and heights[0] / heights[1] == pytest.approx(5 / 9, abs=0.01)
    assert "cut at 25" in texts(figure)
    assert "cut at 99" not in texts(charts.bars([0, 10], [5], "Length", "tokens", 99, "cut at 99"))
