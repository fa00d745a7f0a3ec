"""A column of labels as written, and the one place that decides whether they are numbers or names.

N rows.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from lit_ft.errors import UserError, shorten

LabelType = Literal["auto", "names", "numbers"]

# Not by Python's `float`, which also reads 1_1, inf, 1e5 and the digits of any script.
WHOLE = re.compile(r"[+-]?[0-9]{1,18}(\.0*)?")  # more digits are an id
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")
CODE = re.compile(r"[+-]?(0[0-9]+(\.[0-9]*)?|[0-9]{19,}(\.0*)?)")  # not how numbers are written: 007
# What programs write for a missing label; compared in lower case.
STAND_INS = frozenset(
    "nan na n/a n.a. <na> nat none null nil undefined (null) (none) (blank) blank empty unlabeled unlabelled "
    "\\n ? - -- #n/a #null! #value! #ref! #div/0! #name?".split()
)


class LabelColumn:
    """The distinct labels of a column, and which of them each row has.

    Args:
        labels: A column of a dataset, an arrow or numpy array or a list.
        rows: The labels' row numbers for messages; None counts from 1.
        name: The name of the column.

    Attributes:
        values: The distinct labels: an int, a float, a text without the space around it, or None if missing.
        texts: `values` as text.
        index: For each row the place of its label in `values`, (N,).
        counts: Number of rows of each of `values`.
    """

    def __init__(self, labels: Any, rows: Any = None, name: str = "label") -> None:
        found, index = _distinct(labels)
        places: dict[tuple[bool, Any], int] = {}
        kept = [_stripped(value) for value in found]
        lookup = [places.setdefault((isinstance(value, str), value), len(places)) for value in kept]
        self.name = name
        self.values = [value for _, value in places]
        self.texts = list(map(str, self.values))
        self.index = np.asarray(lookup, dtype=np.int64)[index] if lookup else np.zeros(0, np.int64)
        self.rows = np.arange(1, len(self.index) + 1) if rows is None else np.asarray(rows)
        self.counts = np.bincount(self.index, minlength=len(self.values))

    def row_of(self, place: int) -> int:
        """The first row that has this label."""
        return int(self.rows[np.argmax(self.index == place)])

    def rows_of(self, places: Sequence[int]) -> np.ndarray:
        """The rows that have one of these labels."""
        return self.rows[np.isin(self.index, places)]

    def is_own_name(self, place: int) -> bool:
        """Whether this label is the column's name, as in a repeated header."""
        return self.texts[place].casefold() == self.name.casefold()

    def check_complete(self, where: str) -> None:
        """Raise if there is no row, or a row without a label."""
        if not self.values:
            raise UserError(f"expected labels in {where}, found no rows; give a file with at least one")
        if None in self.values:
            row = self.row_of(self.values.index(None))
            raise UserError(
                f"expected a label in each row of {where}, found none in row {row}; fix or remove the row, "
                f"or set --data.label_column to another column{self._if_several()}"
            )

    def _if_several(self) -> str:
        """What to set if the labels look like several in one text, of which a row may well have none."""
        held = [sum(separator in text for text in self.texts) for separator in (";", "|", ",")]
        return ", or --data.task=multi_label if a row may have several" if max(held, default=0) > 1 else ""

    def in_words(self, place: int, value: Any) -> str:
        """`'x' in row 7`, for a label that means `value`, and why it may be a mistake."""
        found = f"{shown_label(value)} in row {self.row_of(place)}"
        if self.is_own_name(place):
            return f"{found} (the column's name: a repeated header?)"
        is_missing = is_stand_in(value) or str(value) == "-1"
        return found + " (which often means a missing label)" * is_missing


def shown_label(value: Any) -> str:
    """A label for a message, in at most 40 characters."""
    return shorten(repr(value))


