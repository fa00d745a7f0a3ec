"""The pictures of TensorBoard and `report.html`, and `loss.png`. C classes.

They are 4 inches wide with letters to match, because TensorBoard shows them 330 pixels wide.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lit_ft.report.analysis import calibration_of, per_class

# Letters that matplotlib's font lacks show as boxes, in the pictures only.
warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
matplotlib.rcParams["text.parse_math"] = False  # a '$' in a class name starts no formula
matplotlib.rcParams["text.usetex"] = False  # even if the user's matplotlibrc asks for TeX

MOST_MARKED = 30  # points of a curve that get a marker each; more would run together
MOST_COUNTED = 12  # classes; beyond, a cell has no room for its count
MOST_NAMED = 30  # class names that an axis has room for
SIZE = (4.0, 3.3)  # inches
DPI = 150  # twice what TensorBoard shows, so that enlarged pictures stay sharp
BLUE, ORANGE, GREY = "#2563a8", "#d9730d", "#8a8f98"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "path",
}


# `analysis.summarise` of an evaluation, with the `names` of its classes (C,) and its `confusion` matrix,
# (C true, C predicted), which is None beyond `MOST_IN_MATRIX` classes.
Evaluation = Mapping[str, Any]


def _axes() -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    return figure, figure.subplots()


def _name_ticks(axis: Any, names: Sequence[str], **style: Any) -> None:
    """Class names along an axis, or every n-th one if there are too many."""
    step = -(-len(names) // MOST_NAMED)
    shown = [name if len(name) <= 14 else name[:13] + "\u2026" for name in names][::step]
    axis.set_ticks(range(0, len(names), step), shown, **style)


def confusion_matrix(evaluation: Evaluation) -> Figure | None:
    """The share of each true class, with counts in the cells; None if there are too many classes."""
    names, counts = evaluation["names"], evaluation["confusion"]
    if counts is None:
        return None
    with matplotlib.rc_context({**STYLE, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, axes = _axes()
        matrix = np.asarray(counts, dtype=np.float64)
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        if len(names) <= MOST_COUNTED:
            size = 9 if len(names) <= 6 else 6
            for (i, j), share in np.ndenumerate(shares):
                colour = "white" if share > 0.55 else "black"
                axes.text(j, i, f"{int(matrix[i, j]):,}", ha="center", va="center", color=colour, size=size)
        long = max(map(len, names)) > 6 and len(names) > 3
        _name_ticks(axes.xaxis, names, **({"rotation": 35, "ha": "right"} if long else {}))
        _name_ticks(axes.yaxis, names)
        axes.tick_params(length=0)
        axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
        bar = figure.colorbar(image, ax=axes, format=FuncFormatter(lambda x, _: f"{x:.0%}"), pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("share of the true class")
        return figure


def reliability_diagram(evaluation: Evaluation) -> Figure:
    """Accuracy over confidence, before and after temperature scaling, with the share of the rows below."""
    curves, title = calibration_of(evaluation)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], ":", color=GREY, linewidth=1, label="perfect")
        for (label, bins), colour, mark in zip(curves.items(), (BLUE, ORANGE), "os", strict=False):
            confidence = [entry["confidence"] for entry in bins]
            upper.plot(confidence, [entry["accuracy"] for entry in bins], mark + "-", color=colour,
                       markersize=4, label=label)  # fmt: skip
            total = max(sum(entry["count"] for entry in bins), 1)
            places = [(entry["low"] + entry["high"]) / 2 for entry in bins]
            width = [0.8 * (entry["high"] - entry["low"]) for entry in bins]
            shares = [entry["count"] / total for entry in bins]
            lower.bar(places, shares, width, color=colour, alpha=0.55)
        upper.set(ylabel="accuracy", ylim=(0, 1.02), xlim=(0, 1), title=title)
        upper.legend(frameon=False, loc="upper left", fontsize=8)
        lower.set(xlabel="confidence", ylabel="rows")
        lower.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.0%}"))
        lower.yaxis.set_major_locator(MaxNLocator(2))
        return figure


def class_bars(evaluation: Evaluation) -> Figure | None:
    """Precision, recall and F1 of each class; None if there are too many classes."""
    if evaluation["confusion"] is None:
        return None
    names, classes = evaluation["names"], per_class(evaluation["class_counts"])
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        places = np.arange(len(names))
        for offset, key, colour in ((-0.27, "precision", BLUE), (0, "recall", ORANGE), (0.27, "f1", GREY)):
            label = "F1" if key == "f1" else key
            axes.bar(places + offset, [entry[key] for entry in classes], 0.25, color=colour, label=label)
        long = max(map(len, names)) > 6 and len(names) > 3
        _name_ticks(axes.xaxis, names, **({"rotation": 35, "ha": "right"} if long else {}))
        axes.set(ylim=(0, 1), title="Precision, recall and F1 by class")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return figure


@dataclass(frozen=True)
class Chart:
    """A picture of one evaluation.

    Attributes:
        tag: In TensorBoard, after `val/` or `test/`.
        alt: What it shows, in words, for the report.
        draw: Returns None if there is nothing to draw.
        in_report: Whether the report has it, too.
    """

    tag: str
    alt: str
    draw: Callable[[Evaluation], Figure | None]
    in_report: bool = True


# To add a chart, write its function and add a row: TensorBoard and the report draw them all, in this order.
EVALUATION = (
    Chart("confusion_matrix", "confusion matrix", confusion_matrix),
    Chart("reliability", "reliability diagram", reliability_diagram),
    Chart("classes", "precision, recall and F1 by class", class_bars, in_report=False),
)


def token_lengths(histogram: dict[str, list[float]], max_tokens: int) -> Figure:
    """The lengths of the texts, and where they are cut.

    Args:
        histogram: `edges` (K + 1,) in tokens and `counts` (K,).
        max_tokens: Longer texts are cut to this length.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        edges, counts = np.asarray(histogram["edges"]), np.asarray(histogram["counts"])
        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=BLUE, alpha=0.75)
        axes.axvline(max_tokens, color=ORANGE, linewidth=2, label=f"max_tokens = {max_tokens}")
        axes.set(xlabel="tokens a text", ylabel="texts", title="Length of the training texts")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.legend(frameon=False)
        return figure


