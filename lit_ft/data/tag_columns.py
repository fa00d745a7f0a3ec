"""Where a row's several labels stand: lists, strings joined by a separator, or columns of 0 and 1.

All three become one arrow column: for each row the list of its labels, which may be empty.
"""

import ast
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa

from lit_ft.data.label_column import shown_label
from lit_ft.data.reading import Reading
from lit_ft.errors import UserError, quoted, shorten
from lit_ft.tasks import MULTI_LABEL, TASKS

Form = Literal["lists", "joined", "flags"]
SEPARATOR = ";"
TAGS = pa.list_(pa.string())  # a row's labels, whatever form they were written in
# A list as numpy prints it, such as ['a' 'b'] or [0 1]: without commas, Python would join the texts to one.
ITEM = r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[0-9]+\.?)"""
PRINTED = re.compile(rf"\[\s*(?:{ITEM}(?:\s+|(?=\])))*\]")
WRAPS = ("[]", "()", "{}", "<>")  # around a row's joined labels: [a, b], {a,"b c"}, <a><b>
YES, NO = {"1", "1.0", "true"}, {"0", "0.0", "false"}  # of a column of flags; compared in lower case


@dataclass(frozen=True)
class TagForm:
    """How a table says which labels a row has.

    Attributes:
        form: `lists`, `joined` or `flags`.
        columns: The column; of flags one for each label.
        separator: Between joined labels.
        declared: The names of the labels 0, 1, ... if the column declares them, as some Hub datasets do.
        wrapped: Whether all joined labels but empty ones stand in brackets, which are not theirs.
    """

    form: Form
    columns: tuple[str, ...]
    separator: str = SEPARATOR
    declared: tuple[str, ...] = ()
    wrapped: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The labels that the table itself names, in their order, also those that no row has."""
        return self.columns if self.form == "flags" else self.declared

    def read(self, table: pa.Table, rows: np.ndarray, where: str) -> pa.Array:
        """The labels of some rows, each a list of strings.

        Args:
            table: It has the `columns`.
            rows: The rows' numbers for messages, (N,).
            where: The table's name for messages.

        Raises:
            UserError: A value that cannot be read, with its row.
        """
        if self.form == "flags":
            return self._of_flags(table, rows, where)
        name = self.columns[0]
        column = table.column(name).combine_chunks()
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            column = self._named(column.to_pylist(), rows, where)
            return pa.array(column, TAGS)
        read: Callable[[Any], Any] = self._split
        values = column.to_pylist()
        if self.form == "lists":
            read = lambda value: value if (held := _listed(value)) is None else held  # noqa: E731
        return pa.array(self._named([read(value) for value in values], rows, where), TAGS)

    def _split(self, value: Any) -> list[Any] | None:
        if value is None:
            return None
        if (held := _listed(value)) is not None:  # lists that a program wrote into a column of text
            return held
        text = str(value).strip()[1:-1] if self.wrapped else str(value)
        parts = [part.strip() for part in text.split(self.separator) if part.strip()]
        return [part.strip("\"'") or part for part in parts] if self.wrapped else parts

    def _named(self, values: Sequence[Any], rows: np.ndarray, where: str) -> list[list[str]]:
        """Lists of strings; refuses what is no label."""
        found = []
        for labels, row in zip(values, rows, strict=True):
            if labels is None:
                empty = "[]" if self.form == "lists" else "an empty text"
                what = f"a list of labels in each row, {empty} for a row without any,"
                raise self._error(where, what, "none", row, "fix or remove the row")
            if not isinstance(labels, list):
                fix = 'write it as a list, such as ["a", "b"]'
                raise self._error(where, "a list of labels in each row", shown_label(labels), row, fix)
            found.append([self._label(label, row, where) for label in labels])
        return found

    def _label(self, label: Any, row: int, where: str) -> str:
        if isinstance(label, str) and label.strip():
            return label.strip()
        if isinstance(label, float) and label.is_integer():  # of pandas and of loss functions: 1.0
            label = int(label)
        number = isinstance(label, int) and not isinstance(label, bool)
        if number and not self.declared:
            return str(label)
        if number and 0 <= label < len(self.declared):
            return self.declared[label]
        what = "names or whole numbers in the lists"
        if number:
            what = f"numbers of the {len(self.declared)} labels that the column declares"
        fix = "write each row's labels as one list of names"
        if isinstance(label, bool):
            fix += ", or a column of 0 and 1 for each label (--data.label_columns=[...])"
        raise self._error(where, what, shown_label(label), row, fix)

    def _of_flags(self, table: pa.Table, rows: np.ndarray, where: str) -> pa.Array:
        marks = np.stack([self._marks(table.column(name), name, rows, where) for name in self.columns], 1)
        places = np.nonzero(marks)[1]
        offsets = np.concatenate([[0], marks.sum(1).cumsum()])
        labels = pa.array(self.columns, pa.string()).take(pa.array(places, pa.int64()))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels)

    def _marks(self, column: pa.ChunkedArray, name: str, rows: np.ndarray, where: str) -> np.ndarray:
        """One column of flags, (N,) bool."""
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        values = [str(value).strip().casefold() for value in encoded.dictionary.to_pylist()]
        marks = np.array([value in YES for value in values] or [False])
        index = encoded.indices.to_numpy(zero_copy_only=False)
        wrong = [i for i, value in enumerate(values) if value not in YES | NO]
        if wrong:
            at = int(np.argmax(np.isin(index, wrong)))
            found = encoded.dictionary[int(index[at])].as_py()
            shown = "none" if found is None or not str(found).strip() else shown_label(found)
            raise UserError(
                f"expected 0 or 1 (or true, false) in column '{name}' of {where} (data.label_columns), found "
                f"{shown} in row {rows[at]}; fix the row, or leave the column out of --data.label_columns"
            )
        return marks[index]

    def _error(self, where: str, expected: str, found: str, row: int, fix: str) -> UserError:
        return UserError(
            f"expected {expected} in column '{self.columns[0]}' of {where}, found {found} in row {row}; {fix}"
            ", or set --data.label_column to another column"
        )