def whole_number(value: Any) -> int | None:
    """The label as a whole number, or None: `4`, `+4`, `'4'`, `4.0` and `'4.0'` are all 4."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    text = str(value).strip()
    return int(text.partition(".")[0]) if WHOLE.fullmatch(text) else None


def is_stand_in(value: Any, others: Sequence[Any] = ()) -> bool:
    """Whether a label is what programs and people write for a missing one; - next to + is a class."""
    return str(value).casefold() in STAND_INS and not (value == "-" and "+" in others)


def are_numbers(column: LabelColumn, label_type: LabelType, where: str) -> bool:
    """Whether the labels are numbers, not names: only if every value is one.

    Args:
        column: A column without missing labels.
        label_type: The setting `data.label_type`; `auto` decides by the values.
        where: The source's name for the errors.

    Raises:
        UserError: The labels are probably a mistake (fractions, or a few words among numbers), or they
            contradict `label_type`.
    """
    if label_type == "names":
        return False
    values = column.values
    odd = [place for place, value in enumerate(values) if whole_number(value) is None]
    if label_type == "numbers":
        if odd:
            raise UserError(
                f"expected whole numbers in column '{column.name}' of {where} (data.label_type=numbers), "
                f"found {shown_label(values[odd[0]])} in row {column.row_of(odd[0])}; fix it, or remove "
                "--data.label_type"
            )
        return True
    if holds_codes(values) or holds_versions(values):
        return False
    if not odd:
        return len({text.partition(".")[2] for text in column.texts if "." in text}) <= 1
    words = [place for place in odd if isinstance(values[place], str) and not NUMBER.fullmatch(values[place])]
    if words:
        _refuse_few_words(column, words, where)
        return False
    raise UserError(
        f"expected whole numbers as labels in {where}, found {shown_label(values[odd[0]])} in row "
        f"{column.row_of(odd[0])}; set --data.task=regression to predict numbers, --data.label_type=names if "
        "each is a class, or --data.label_column to another column"
    )


def holds_codes(values: Sequence[Any]) -> bool:
    """Whether digits are written as in codes, not numbers, such as 007."""
    return any(isinstance(value, str) and CODE.fullmatch(value) for value in values)


def holds_versions(values: Sequence[Any]) -> bool:
    """Whether the numbers are versions, such as 1.0 next to 1.10.

    Programs write numbers with a fixed number of decimals, or with as few as needed but at least one.
    """
    numbers = [value for value in values if isinstance(value, str) and NUMBER.fullmatch(value)]
    decimals = [number.partition(".")[2] for number in numbers if "." in number]
    same = len(set(map(len, decimals))) <= 1 and len(decimals) in (0, len(numbers))
    return not same and any(len(part) > 1 and part.endswith("0") for part in decimals)


def _refuse_few_words(column: LabelColumn, words: list[int], where: str) -> None:
    """Refuse words among numbers that are probably mistakes: rare ones, stand-ins, the header."""
    numbers = np.ones(len(column.values), bool)
    numbers[words] = False
    if not numbers.any():
        return
    rows = column.counts
    typical = rows[numbers].mean()
    few = rows[words].sum() * 2 <= rows[numbers].sum() and rows[words].max() <= max(1, typical / 10)
    marks = [i for i in words if column.is_own_name(i) or is_stand_in(column.values[i])]
    if not few and not (len(marks) == len(words) and numbers.sum() > 1):
        return
    first = min(words, key=column.row_of)
    value = column.values[first]
    raise UserError(
        f"expected labels that are all whole numbers or all names in {where}, found whole numbers but "
        f"{column.in_words(first, value)}; fix it, or set "
        "--data.label_type=names to treat all as names, or --data.label_column to another column"
    )


def _distinct(labels: Any) -> tuple[list[Any], np.ndarray]:
    """The distinct labels, and for each row which of them it has. Only this looks at every row."""
    if not isinstance(labels, (pa.Array, pa.ChunkedArray)):
        labels = labels if isinstance(labels, np.ndarray) else labels[:]  # [:] reads a dataset's lazy column
        try:
            labels = pa.array(labels)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # a list of numbers and names
            labels = pa.array([None if label is None else str(label) for label in labels])
    chunked = labels if isinstance(labels, pa.ChunkedArray) else pa.chunked_array([labels])
    encoded = chunked.combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)


def _stripped(value: Any) -> int | float | str | None:
    if value is None or value != value:
        return None
    if isinstance(value, float) and abs(value) < 1e30:
        single = np.float32(value)  # a float32 keeps its own digits: 0.1 for 0.10000000149011612
        return float(str(single)) if float(single) == value else value
    return (
        value
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else str(value).strip() or None
    )