def curves(
    lines: dict[str, Sequence[tuple[float, float]]], title: str, ylabel: str, xlabel: str = "step"
) -> Figure:
    """Lines in one picture, given as label -> points (x, y)."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        for i, (label, points) in enumerate(lines.items()):
            colour, style = (BLUE, ORANGE, GREY)[i % 3], ("-", "--", ":")[(i + i // 3) % 3]  # nine pairs
            marker = "o" if len(points) <= MOST_MARKED else None
            xs, ys = [x for x, _ in points], [y for _, y in points]
            axes.plot(xs, ys, style, color=colour, marker=marker, markersize=3, label=label)
        axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        return figure


def as_svg(figure: Figure) -> bytes:
    """The figure as SVG with letters as outlines: it looks the same everywhere, and prints sharp."""
    buffer = io.BytesIO()
    # With a fixed salt the same figure gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "lit_ft"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def draw_losses(
    path: Path, train: Sequence[dict[str, float]], validation: Sequence[dict[str, float]]
) -> None:
    """Write `loss.png`: both losses over the epochs.

    Args:
        path: A .png file.
        train: Points with `epoch` (may be a fraction) and `loss`.
        validation: Points with `epoch` and `val/loss`.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained")
    axes = figure.subplots()
    for points, key, line, mark, label in (
        (train, "loss", "-", "o", "training"),
        (validation, "val/loss", "--", "s", "validation"),
    ):
        if points:
            marker = mark if len(points) <= MOST_MARKED else None
            epochs = [point["epoch"] for point in points]
            axes.plot(epochs, [point[key] for point in points], line, marker=marker, label=label)
    axes.set(title="Training loss", xlabel="Epoch", ylabel="Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(path)
