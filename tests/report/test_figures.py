"""Pictures are drawn for any number of classes, and for names that are no plain words."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from lit_ft.data.facts import length_facts
from lit_ft.report import figures, fonts
from lit_ft.report.analysis import reliability
from lit_ft.report.regression import scatter_points


def texts_of(figure: Figure) -> list[str]:
    """What is written in a figure, as it is drawn."""
    figure.canvas.draw()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


@pytest.mark.parametrize("num_labels", [2, 5, 12, 13, 60])
def test_any_number_of_classes(num_labels):
    counts = np.random.default_rng(0).integers(0, 2000, (num_labels, num_labels))
    names = [f"the class number {i}" for i in range(num_labels)]
    evaluation = {"names": names, "confusion": counts.tolist(), "class_counts": sums_of(counts)}
    written = texts_of(figures.confusion_matrix(evaluation))
    shown = sum(f"{count:,}" in written for count in counts.ravel())
    assert shown == num_labels**2 if num_labels <= 12 else shown < 20
    assert len([text for text in written if text.startswith("the cl\u2026")]) >= 2 * min(num_labels, 15)
    texts_of(figures.class_bars(evaluation))


def sums_of(counts: np.ndarray) -> dict[str, np.ndarray]:
    return {"rows": counts.sum(1), "predicted": counts.sum(0), "right": np.diag(counts)}


def forty_classes() -> dict:
    """Right are 10 of 20 texts of each class and one more for each number; class 7 has no text."""
    right = np.arange(10, 50)
    counts = np.diag(right)
    counts[np.arange(40), (np.arange(40) + 1) % 40] = 40
    counts[7] = 0
    names = [f"c{i}" for i in range(40)]
    return {"names": names, "confusion": counts.tolist(), "class_counts": sums_of(counts)}


def test_of_many_classes_the_weakest_are_shown():
    evaluation = forty_classes()
    assert figures.weakest(evaluation["class_counts"], 3) == [0, 1, 2]
    weak = [c for c in range(17) if c not in (7, 8)]  # for 8 nothing is mistaken: there is no 7
    assert sorted(figures.weakest(evaluation["class_counts"], 15)) == weak
    bars = figures.class_bars(evaluation)
    assert "The 15 weakest of 40 classes" in texts_of(bars)
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == [
        f"c{c} ({50 + c})" for c in weak
    ]
    figure = figures.confusion_matrix(evaluation)
    written = texts_of(figure)
    assert "others" in written and "The 15 weakest of 40 classes" in written
    shares = figure.axes[0].images[0].get_array()
    assert shares.shape == (15, 16) and np.allclose(shares.sum(1), 1)
    assert shares[weak.index(6), 15] == pytest.approx(40 / 56)  # taken for class 7, which is not shown
    assert shares[weak.index(9), weak.index(10)] == pytest.approx(40 / 59)
    many = {**evaluation, "confusion": None}  # beyond 100 classes no matrix is kept
    assert "The 15 weakest of 40 classes" in texts_of(figures.class_bars(many))
    assert figures.confusion_matrix(many) is None


UNWRITTEN = "\U00010600\U00010601"  # Linear A, which no usual font has


def test_a_name_that_no_font_has_is_a_number():
    names = ["fine", UNWRITTEN, "\u00fcberragend"]
    assert fonts.drawable(names) == (["fine", "#1", "\u00fcberragend"], ["DejaVu Sans"])
    counts = np.eye(3, dtype=int)
    evaluation = {"names": names, "confusion": counts.tolist(), "class_counts": sums_of(counts)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for draw in (figures.confusion_matrix, figures.class_bars):
            written = texts_of(draw(evaluation))
            assert {"fine", "#1", "\u00fcberragend"} <= set(written) and UNWRITTEN not in written
            assert any("(# = number of a class)" in text for text in written)
    assert not any("(# =" in text for text in texts_of(figures.class_bars({**evaluation, "names": "abc"})))


def test_another_font_that_has_the_letters_is_taken(monkeypatch):
    """A stand-in that has Chinese letters, and one that cannot be read."""
    entries = [
        SimpleNamespace(
            fname=f"/x/{n}.ttf",
            name=n,
            style="normal",
            variant="normal",
            weight=400,
            stretch="normal",
            size="scalable",
        )
        for n in ("Bad", "Han")
    ]
    real = fonts.font_manager.get_font

    def get_font(path):
        if path == "/x/Bad.ttf":
            raise RuntimeError("unknown file format")
        return SimpleNamespace(get_charmap=lambda: {0x5F88: 1, 0x597D: 2}) if "/x/" in path else real(path)

    for cached in (fonts._installed, fonts._families_for, fonts._letters):
        cached.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(fonts.font_manager.fontManager, "ttflist", entries)
        patch.setattr(fonts.font_manager, "get_font", get_font)
        assert fonts.drawable(["\u5f88\u597d", "a", "\u5f88\u574f"]) == (
            ["\u5f88\u597d", "a", "#2"],
            ["DejaVu Sans", "Han"],
        )
    for cached in (fonts._installed, fonts._families_for, fonts._letters):
        cached.cache_clear()


def test_letters_that_join_need_a_matplotlib_that_joins_them(monkeypatch):
    names = ["\u0645\u0631\u062d\u0628\u0627", "\u05e9\u05dc\u05d5\u05dd", "a\u0308", "z"]
    monkeypatch.setattr(fonts, "JOINS_LETTERS", False)
    assert fonts.drawable(names)[0] == ["#0", "#1", "a\u0308", "z"]
    monkeypatch.setattr(fonts, "JOINS_LETTERS", True)
    assert fonts.drawable(names)[0] == names  # DejaVu Sans has them


def test_lengths_have_bars_of_whole_tokens():
    drawn = np.random.default_rng(0).gamma(2, 60, 3000).astype(np.int64) + 2
    for full in (drawn, np.array([1]), np.arange(1, 51), np.array([3] * 40 + [500])):
        histogram = length_facts(full, full)["histogram"]
        edges, counts = histogram["edges"], histogram["counts"]
        assert all(isinstance(edge, int) for edge in edges) and len(set(np.diff(edges))) == 1
        assert len(counts) == len(edges) - 1 <= 50 and sum(counts) == len(full)
        for low, high, count in list(zip(edges, edges[1:], counts, strict=False))[:-1]:
            assert count == ((full >= low) & (full < high)).sum()
    axis = figures.token_lengths(length_facts(drawn, drawn)["histogram"], 512).axes[0].xaxis
    assert all(float(tick).is_integer() for tick in axis.get_ticklocs())


def test_names_are_no_markup():
    names = ["$x^$", "<b>&</b>", "\u5f88\u597d", "a name that is much too long for an axis"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.confusion_matrix({"names": names, "confusion": np.eye(4, dtype=int).tolist()})
        written = texts_of(figure)
    assert {"$x^$", "<b>&</b>", "a name\u2026an axis"} <= set(written)


def test_one_row():
    bins = reliability(np.array([[0.7, 0.3]]), np.array([0]))
    assert len(bins) == 1
    evaluation = {"reliability": bins, "reliability_calibrated": bins}
    assert "Calibration error 0.300, 0.300 after scaling" in texts_of(figures.reliability_diagram(evaluation))


@pytest.mark.parametrize("rows", [50, 5_000])
def test_a_scatter_of_numbers(rows, tmp_path):
    labels = np.random.default_rng(0).normal(size=rows) * 20 + 50
    data = {"scatter": scatter_points(labels, labels + 5), "names": ["$price"]}
    figure = figures.scatter_figure(data)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "true $price" and axes.get_ylabel() == "predicted"
    assert len(axes.lines) == (2 if rows == 50 else 1) and len(axes.images) == (rows > 50)
    assert axes.get_xlim() == axes.get_ylim()
    figure.savefig(tmp_path / "scatter.png")
