"""Charts of the report as SVG within the page: their letters are text, their colours follow the page."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 320, 170
SIDE = 300  # the height of a chart whose axes are the same
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 34  # margins, for the letters of the axes
MOST_TICKS = 5
ROOM = 40  # between the letters below a chart
MARKED = 25  # points of a line that get a dot each; more would run together

Points = Sequence[tuple[float, float]]


def ticks(low: float, high: float, most: int = MOST_TICKS) -> list[float]:
    """At most `most` round numbers between two bounds: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A number of an axis, short: 1200 as 1.2k, 0.00005 as 5e-05."""
    if value == 0:
        return "0"
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:.3g}"


def y_axis(low: float, high: float, y_of: Callable[[float], float]) -> list[str]:
    """Lines across a chart, and their numbers at its left.

    Args:
        low: The lowest number of the axis.
        high: The highest.
        y_of: A number -> its place.
    """
    parts = []
    for y in ticks(low, high):
        at = f"{y_of(y):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y_of(y) + 3.5:.1f}" text-anchor="end">{tick_text(y)}</text>')
    return parts


def x_words(words: str, height: int = HEIGHT) -> str:
    """The words below a chart of this height."""
    middle = (LEFT + WIDTH - RIGHT) / 2
    return f'<text x="{middle}" y="{height - 5}" text-anchor="middle">{escape(words)}</text>'


def lines(
    drawn: Mapping[str, Points],
    title: str,
    xlabel: str,
    best: float | None = None,
    whole_numbers: bool = False,
) -> str:
    """Lines over a common axis as `<figure>`; every word is escaped.

    Args:
        drawn: Name of a line -> its points (x, y), of which one at least is finite.
        title: Above the chart.
        xlabel: Below it.
        best: Where a thin line marks the best point, if there is one.
        whole_numbers: Whether x counts something, such as epochs.
    """
    points = {name: [p for p in of if all(map(math.isfinite, p))] for name, of in drawn.items()}
    points = {name: of for name, of in points.items() if of}
    xs = [x for of in points.values() for x, _ in of]
    ys = [y for of in points.values() for _, y in of]
    if not xs:
        return ""
    low_x, high_x = (min(0.0, *xs), max(xs)) if whole_numbers else (min(xs), max(xs))
    low_y, high_y = min(ys), max(ys)
    pad = (high_y - low_y) * 0.06 or abs(high_y) * 0.1 or 1.0
    low_y, high_y = (max(low_y - pad, 0.0) if low_y >= 0 else low_y - pad), high_y + pad

    def x_of(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((x - low_x) / ((high_x - low_x) or 1.0))

    def y_of(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (y - low_y) / (high_y - low_y))

    parts = y_axis(low_y, high_y, y_of)
    marks = ticks(low_x, high_x)
    if whole_numbers:
        marks = [x for x in marks if float(x).is_integer()]
    for x in marks:
        parts.append(
            f'<text x="{x_of(x):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{tick_text(x)}</text>'
        )
    parts.append(x_words(xlabel))
    if best is not None:
        at = f"{x_of(best):.1f}"
        parts.append(f'<line class="best" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        side = "end" if best > (low_x + high_x) / 2 else "start"
        dx = -4 if side == "end" else 4
        parts.append(f'<text x="{x_of(best) + dx:.1f}" y="{TOP + 9}" text-anchor="{side}">best</text>')
    for number, of in enumerate(points.values()):
        where = [(f"{x_of(x):.1f}", f"{y_of(y):.1f}") for x, y in of]
        if len(of) > 1:
            parts.append(f'<polyline class="l{number}" points="{" ".join(map(",".join, where))}"/>')
        if len(of) <= MARKED:
            parts += [f'<circle class="p{number}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in where]
    told = "; ".join(f"{name} from {_short(of[0][1])} to {_short(of[-1][1])}" for name, of in points.items())
    keys = "".join(f'<span class="key k{i}">{escape(name)}</span>' for i, name in enumerate(points))
    return framed(title, f"{title}: {told}", parts, f"<p>{keys}</p>" if len(points) > 1 else "")


def bars(
    edges: Sequence[float], counts: Sequence[float], title: str, xlabel: str, mark: float, marked: str
) -> str:
    """A histogram as `<figure>`, with a line at `mark`.

    Args:
        edges: Of the bars, (K + 1,).
        counts: Their heights, (K,).
        title: Above the chart.
        xlabel: Below it.
        mark: Where a thin line stands, if it is within the edges.
        marked: What the line says.
    """
    low, high, most = edges[0], edges[-1], max(counts) or 1
    wide, tall = (WIDTH - LEFT - RIGHT) / ((high - low) or 1), HEIGHT - TOP - BOTTOM
    parts = y_axis(0, most, lambda y: TOP + tall * (1 - y / most))
    for left, right, count in zip(edges, edges[1:], counts, strict=False):
        height = tall * count / most
        parts.append(
            f'<rect class="p0" x="{LEFT + wide * (left - low):.1f}" y="{TOP + tall - height:.1f}" '
            f'width="{max(wide * (right - left) - 0.5, 0.5):.1f}" height="{height:.1f}"/>'
        )
    for x in ticks(low, high):
        at = LEFT + wide * (x - low)
        parts.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{tick_text(x)}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 5}" text-anchor="middle">{escape(xlabel)}</text>'
    )
    if low <= mark <= high:
        place = f"{LEFT + wide * (mark - low):.1f}"
        parts.append(f'<line class="best" x1="{place}" x2="{place}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{place}" y="{TOP + 9}" dx="-4" text-anchor="end">{escape(marked)}</text>')
    return framed(title, f"{title}: from {low:.0f} to {high:.0f}; {marked}", parts)


ROW, NAMES = 30, 84  # height of a row of dots; room for its name


def dots(
    rows: Mapping[str, Sequence[float]],
    title: str,
    xlabel: str,
    interval: tuple[float, float] | None = None,
    mark: float | None = None,
    marked: str = "",
) -> str:
    """Rows of dots over a common axis as `<figure>`: how far the same figure differs.

    Args:
        rows: Name of a row -> its values, of which one at least is finite.
        title: Above the chart.
        xlabel: Below it.
        interval: A bar through the first row.
        mark: Where a thin line stands, such as a baseline's figure.
        marked: What the line says.
    """
    known = {name: [x for x in values if math.isfinite(x)] for name, values in rows.items()}
    known = {name: values for name, values in known.items() if values}
    every = [x for values in known.values() for x in values] + list(interval or ())
    every += [] if mark is None else [mark]
    pad = (max(every) - min(every)) * 0.06 or abs(every[0]) * 0.05 or 1.0
    low, high, height = min(every) - pad, max(every) + pad, TOP + 10 + ROW * len(known) + BOTTOM

    def x_of(x: float) -> float:
        return NAMES + (WIDTH - NAMES - RIGHT) * (x - low) / (high - low)

    parts = []
    for x in ticks(low, high):
        at = f"{x_of(x):.1f}"
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP + 10}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text x="{at}" y="{height - BOTTOM + 14}" text-anchor="middle">{tick_text(x)}</text>')
    if mark is not None:
        at, end = f"{x_of(mark):.1f}", "end" if mark > (low + high) / 2 else "start"
        parts.append(f'<line class="best" x1="{at}" x2="{at}" y1="{TOP + 10}" y2="{height - BOTTOM}"/>')
        parts.append(f'<text x="{at}" y="{TOP + 5}" text-anchor="{end}">{escape(marked)}</text>')
    for number, (name, values) in enumerate(known.items()):
        y = TOP + 10 + ROW * (number + 0.5)
        parts.append(f'<text x="{NAMES - 6}" y="{y + 3.5:.1f}" text-anchor="end">{escape(name)}</text>')
        if interval is not None and number == 0:
            ends = f'x1="{x_of(interval[0]):.1f}" x2="{x_of(interval[1]):.1f}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="l0" stroke-width="3" {ends}/>')
        look = f'class="p{min(number, 5)}" r="{4 if number == 0 else 3}" opacity=".7"'
        parts += [f'<circle {look} cx="{x_of(x):.1f}" cy="{y:.1f}"/>' for x in values]
    # In the middle of all, as long words would not fit beside the names of the rows.
    parts.append(f'<text x="{WIDTH / 2}" y="{height - 5}" text-anchor="middle">{escape(xlabel)}</text>')
    told = "; ".join(
        f"{name} from {_short(min(values))} to {_short(max(values))}" for name, values in known.items()
    )
    return framed(title, f"{title}: {told}", parts, height=height)


def scatter(data: Mapping[str, Any], title: str, xlabel: str, ylabel: str) -> str:
    """Points beside the diagonal as `<figure>`; many are squares, the darker the more rows they hold.

    Args:
        data: From `regression.scatter_points`.
        title: Above the chart.
        xlabel: Below it.
        ylabel: Beside it.
    """
    low, high, bottom = data["low"], data["high"], SIDE - BOTTOM
    pad = (high - low) * 0.03 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad

    def x_of(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - low) / (high - low)

    def y_of(y: float) -> float:
        return bottom - (bottom - TOP) * (y - low) / (high - low)

    parts = y_axis(low, high, y_of)
    for at in ticks(low, high):
        x = f"{x_of(at):.1f}"
        parts.append(f'<text x="{x}" y="{bottom + 14}" text-anchor="middle">{tick_text(at)}</text>')
    for x, y in data.get("points", ()):
        parts.append(f'<circle class="p0" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="2.4" opacity=".45"/>')
    if squares := data.get("squares"):
        side, most = (data["high"] - data["low"]) / data["side"], max(count for *_, count in squares)
        wide, tall = x_of(side) - x_of(0), y_of(0) - y_of(side)
        for column, line, count in squares:
            left, top = x_of(data["low"] + column * side), y_of(data["low"] + (line + 1) * side)
            parts.append(
                f'<rect class="p0" x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" height="{tall:.1f}" '
                f'opacity="{0.12 + 0.88 * math.sqrt(count / most):.2f}"/>'
            )
    ends = f'x1="{x_of(low):.1f}" y1="{y_of(low):.1f}" x2="{x_of(high):.1f}" y2="{y_of(high):.1f}"'
    parts.append(f'<line class="best" {ends}/>')
    parts.append(x_words(xlabel, SIDE))
    turned = f'transform="rotate(-90)" x="{-(TOP + bottom) / 2}" y="10" text-anchor="middle"'
    parts.append(f"<text {turned}>{escape(ylabel)}</text>")
    told = f"{title}: both from {_short(data['low'])} to {_short(data['high'])}"
    return framed(title, told, parts, height=SIDE)


def growth(
    points: Sequence[tuple[float, float, float | None, float | None]],
    beside: Points,
    band: tuple[tuple[float, float], tuple[float, float, float]] | None,
    names: tuple[str, str, str],
    title: str,
    xlabel: str,
) -> str:
    """A figure over a number of texts, whose axis is logarithmic, as `<figure>`.

    Args:
        points: Number of texts, figure, and the ends of its interval, which may be unknown; one at least.
        beside: Number of texts and figure of something else, if there is any.
        band: The last point, and number of texts, low and high of what may come after it.
        names: Of the points, of what is beside them, and of the band.
        title: Above the chart.
        xlabel: Below it.
    """
    ends = [end for *_, low, high in points for end in (low, high) if end is not None]
    ys = [*(y for _, y, *_ in points), *ends, *(y for _, y in beside), *(band[1][1:] if band else ())]
    sizes = [x for x, *_ in points] + ([band[1][0]] if band else [])
    low_x, high_x, low_y, high_y = math.log(min(sizes)), math.log(max(sizes)), min(ys), max(ys)
    pad = (high_y - low_y) * 0.06 or abs(high_y) * 0.1 or 1.0
    low_y, high_y = low_y - pad, high_y + pad

    def x_of(x: float) -> float:  # room at both sides for the letters of the first and the last size
        return LEFT + 14 + (WIDTH - LEFT - RIGHT - 28) * (math.log(x) - low_x) / ((high_x - low_x) or 1.0)

    def y_of(y: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (y - low_y) / (high_y - low_y))

    parts = y_axis(low_y, high_y, y_of)
    left = math.inf
    for x in sorted(set(sizes), reverse=True):  # the largest matter most where there is no room for all
        if left - x_of(x) < ROOM:
            continue
        left = x_of(x)
        parts.append(f'<text x="{left:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{x:,.0f}</text>')
    parts.append(x_words(xlabel))
    shown, told = [0], [f"{names[0]} from {_short(points[0][1])} to {_short(points[-1][1])}"]
    if band:
        (x, y), (next_x, low, high) = band
        edge = f"{x_of(next_x):.1f},{y_of(low):.1f} {x_of(next_x):.1f},{y_of(high):.1f}"
        parts.append(f'<polygon class="p4" opacity=".3" points="{x_of(x):.1f},{y_of(y):.1f} {edge}"/>')
        told.append(f"{names[2]}: {_short(low)} to {_short(high)} with {next_x:,.0f} {xlabel}")
        shown.append(4)
    lines_of = {0: [(x, y) for x, y, *_ in points], 1: list(beside)}
    for number, of in lines_of.items():
        where = [(f"{x_of(x):.1f}", f"{y_of(y):.1f}") for x, y in of]
        if len(of) > 1:
            parts.append(f'<polyline class="l{number}" points="{" ".join(map(",".join, where))}"/>')
        parts += [f'<circle class="p{number}" cx="{x}" cy="{y}" r="2.6"/>' for x, y in where]
    for x, _, start, end in points:
        if start is not None and end is not None:
            at = f"{x_of(x):.1f}"
            parts.append(
                f'<line class="l0" x1="{at}" x2="{at}" y1="{y_of(start):.1f}" y2="{y_of(end):.1f}"/>'
            )
    if beside:
        told.append(f"{names[1]} from {_short(beside[0][1])} to {_short(beside[-1][1])}")
        shown.append(1)
    name_of = {0: names[0], 1: names[1], 4: names[2]}
    keys = "".join(f'<span class="key k{i}">{escape(name_of[i])}</span>' for i in shown)
    return framed(title, f"{title}: {'; '.join(told)}", parts, f"<p>{keys}</p>" if len(shown) > 1 else "")


def framed(title: str, told: str, parts: Sequence[str], below: str = "", height: int = HEIGHT) -> str:
    """The parts of a chart as `<figure>`, under a title; `told` says in words what they show."""
    svg = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(told)}">{"".join(parts)}</svg>'
    return f"<figure><figcaption>{escape(title)}</figcaption>{svg}{below}</figure>"


def _short(value: float) -> str:
    return f"{value:.3g}"
