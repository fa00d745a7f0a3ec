"""Pictures are drawn for any number of classes, and for names that are no plain words."""

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from lit_ft.report import figures
from lit_ft.report.analysis import reliability


def texts_of(figure: Figure) -> list[str]:
    """What is written in a figure, as it is drawn."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("num_labels", [2, 5, 12, 13, 60])
def test_any_number_of_classes(num_labels):
    counts = np.random.default_rng(0).integers(0, 2000, (num_labels, num_labels))
    names = [f"class number {i}" for i in range(num_labels)]
    sums = {"rows": counts.sum(1), "predicted": counts.sum(0), "right": np.diag(counts)}
    evaluation = {"names": names, "confusion": counts.tolist(), "class_counts": sums}
    written = texts_of(figures.confusion_matrix(evaluation))
    shown = sum(f"{count:,}" in written for count in counts.ravel())
    assert shown == num_labels**2 if num_labels <= 12 else shown < 20
    assert any("class number" in text for text in written)
    figures.as_svg(figures.class_bars(evaluation))


def test_names_are_no_markup():
    names = ["$x^$", "<b>&</b>", "\u5f88\u597d", "a name that is much too long for an axis"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        figure = figures.confusion_matrix({"names": names, "confusion": np.eye(4, dtype=int).tolist()})
        written = texts_of(figure)
        svg = figures.as_svg(figure)
    assert {"$x^$", "<b>&</b>", "a name that i\u2026"} <= set(written)
    assert svg.startswith(b"<?xml") and b"<b>" not in svg


def test_the_same_figure_gives_the_same_bytes():
    points = {"training": [(i, 1 / (i + 1)) for i in range(50)]}
    one, other = (figures.as_svg(figures.curves(points, "Loss", "loss")) for _ in range(2))
    assert one == other and b"<script" not in one


def test_nine_lines_can_be_told_apart():
    """As many runs as a comparison may well have: none is left out."""
    points = {f"run {i}": [(0, i), (1, i)] for i in range(9)}
    (axes,) = figures.curves(points, "Loss", "loss").axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.get_lines()}) == 9


def test_one_row():
    bins = reliability(np.array([[0.7, 0.3]]), np.array([0]))
    assert len(bins) == 1
    evaluation = {"reliability": bins, "reliability_calibrated": bins}
    assert "Calibration error 0.300, 0.300 after scaling" in texts_of(figures.reliability_diagram(evaluation))
