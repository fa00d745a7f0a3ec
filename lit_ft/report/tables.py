"""Tables in Markdown and plain text; numbers, shares and durations as text."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lit_ft.console import width
from lit_ft.errors import shorten


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table whose cells show exactly as they are."""
    lines = [heads, ["---"] * len(heads), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as one line of Markdown, with everything escaped that could be markup or HTML."""
    if isinstance(value, (int, float)):
        value = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
    text = " ".join(str(value).split())
    return re.sub(r"[^\w\s.,:;?%/'\"()-]|_", lambda found: f"&#{ord(found[0])};", text)


def number(value: Any, digits: int = 4) -> str:
    """A number for people: thousands separators for whole ones, else this many decimal places."""
    if value is None:
        return "\u2013"
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) >= 10 or isinstance(value, int) or digits == 0:
        return f"{round(value, 0) + 0.0:,.0f}"  # no -0
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # no -0.0000


def percent(share: float) -> str:
    """0.123 -> 12.3 %."""
    return f"{share:.1%}".replace("%", "\u2009%")


def duration(seconds: float | None) -> str:
    """Seconds in words: 3 h 5 min."""
    if seconds is None:
        return "\u2013"
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"


SHORTEST = 16  # letters that stay of a name in a narrow terminal


def aligned(
    rows: Sequence[Sequence[str]],
    left: Sequence[int] = (0,),
    indent: str = "",
    columns: int | None = None,
    keys: int = 1,
) -> list[str]:
    """Rows of cells as lines of plain text. A row may be short.

    If a line would be too long, the names (what is flush left) are shortened. If that is not enough, the
    table is continued below, with its key columns again.

    Args:
        rows: The first may be a header.
        left: The columns that are flush left.
        indent: Before each line.
        columns: The most letters of a line; by default those of the terminal, without limit in a file.
        keys: The first columns, which say what a row is.
    """
    columns = width() if columns is None else columns
    widths = [max(_cells(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    if columns is not None and (excess := _length(widths, indent) - columns) > 0:
        widths = _narrowed(widths, left, excess)
    lines: list[str] = []
    for shown in _parts(widths, indent, columns, keys):
        lines += [""] if lines else []
        for row in rows:
            cells = [_padded(row[i], widths[i], i in left) for i in shown if i < len(row)]
            lines.append(f"{indent}{'  '.join(cells)}".rstrip())
    return lines


def _cells(text: str) -> int:
    """The columns of a terminal that a text takes: a Chinese character takes two, an accent none."""
    if text.isascii():
        return len(text)
    marks = sum(unicodedata.category(c) in ("Mn", "Me", "Cf") for c in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


def _padded(text: str, size: int, left: bool) -> str:
    """The text in a cell of this size, shortened if it is a name."""
    shown, most = text, len(text)
    while left and _cells(shown) > size and most > 3:
        most -= 1
        shown = shorten(text, most)
    space = " " * (size - _cells(shown))
    return f"{shown}{space}" if left else f"{space}{shown}"


def _length(widths: Sequence[int], indent: str) -> int:
    """The length of a line."""
    return len(indent) + sum(widths) + 2 * (len(widths) - 1)


def _narrowed(widths: Sequence[int], left: Sequence[int], excess: int) -> list[int]:
    """The widths with less for the names, the widest first, until nothing is in excess."""
    found = list(widths)
    for i in sorted((i for i in left if i < len(widths)), key=lambda i: -widths[i]):
        less = min(excess, max(0, widths[i] - SHORTEST))
        found[i], excess = found[i] - less, excess - less
    return found


def _parts(widths: Sequence[int], indent: str, columns: int | None, keys: int) -> list[list[int]]:
    """The columns of each part of a table, which fit side by side; the keys are in all."""
    parts = [list(range(keys))]
    for i in range(keys, len(widths)):
        length = _length([widths[j] for j in (*parts[-1], i)], indent)
        if columns is not None and length > columns and len(parts[-1]) > keys:
            parts.append(list(range(keys)))
        parts[-1].append(i)
    return parts


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under their flags: `{"data": {"seed": 1}}` -> `{"data.seed": 1}`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


NUMBER_FACTS = {"mean": "mean", "deviation": "standard deviation", "low": "lowest", "high": "highest"}
MOST_LISTED = 50  # classes; more are only counted


def corpus_table(corpus: dict[str, Any], names: Sequence[str]) -> str:
    """A table of the facts of each split, in Markdown."""
    splits = list(corpus)
    lines: list[list[Any]] = []
    for key, what in (
        ("where", "source"), ("rows", "texts"), ("empty_rows", "skipped, empty"), ("tokens", "tokens"),
        ("mean", "mean tokens"), ("median", "median"), ("p95", "95th percentile"), ("max", "longest"),
        ("cut_rows", "texts cut"), ("cut_tokens", "tokens cut"), ("fingerprint", "fingerprint"),
    ):  # fmt: skip
        lines.append([what, *(corpus[split][key] for split in splits)])
    lines += class_rows(corpus, names)
    return table(("", *splits), lines)


def class_rows(corpus: dict[str, Any], names: Sequence[str]) -> list[list[Any]]:
    """The number of rows of each class in each split; after `MOST_LISTED` classes how many more there are.

    If the labels are numbers: their mean, standard deviation and range.
    """
    if all("numbers" in split for split in corpus.values()):
        return [
            [f"{name}: {what}", *(split["numbers"][key] for split in corpus.values())]
            for name in names
            for key, what in NUMBER_FACTS.items()
        ]
    shown = names[:MOST_LISTED]
    lines: list[list[Any]] = [
        [f"class {name}", *(split["class_counts"][c] for split in corpus.values())]
        for c, name in enumerate(shown)
    ]
    if len(names) > len(shown):
        lines.append([f"and {len(names) - len(shown):,} more classes", *([""] * len(corpus))])
    return lines


DECIDED = ("accuracy", "mae", "kappa")  # what is shown of each decision


def decision_rows(decisions: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A row for each decision of `analysis.side_by_side`: accuracy, MAE and kappa with intervals."""
    return [
        [how, *(f"{of[n]:.3f} ({of[f'{n}_low']:.3f} to {of[f'{n}_high']:.3f})" for n in DECIDED)]
        for how, of in decisions.items()
    ]
