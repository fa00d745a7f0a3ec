"""The figures of parts of an evaluation: the rows of each value of a column, and how they differ from others.

Whatever the labels are: the caller says what the figures of some rows are. N rows of the evaluation.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from lit_ft.errors import one_line, shorten
from lit_ft.report.intervals import LEVEL
from lit_ft.report.scores import Score
from lit_ft.report.tables import percent

MOST_SLICES = 20  # of a column: the most frequent values; the rest are "others"
FEW_TEXTS = 30  # of a slice: fewer are marked, and not compared with the rest
MOST_LETTERS = 60  # of a value
MOST_NAMED = 3  # in a sentence
OTHERS, NONE = "others", "(none)"

# The rows (M,) of a slice -> figure -> its value and the ends of its 95 % interval
Figures = Callable[[np.ndarray], Mapping[str, tuple[float, float, float]]]


def rows_of_slices(names: list[str], codes: np.ndarray) -> dict[str, np.ndarray]:
    """Value -> its rows, the most frequent first; "others" and "(none)" last.

    Args:
        names: The values.
        codes: The value of each row, (N,) int64 in `names`; -1 without one.
    """
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    order = [int(c) for c in np.argsort(-counts, kind="stable") if counts[c]]
    shown, rest = (order, []) if len(order) <= MOST_SLICES + 1 else (order[:MOST_SLICES], order[MOST_SLICES:])
    found: dict[str, np.ndarray] = {}

    def add(name: str, rows: np.ndarray) -> None:
        if len(rows):
            found[_unlike(name, found)] = rows

    for code in shown:
        add(shorten(one_line(names[code]), MOST_LETTERS), np.flatnonzero(codes == code))
    add(f"{OTHERS} ({len(rest):,} values)", np.flatnonzero(np.isin(codes, rest)))
    add(NONE, np.flatnonzero(codes < 0))
    return found


def _unlike(name: str, taken: Mapping[str, Any]) -> str:
    """The name, with a number if another value is called the same after it was shortened."""
    shown, number = name, 2
    while shown in taken:
        shown, number = f"{name} ({number})", number + 1
    return shown


def measure_slices(
    columns: Mapping[str, tuple[list[str], np.ndarray]],
    figures: Figures,
    good: np.ndarray,
    measure: str,
    headline: list[str],
) -> dict[str, Any]:
    """The figures of each slice, and its difference from the rest, as plain values.

    Args:
        columns: Column -> its values and the value of each row, as in `rows_of_slices`.
        figures: What the figures of some rows are.
        good: How well each row is answered, (N,): right or not (bool), or any number of which more is better.
            Its mean is compared with that of the rest.
        measure: The name of that mean, such as `accuracy`.
        headline: The figures that the report's table shows, the first as a bar.

    Returns:
        `columns`: column -> slices, each with its `value`, `rows`, `scores` (figure -> value, low, high) and
        `difference` from the rest (value, low, high; None if it was not compared). The interval is one of
        95 % for all comparisons together, `compared` of them (Bonferroni).
    """
    slices = {column: rows_of_slices(*values) for column, values in columns.items()}
    large = [rows for found in slices.values() for rows in found.values() if _comparable(rows, good)]
    quantile = NormalDist().inv_cdf(1 - (1 - LEVEL) / (2 * max(len(large), 1)))

    def entry(value: str, rows: np.ndarray) -> dict[str, Any]:
        inside = np.zeros(len(good), bool)
        inside[rows] = True
        compared = part_and_rest(good[inside], good[~inside], quantile) if _comparable(rows, good) else None
        scores = {name: list(map(float, ends)) for name, ends in figures(rows).items()}
        return {"value": value, "rows": len(rows), "scores": scores, "difference": compared}

    return {
        "measure": measure,
        "headline": headline,
        "compared": len(large),
        "columns": {
            column: [entry(value, rows) for value, rows in found.items()] for column, found in slices.items()
        },
    }


def _comparable(rows: np.ndarray, good: np.ndarray) -> bool:
    """Whether a slice and the rest both have enough texts."""
    return min(len(rows), len(good) - len(rows)) >= FEW_TEXTS


def part_and_rest(part: np.ndarray, rest: np.ndarray, quantile: float) -> list[float]:
    """The mean of some rows minus that of others, and the ends of its interval (normal approximation).

    Of answers that are right or not, each side gets one more of both, so that no interval is empty (Agresti
    and Caffo 2000, "Simple and effective confidence intervals for proportions and differences of
    proportions").

    Args:
        part: (M,) bool or float.
        rest: Likewise.
        quantile: Of the normal distribution: 1.96 for 95 %.
    """
    value = float(part.mean() - rest.mean())
    if part.dtype == bool:
        part, rest = (np.append(side, [True, False]) for side in (part, rest))
        spread = sum(side.mean() * (1 - side.mean()) / len(side) for side in (part, rest))
    else:
        spread = sum(side.var(ddof=1) / len(side) for side in (part, rest))
    middle, half = float(part.mean() - rest.mean()), quantile * float(spread) ** 0.5
    return [value, middle - half, middle + half]


def slice_tags(prefix: str, summary: Mapping[str, Any]) -> dict[str, float]:
    """`test/slice/language=de/accuracy`, with `_low` and `_high`, and `.../rows`."""
    tags: dict[str, float] = {}
    for column, found in summary.get("slices", {}).get("columns", {}).items():
        for entry in found:
            start = f"{prefix}/slice/{column}={entry['value']}/"
            tags[f"{start}rows"] = entry["rows"]
            for name, (value, low, high) in entry["scores"].items():
                tags |= {f"{start}{name}": value, f"{start}{name}_low": low, f"{start}{name}_high": high}
    return tags


def of_slices(prefix: str) -> Callable[[str], bool]:
    """Whether a tag is of a slice of this evaluation: those of earlier columns are not kept."""
    return lambda tag: tag.startswith(f"{prefix}/slice/")


def lines_of_slices(summary: Mapping[str, Any]) -> list[str]:
    """For a terminal: of each column the slices with the lowest and the highest first figure."""
    lines = []
    found = summary.get("slices") or {"columns": {}}
    for column, entries in found["columns"].items():
        name = found["headline"][0]
        ends = sorted((e["scores"][name][0], e["value"]) for e in entries if e["rows"] >= FEW_TEXTS)
        line = f"  by {shorten(one_line(column), 30)}: "
        if len(ends) < 2:
            count = (
                f"{len(entries):,} slices, {'one' if ends else 'none'} of" if entries[1:] else "one slice, of"
            )
            rows = f"{FEW_TEXTS} texts or more" if entries[1:] else f"{entries[0]['rows']:,} texts"
            lines.append(f"{line}{count} {rows}")
            continue
        low, high = (f"{value:.3g} ({shorten(who, 20)})" for value, who in (ends[0], ends[-1]))
        lines.append(f"{line}{name} {low} to {high}")
    return lines


def told_of_slices(summary: Mapping[str, Any], quoted: Callable[[str], str]) -> tuple[str, str] | None:
    """A sentence on the slices that are clearly below the rest, and what to do; None without any.

    Args:
        summary: Of the evaluation.
        quoted: Puts a value into quotation marks.
    """
    found = summary.get("slices") or {"columns": {}}
    below = [
        (entry["difference"], column, entry)
        for column, entries in found["columns"].items()
        for entry in entries
        if entry["difference"] is not None and entry["difference"][2] < 0
    ]
    if not below:
        return None
    below.sort(key=lambda one: one[0][0])
    told = [_told(ends, column, entry, found, quoted) for ends, column, entry in below[:MOST_NAMED]]
    more = f"; and {len(below) - len(told)} more below" if len(below) > len(told) else ""
    together = f" (95\u2009% intervals for all {found['compared']} slices together)"
    return (
        f"Clearly worse than the rest: {'; '.join(told)}{more}{together if found['compared'] > 1 else ''}.",
        "Look at their mistakes; more training texts of this kind may help.",
    )


def _told(
    ends: list[float],
    column: str,
    entry: Mapping[str, Any],
    found: Mapping[str, Any],
    quoted: Callable[[str], str],
) -> str:
    """One slice: who, how many texts, and how far below the rest."""
    who = f"{one_line(column)} {quoted(entry['value'])} ({entry['rows']:,} texts)"
    value, low, high = ends
    if found["measure"] != "accuracy":
        span = f"{-high:.3g} to {-low:.3g}"
        return f"{who}: {found['measure']} worse by {-value:.3g} ({span})"
    inside = entry["scores"]["accuracy"][0]
    span = f"{-100 * high:.1f} to {-100 * low:.1f} points"
    return f"{who}: {percent(inside)} right, of the others {percent(inside - value)} (lower by {span})"


def slice_tables(summary: Mapping[str, Any], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """What the report shows: a table for each column, with the headline figures of each slice.

    Args:
        summary: Of the evaluation.
        scores: Those of this kind of report.
    """
    found = summary.get("slices")
    if not found:
        return []
    known = {score.name: score for score in scores}
    heads = [name for name in found["headline"] if name in known]
    return [
        {
            "column": column,
            "heads": [known[name] for name in heads],
            "slices": [
                {
                    **entry,
                    "few": entry["rows"] < FEW_TEXTS,
                    "below": entry["difference"] is not None and entry["difference"][2] < 0,
                    "shown": [entry["scores"].get(name) for name in heads],
                }
                for entry in entries
            ],
        }
        for column, entries in found["columns"].items()
    ]
