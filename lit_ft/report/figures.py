"""The pictures of TensorBoard, and `loss.png`. C classes.

They are 4 inches wide with letters to match, because TensorBoard shows them 330 pixels wide.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lit_ft.report.analysis import calibration_of, per_class
from lit_ft.report.fonts import drawable

matplotlib.rcParams["text.parse_math"] = False  # a '$' in a class name starts no formula
matplotlib.rcParams["text.usetex"] = False  # even if the user's matplotlibrc asks for TeX

MOST_MARKED = 30  # points of a curve that get a marker each; more would run together
MOST_COUNTED = 12  # classes; beyond, a cell has no room for its count
MOST_NAMED = 30  # class names that an axis has room for; of more classes only the weakest are shown
MOST_WEAK = 15
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


def weakest(class_counts: Mapping[str, Sequence[int]], most: int) -> list[int]:
    """At most so many classes, those with the lowest F1 first; among equal ones the more frequent first.

    Args:
        class_counts: From `analysis.class_counts`. Classes without texts are left out: nothing is known of
            them.
        most: The number of classes.
    """
    classes = per_class({key: list(counts) for key, counts in class_counts.items()})
    known = [c for c, entry in enumerate(classes) if entry["rows"]]
    return sorted(known, key=lambda c: (classes[c]["f1"], -classes[c]["rows"]))[:most]


def _name_ticks(axis: Any, names: Sequence[str], most_letters: int = 14, **style: Any) -> None:
    """Class names along an axis; long ones lose their middle, as many differ only at the end."""
    half = most_letters // 2
    short = [
        n if len(n) <= most_letters else f"{n[: half - 1]}\u2026{n[half - most_letters :]}" for n in names
    ]
    axis.set_ticks(range(len(names)), short, **style)


def confusion_matrix(evaluation: Evaluation) -> Figure | None:
    """The share of each true class, with counts in the cells; None if there are too many classes.

    Beyond `MOST_NAMED` classes the weakest ones, with what they are taken for among each other and in all.
    """
    (names, families), counts = drawable(evaluation["names"]), evaluation["confusion"]
    if counts is None:
        return None
    title, given = "Confusion matrix", names
    if len(names) > MOST_NAMED:
        weak = weakest(evaluation["class_counts"], MOST_WEAK)
        title = f"The {len(weak)} weakest of {len(names)} classes"
        given, names = [*(names[c] for c in weak), "others"], [names[c] for c in weak]
        whole = np.asarray(counts)
        counts = np.column_stack([whole[np.ix_(weak, weak)], np.delete(whole[weak], weak, axis=1).sum(1)])
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
        style: dict[str, Any] = {"fontfamily": families, **({"size": 7} if len(names) > MOST_COUNTED else {})}
        _name_ticks(axes.xaxis, given, **style, **_slanted(given))
        _name_ticks(axes.yaxis, names, **style)
        axes.tick_params(length=0)
        axes.set(xlabel=f"predicted{_told(names)}", ylabel="true", title=title)
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


def _slanted(names: Sequence[str]) -> dict[str, Any]:
    """The style of names below an axis, where long ones would run together."""
    many = len(names) > MOST_COUNTED
    long = max(map(len, names)) > 6 and len(names) > 3
    return {"rotation": 60 if many else 35, "ha": "right", "rotation_mode": "anchor"} if long or many else {}


def _told(names: Sequence[str]) -> str:
    """What a label says if some names are numbers."""
    numbers = any(name.startswith("#") and name[1:].isdecimal() for name in names)
    return " (# = number of a class)" if numbers else ""


def class_bars(evaluation: Evaluation) -> Figure:
    """Precision, recall and F1 of each class, or of the `MOST_WEAK` weakest if there are more."""
    (names, families), classes = drawable(evaluation["names"]), per_class(evaluation["class_counts"])
    if len(names) > MOST_WEAK:
        return _weak_bars(evaluation, names, families)
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        places = np.arange(len(names))
        for offset, key, colour in ((-0.27, "precision", BLUE), (0, "recall", ORANGE), (0.27, "f1", GREY)):
            label = "F1" if key == "f1" else key
            axes.bar(places + offset, [entry[key] for entry in classes], 0.25, color=colour, label=label)
        _name_ticks(axes.xaxis, names, fontfamily=families, **_slanted(names))
        axes.set(ylim=(0, 1), xlabel=_told(names).strip(), title="Precision, recall and F1 by class")
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return figure


def _weak_bars(evaluation: Evaluation, names: Sequence[str], families: Sequence[str]) -> Figure:
    """The weakest classes one below the other, F1 as a bar, precision and recall as marks on it."""
    weak, classes = weakest(evaluation["class_counts"], MOST_WEAK), per_class(evaluation["class_counts"])
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        places = np.arange(len(weak))
        axes.barh(places, [classes[c]["f1"] for c in weak], 0.6, color=GREY, alpha=0.6, label="F1")
        for key, colour, mark in (("precision", BLUE, "o"), ("recall", ORANGE, "s")):
            values = [classes[c][key] for c in weak]
            axes.plot(values, places, mark, color=colour, markersize=4, label=key, clip_on=False)
        shown = [f"{names[c]} ({int(classes[c]['rows'])})" for c in weak]
        _name_ticks(axes.yaxis, shown, 22, fontfamily=list(families), size=7)
        axes.invert_yaxis()
        label = f"(texts in brackets){_told([names[c] for c in weak])}"
        axes.set(xlim=(0, 1), xlabel=label, title=f"The {len(weak)} weakest of {len(names)} classes")
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return figure


def scatter_figure(evaluation: Evaluation) -> Figure:
    """Predictions of numbers over the true ones, with the diagonal: `regression.scatter_points`."""
    data = evaluation["scatter"]
    (names, families), low, high = drawable(evaluation["names"]), data["low"], data["high"]
    pad = (high - low) * 0.03 or abs(high) * 0.1 or 1.0
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes()
        if squares := data.get("squares"):
            counts = np.zeros((data["side"], data["side"]))
            for column, line, count in squares:
                counts[line, column] = count
            shades = np.sqrt(np.ma.masked_equal(counts, 0))
            axes.imshow(
                shades, cmap="Blues", origin="lower", extent=(low, high, low, high), vmin=-1, aspect="auto"
            )
        elif data["points"]:
            axes.plot(*np.asarray(data["points"]).T, "o", color=BLUE, alpha=0.45, markersize=3)
        ends = (low - pad, high + pad)
        axes.plot(ends, ends, ":", color=GREY, linewidth=1)
        axes.set(xlim=ends, ylim=ends, title="Predicted and true numbers", ylabel="predicted")
        axes.set_xlabel(f"true {names[0]}", fontfamily=families)
        return figure


@dataclass(frozen=True)
class Chart:
    """A picture of one evaluation, for TensorBoard.

    Attributes:
        tag: In TensorBoard, after `val/` or `test/`.
        draw: Returns None if there is nothing to draw.
    """

    tag: str
    draw: Callable[[Evaluation], Figure | None]


# To add a chart, write its function and add a row. What the report draws is in charts.py.
EVALUATION = (
    Chart("confusion_matrix", confusion_matrix),
    Chart("reliability", reliability_diagram),
    Chart("classes", class_bars),
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
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
        return figure


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