def _listed(value: Any) -> list[Any] | None:
    """A list written as text, by JSON, numpy or Python, there also a tuple or a set; None if it is none."""
    if isinstance(value, list):
        return value
    text = str(value).strip()
    if not (text[:1] + text[-1:] in WRAPS or text == "set()"):
        return None
    for read in (json.loads, _printed, ast.literal_eval):
        try:
            held = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(held, (set, tuple)):
            return sorted(held, key=str)
        return [] if held == {} else held if isinstance(held, list) else None
    return None


def _printed(text: str) -> list[Any]:
    """A list as numpy prints it."""
    if not PRINTED.fullmatch(text):
        raise ValueError(text)
    return [ast.literal_eval(found[1]) for found in re.finditer(ITEM, text)]


def _wrapped(values: Sequence[Any], separator: str) -> bool:
    """Whether all texts but empty ones stand in the same brackets, some with several labels."""
    texts = [text for value in values if value is not None and (text := str(value).strip())]
    wraps = {text[0] + text[-1] for text in texts}
    several = any(separator in text for text in texts)
    return several and len(wraps) == 1 and wraps <= {*WRAPS} and min(map(len, texts)) > 1


def escaped(separator: str) -> str:
    r"""A separator as it is set: a line break as `\n`, a tab as `\t`."""
    return separator.replace("\n", r"\n").replace("\t", r"\t")


def columns_of_flags(table: datasets.Dataset, names: Sequence[str]) -> list[str]:
    """Those columns of which the first rows hold nothing but 0 and 1 (or true, false)."""
    first = table[:100]
    return [name for name in names if {str(value).strip().casefold() for value in first[name]} <= YES | NO]


def holds_lists(table: datasets.Dataset, name: str) -> bool:
    """Whether a column holds lists: by its type, or by what the reader of a JSON file noted."""
    if isinstance(table.features.get(name), (datasets.List, datasets.LargeList)):
        return True
    row = Reading.of(table).nested.get(name)
    return row is not None and _listed(table[row - 1][name]) is not None


def tag_form(
    table: datasets.Dataset,
    label_column: str,
    label_columns: Sequence[str] | None,
    separator: str | None,
    task: str,
    where: str,
) -> TagForm | None:
    """How a table says which labels a row has; None if each row has one label, or is not known to have more.

    Args:
        table: As read.
        label_column: `data.label_column`.
        label_columns: `data.label_columns`; if given, these hold 0 and 1.
        separator: `data.label_separator`.
        task: `data.task`; `auto` takes a column of lists for several labels a text, and so these settings.
        where: The table's name for messages.

    Raises:
        UserError: A column of `label_columns` is missing, lists hold lists, or a setting has no meaning.
    """
    kind = TASKS.get(task)
    if kind not in (None, MULTI_LABEL):
        for name, given in (("label_columns", label_columns), ("label_separator", separator)):
            if given:
                raise UserError(
                    f"data.{name}={given} has no meaning for data.task {task}; leave it out, or set "
                    f"--data.task={MULTI_LABEL.name}"
                )
        return None
    if separator == "":
        raise UserError("expected data.label_separator to be a text, found an empty one; set it to ';' or so")
    if label_columns:
        if len(set(label_columns)) < len(label_columns):
            raise UserError(
                f"expected different columns in data.label_columns, found {quoted(list(label_columns))}; "
                "leave out the second"
            )
        if missing := [name for name in label_columns if name not in table.column_names]:
            raise UserError(
                f"expected the columns {quoted(list(label_columns))} of data.label_columns in {where}, found "
                f"no {quoted(missing)} but {quoted(table.column_names)}; set --data.label_columns to columns "
                "of 0 and 1"
            )
        return TagForm("flags", tuple(label_columns))
    if label_column not in table.column_names:
        return TagForm("joined", (label_column,)) if kind else None  # the caller says that it is missing
    lists = holds_lists(table, label_column)
    if kind is None and not lists and not separator:
        return None
    separator = separator and separator.replace(r"\n", "\n").replace(r"\t", "\t")
    inner = getattr(table.features[label_column], "feature", None)
    if inner is not None and not isinstance(inner, (datasets.Value, datasets.ClassLabel)):
        held: Any = next((value for value in table[label_column][:100] if value), [])
        raise UserError(
            f"expected lists of names in column '{label_column}' of {where}, found "
            f"{shorten(repr(held), 40)}; write each row's labels as one list of names, or set "
            "--data.label_column to another column"
        )
    declared = tuple(inner.names) if isinstance(inner, datasets.ClassLabel) else ()
    separator = separator or SEPARATOR
    wrapped = not lists and _wrapped(table.data.column(label_column).unique().to_pylist(), separator)
    return TagForm("lists" if lists else "joined", (label_column,), separator, declared, wrapped)
