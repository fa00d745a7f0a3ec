"""Charts of trials: single points of several kinds over a number, a logarithm or a choice."""

import math
from collections.abc import Sequence
from html import escape

from lit_ft.errors import shorten
from lit_ft.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    framed,
    tick_text,
    ticks,
    x_words,
    y_axis,
)

MOST_NAMES = 8  # on an axis of names; more would run into each other
LETTERS_OF_NAME = 9
# How single points look: class of the colour, and the shape as SVG around (0, 0).
SHAPES = {
    "dot": '<circle class="p0" r="3" transform="translate({x},{y})"/>',
    "triangle": '<path class="p1" d="M0 -3.6L3.4 2.6H-3.4Z" transform="translate({x},{y})"/>',
    "cross": '<path class="l3" d="M-3 -3L3 3M-3 3L3 -3" stroke-width="1.6" transform="translate({x},{y})"/>',
    "ring": '<circle class="best" r="6" fill="none" transform="translate({x},{y})"/>',
}


def trial_chart(
    points: Sequence[tuple[float, float | None, str]],
    title: str,
    xlabel: str,
    names: Sequence[str] = (),
    log: bool = False,
    higher_is_better: bool = True,
) -> str:
    """Single points as `<figure>`; every word is escaped.

    Points that are far worse than the others stand at the edge, or they would press those into one line.

    Args:
        points: x, y and a shape of `SHAPES`; y is None for what has no figure, which stands at the edge.
        title: Above the chart.
        xlabel: Below it.
        names: If x is a choice: its names, and x is a place among them.
        log: Whether x is shown on a logarithmic axis.
        higher_is_better: Which edge is the worse one.
    """
    ys = [y for _, y, _ in points if y is not None and math.isfinite(y)]
    if not ys:
        return ""
    low_y, high_y = _without_outliers(ys, higher_is_better)
    pad = (high_y - low_y) * 0.08 or abs(high_y) * 0.1 or 1.0
    low_y, high_y = low_y - pad, high_y + pad
    xs = [math.log10(x) if log else float(x) for x, _, _ in points]
    low_x, high_x = (-0.5, len(names) - 0.5) if names else (min(xs), max(xs))
    room = 0 if names else (high_x - low_x) * 0.04 or 0.5
    low_x, high_x = low_x - room, high_x + room

    def x_of(x: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (x - low_x) / (high_x - low_x):.1f}"

    def y_of(y: float) -> float:
        share = min(max((y - low_y) / (high_y - low_y), 0.0), 1.0)
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)

    parts = y_axis(low_y, high_y, y_of)
    whole = all(x == round(x) for x, _, _ in points)
    for x, text in _marks(low_x, high_x, names, log, whole):
        last = not names and x > high_x - (high_x - low_x) / 12  # its letters would be cut off
        below = f'y="{HEIGHT - BOTTOM + 14}" text-anchor="{"end" if last else "middle"}"'
        parts.append(f'<text x="{x_of(x)}" {below}>{escape(text)}</text>')
    parts.append(x_words(xlabel))
    worst = low_y if higher_is_better else high_y
    for x, (_, value, shape) in zip(xs, points, strict=True):
        at = worst if value is None or not math.isfinite(value) else value
        parts.append(SHAPES[shape].format(x=x_of(x), y=f"{y_of(at):.1f}"))
    told = f"{title}: {len(points)} points, from {min(ys):.3g} to {max(ys):.3g}"
    return framed(title, told, parts)


def _without_outliers(ys: Sequence[float], higher_is_better: bool) -> tuple[float, float]:
    """The lowest and highest value, without those that are far worse than the rest (Tukey's outer fence)."""
    ordered = sorted(ys)
    if len(ordered) < 5:
        return ordered[0], ordered[-1]
    first, third = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    fence = 3 * (third - first)
    if higher_is_better:
        return min(y for y in ordered if y >= first - fence), ordered[-1]
    return ordered[0], max(y for y in ordered if y <= third + fence)


def _marks(low: float, high: float, names: Sequence[str], log: bool, whole: bool) -> list[tuple[float, str]]:
    """Where an axis has its texts, and these; of whole numbers none between two of them."""
    if names:
        every = -(-len(names) // MOST_NAMES)
        return [(i, shorten(name, LETTERS_OF_NAME)) for i, name in enumerate(names) if i % every == 0]
    if not log:
        return [(x, tick_text(x)) for x in ticks(low, high) if not whole or x == round(x)]
    for factors in ((1,), (1, 3), (1, 2, 5)):
        powers = range(math.floor(low), math.ceil(high) + 1)
        found = [math.log10(f) + p for p in powers for f in factors if low <= math.log10(f) + p <= high]
        if len(found) >= 3:
            break
    return [(x, tick_text(float(f"{10**x:.3g}"))) for x in found]
