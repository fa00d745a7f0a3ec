"""Findings about the labels of training: names that look the same, stand-ins for no label, gaps.

Those that make the classes wrong are `unsound`: `check --strict` exits with 1. The rest may be intended.
N rows.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from lit_ft.data.label_column import (
    NUMBER,
    LabelColumn,
    holds_codes,
    holds_versions,
    is_stand_in,
    shown_label,
    whole_number,
)
from lit_ft.data.label_names import look_alikes, spelled
from lit_ft.data.labels import LabelMapping
from lit_ft.errors import rows_in_words
from lit_ft.tasks import MULTI_LABEL

AS_NAMES = "--data.label_type=names"
AS_NUMBERS = "--data.label_type=numbers"
AS_SEVERAL = f"--data.task={MULTI_LABEL.name}"
MOST_ROWS = 100  # of a finding in JSON
MOST_LINES = 5  # of look-alikes
MOST_STEPS = 20  # numeric classes; more are probably a measurement or ids
MOST_NAMED = 5  # labels in a line
SEPARATORS = (";", "|", ",", "><", "、", "،", "，", "；", "/", "+", "&", "\n", "\t")


@dataclass(frozen=True)
class LabelFinding:
    """One line about the labels, and the rows that it is about."""

    kind: Literal["look-alike", "stand-in", "header", "joined", "many", "gap", "written", "sets", "constant"]
    line: str
    rows: list[int]  # 1-based in the file or Hub split, the first MOST_ROWS
    unsound: bool  # whether it makes the classes wrong
    warns: bool = True  # whether it is probably a mistake


def findings(
    column: LabelColumn,
    mapping: LabelMapping,
    texts: pa.ChunkedArray,
    other_columns: Sequence[str] = (),
) -> list[LabelFinding]:
    """The findings about the labels of training.

    Args:
        column: The labels, none missing.
        mapping: The classes made from them.
        texts: The texts of the same rows, (N,).
        other_columns: Names of the file's other columns, which a repeated header holds, too.
    """
    headers = _headers(column, texts, other_columns) if not mapping.declared else []
    found = [*headers]
    if not mapping.declared:
        found += _stand_ins(column)
    names = not isinstance(mapping.values[0], int)
    if names or mapping.declared:
        found += _alike(column, mapping)
    if names:
        found += [*_joined(column), *_written_as_names(column)]
    elif not mapping.declared:
        found += _written_twice(column)
        found += _gaps(column, mapping)
    return [*found, *_without_rows(column, mapping), *_many(column, mapping)]


def _finding(
    kind: str, line: str, rows: Sequence[int] | np.ndarray = (), unsound: bool = False, warns: bool = True
) -> LabelFinding:
    return LabelFinding(kind, f"labels: {line}", [int(row) for row in rows[:MOST_ROWS]], unsound, warns)  # type: ignore[arg-type]


def _headers(column: LabelColumn, texts: pa.ChunkedArray, others: Sequence[str]) -> list[LabelFinding]:
    known = {name.casefold() for name in others}
    found = []
    for place, text in enumerate(column.texts):
        if not column.is_own_name(place) and text.casefold() not in known:
            continue
        at = np.flatnonzero(column.index == place)
        rows = column.rows[at]
        header = str(texts[int(at[0])].as_py()).strip().casefold() in known | {column.name.casefold()}
        if header:
            line = f"repeated header in {rows_in_words(rows)}, with the label {text!r}; remove it"
        elif column.is_own_name(place):
            line = f"{text!r} in {rows_in_words(rows)} is the column's name: a repeated header?"
        else:
            continue
        found.append(_finding("header", line, rows, unsound=True))
    return found


def _stand_ins(column: LabelColumn) -> list[LabelFinding]:
    found = []
    for place, text in enumerate(column.texts):
        if isinstance(column.values[place], str) and is_stand_in(text, column.texts):
            rows = column.rows_of([place])
            line = f"{text!r} in {rows_in_words(rows)} often means a missing label, but is a class here"
            found.append(_finding("stand-in", f"{line}; remove the rows if it does", rows, unsound=True))
    return found


def _alike(column: LabelColumn, mapping: LabelMapping) -> list[LabelFinding]:
    names = list(map(str, mapping.declared or mapping.values))
    groups = look_alikes(names)
    places = {value: place for place, value in enumerate(column.values if mapping.declared else column.texts)}
    found = []
    for group in groups[:MOST_LINES]:
        of = [mapping.values[names.index(name)] for name in group]
        rows = {name: column.rows_of([places[v]]) for name, v in zip(group, of, strict=True) if v in places}
        shown = [
            f"{spelling} ({rows_in_words(rows[name]) if name in rows else 'no row'})"
            for name, spelling in zip(group, spelled(group), strict=True)
        ]
        line = f"{' and '.join(shown)} look the same but are {len(group)} classes; spell them alike"
        found.append(
            _finding("look-alike", line, np.sort(np.concatenate([[], *rows.values()])), unsound=True)
        )
    if more := groups[MOST_LINES:]:
        found.append(_finding("look-alike", f"{len(more)} more groups of names look the same", (), True))
    return found


def parts_of(text: str, separator: str) -> list[str]:
    """The labels of a text, if this separator joins them, without brackets, quotes and separators around."""
    parts = text.strip(f"{separator} ").split(separator)
    return [part.strip(" '\"[](){}") for part in parts]


def _joined(column: LabelColumn) -> list[LabelFinding]:
    """Several labels in one, such as `bug;billing`, whose parts occur again: alone or in another order."""
    for separator in SEPARATORS:
        parts = [parts_of(text, separator) for text in column.texts]
        joined = [i for i, found in enumerate(parts) if len(found) > 1 and all(found)]
        alone = {found[0] for found in parts if len(found) == 1}
        sets = [frozenset(parts[i]) for i in joined]
        count = Counter(sets)
        again = [i for i, tags in zip(joined, sets, strict=True) if tags <= alone or count[tags] > 1]
        tags = frozenset().union(*sets)
        if again or len(tags) < len(joined):
            rows = column.rows_of(joined)
            shown = " and ".join(shown_label(column.texts[i]) for i in [*again, *joined][:2])
            other = "" if separator == SEPARATORS[0] else f" --data.label_separator={shlex.quote(separator)}"
            line = (
                f"{len(joined)} of {len(column.texts)} are several labels joined by {separator!r}, such as "
                f"{shown}, in {rows_in_words(rows)}; each is a class of its own here; keep one label per row"
                f", or set {AS_SEVERAL}{other}"
            )
            return [_finding("joined", line, rows)]
    return []


def _written_as_names(column: LabelColumn) -> list[LabelFinding]:
    """Numbers that are treated as names because of how they or other labels are written."""
    values, rows = column.values, column.counts
    numbers = [i for i, value in enumerate(values) if NUMBER.fullmatch(str(value))]
    words = [i for i in range(len(values)) if i not in set(numbers)]
    if not numbers or not isinstance(values[0], str):
        return []
    if holds_codes(values):
        place = next(i for i in numbers if holds_codes(values[i : i + 1]))
        at = column.rows_of([place])
        number = whole_number(values[place])
        how = "is too long for a number" if number is None else "has leading zeros"
        line = f"all are treated as names, since {shown_label(values[place])} in {rows_in_words(at)} {how}"
        same = [i for i in numbers if i != place and number is not None and whole_number(values[i]) == number]
        if same:
            line += f"; {values[same[0]]!r} is another class ({AS_NUMBERS} makes them one class)"
        return [_finding("written", line, at, warns=bool(same))]
    if holds_versions(values):
        place = max(numbers, key=lambda i: len(values[i].partition(".")[2]))
        line = (
            f"all are treated as names, since {values[place]!r} in "
            f"{rows_in_words(column.rows_of([place]))} looks like a version"
        )
        return [_finding("written", line, column.rows_of([place]), warns=False)]
    if words and rows[numbers].sum() * 2 <= rows[words].sum():
        few = [i for i in numbers if rows[i] <= max(1, rows[words].mean() / 10)]
        if few:
            at, what = column.rows_of(few), ", ".join(repr(values[i]) for i in few[:3])
            line = f"{what} in {rows_in_words(at)}, a number among names, is a class of its own: a mistake?"
            return [_finding("written", line, at)]
    elif words:
        line = (
            f"all are treated as names, since {shown_label(values[words[0]])} in row "
            f"{column.row_of(words[0])} is not a number"
        )
        return [_finding("written", line, column.rows_of(words[:1]), warns=False)]
    return []


def _written_twice(column: LabelColumn) -> list[LabelFinding]:
    ways: dict[int | None, list[str]] = {}
    for value, text in zip(column.values, column.texts, strict=True):
        ways.setdefault(whole_number(value), []).append(text)
    twice = [" and ".join(map(repr, found)) for found in ways.values() if len(found) > 1]
    if not twice:
        return []
    line = f"{', '.join(twice[:3])} are the same number and one class ({AS_NAMES} keeps them apart)"
    return [_finding("written", line, warns=False)]


def _gaps(column: LabelColumn, mapping: LabelMapping) -> list[LabelFinding]:
    """Whole numbers between the classes that no row has."""
    numbers = sorted(int(value) for value in mapping.values)
    missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if not missing:
        return []
    if missing <= MOST_NAMED:
        absent = [str(n) for n in range(numbers[0], numbers[-1]) if n not in set(numbers)]
        what = f"no row has {', '.join(absent)}, so there is no such class (--data.label_names declares one)"
    else:
        what = (
            f"{missing:,} numbers between {numbers[0]} and {numbers[-1]} occur in no row and are not classes"
        )
    return [_finding("gap", f"{what}; set {AS_NAMES} if these are codes without an order", warns=False)]


def _without_rows(column: LabelColumn, mapping: LabelMapping) -> list[LabelFinding]:
    """Classes that the settings or the column declare, but that have no row to learn from."""
    if isinstance(mapping.values[0], int):
        found = {whole_number(value) for value in column.values}
        absent = [n for v, n in zip(mapping.values, mapping.names, strict=True) if v not in found]
    else:
        texts = set(column.texts)
        absent = [n for v, n in zip(mapping.values, mapping.names, strict=True) if v not in texts]
    if not absent:
        return []
    shown = ", ".join(map(shown_label, absent[:MOST_NAMED])) + " ..." * (len(absent) > MOST_NAMED)
    return [_finding("gap", f"no row has {shown}, though it is declared as a class", warns=False)]


def _many(column: LabelColumn, mapping: LabelMapping) -> list[LabelFinding]:
    num_rows, num_found = len(column.index), len(column.values)
    if num_found > max(MOST_STEPS, num_rows / 2):
        line = f"{num_found:,} distinct ones in {num_rows:,} rows: is {column.name!r} the label column?"
        return [_finding("many", f"{line} (--data.label_column)")]
    are_numbers = isinstance(mapping.values[0], int) and not mapping.declared
    if are_numbers and mapping.num_labels > MOST_STEPS:
        line = (
            f"{mapping.num_labels} classes, the numbers {min(mapping.values)} to {max(mapping.values)}; "
            f"if they are measurements, group them into a few classes; if they are codes, set {AS_NAMES}"
        )
        return [_finding("many", line)]
    return []
