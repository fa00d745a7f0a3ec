"""Further columns of a table as text: groups that a hold-out must not split, and slices to measure.

N rows that have a text. They are read from the table itself, so that the cache of texts stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lit_ft.data.column_names import as_value, listed_columns
from lit_ft.data.reading import Reading
from lit_ft.errors import UserError, one_line, quoted, shorten

GROUPS, SLICES = "data.group_column", "data.slice_columns"  # the settings that name such columns


@dataclass(frozen=True)
class Values:
    """The values of a column, stripped of space around them.

    Attributes:
        column: Its name.
        names: The different values, in the order in which they first occur.
        codes: The value of each row, (N,) int64 in `names`; -1 without one.
    """

    column: str
    names: list[str]
    codes: np.ndarray

    def take(self, positions: np.ndarray) -> "Values":
        """The values of the rows at these positions."""
        return Values(self.column, self.names, self.codes[positions])


def read_values(
    table: datasets.Dataset, column: str, source_rows: np.ndarray, where: str, flag: str
) -> Values:
    """The values of some rows of a column as text: numbers, booleans and declared classes, too.

    Args:
        table: As read, with all rows.
        column: Its name there.
        source_rows: The 1-based rows in the table, (N,) int64.
        where: The table's name in messages.
        flag: The setting that names the column, such as `data.group_column`.

    Raises:
        UserError: There is no such column, or it holds lists or objects.
    """
    if column not in table.column_names:
        parts = [part.strip(" '\"") for part in column.strip("[] ").split(",")]  # a list, or meant as one
        advice = f"--{flag} to one of them, or to null"
        if len(parts) > 1 and set(parts) <= {*table.column_names} and flag == SLICES:
            advice = f"--{flag}={as_value(parts)}"
        raise UserError(
            f"expected a column '{column}' in {where} for {flag}, found {quoted(table.column_names)}; set "
            f"{advice}"
        )
    feature = table.features[column]
    expected = f"expected plain values in column '{column}' of {where} for {flag}"
    if row := Reading.of(table).nested.get(column):  # a JSON file's, whose columns are strings in the table
        held = shorten(table[row - 1][column], 40)
        raise UserError(f"{expected}, found {held} in row {row}; set --{flag} to another column, or to null")
    found = table.with_format("arrow")[column][:]
    found = found.take(pa.array(source_rows - 1)) if len(source_rows) < len(found) else found
    if pa.types.is_floating(found.type):
        found = pc.if_else(pc.is_nan(found), None, found)  # of pandas: a missing value
    try:
        text = found.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"{expected}, found {feature!r:.60}; set --{flag} to another column, or to null"
        ) from None
    encoded = pc.utf8_trim_whitespace(text).combine_chunks().dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    names = encoded.dictionary.to_pylist()
    if isinstance(feature, datasets.ClassLabel):
        names = [feature.names[int(name)] for name in names]
    if "" in names:  # written as nothing, in a CSV
        codes = np.where(codes == names.index(""), -1, codes)
    return Values(column, names, codes)


def columns_named(setting: str | Sequence[str] | None) -> tuple[str, ...]:
    """The columns that a setting names, each once."""
    return tuple(dict.fromkeys([setting] if isinstance(setting, str) else setting or ()))


def check_apart(
    column: str,
    flag: str,
    text_column: str | Sequence[str],
    pair_column: str | None,
    label_column: str | None = None,
) -> None:
    """Refuse a column that is the whole text, or the label.

    One of several texts may be it: rows of one query, each with another document, belong together; and a
    category that the model reads may be a slice.

    Args:
        column: Its name.
        flag: The setting that names it.
        text_column: The column or columns of the text.
        pair_column: The column of second texts.
        label_column: The column of labels.
    """
    texts = [*listed_columns(text_column), *columns_named(pair_column)]
    alone = {"data.text_column": texts} if len(texts) == 1 else {}
    for other, names in {**alone, "data.label_column": label_column}.items():
        if column in columns_named(names):
            raise UserError(
                f"expected a column of its own for {flag}, found '{one_line(column)}', which is {other}; set "
                f"--{flag} to another column, or to null"
            )
