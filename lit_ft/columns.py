"""Leaf: whether a table has the columns that are asked for, of types that can be used, or one clear line."""

import shlex

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from lit_ft.errors import UserError
from lit_ft.faults import quoted
from lit_ft.headers import LIKELY_LABEL, LIKELY_TEXT, may_be_a_row
from lit_ft.reading import Reading


def check_columns(table: datasets.Dataset, text_column: str, label_column: str | None, where: str) -> None:
    """Raises where a column is missing or cannot hold texts or labels."""
    wanted = {"label": label_column, "text": text_column}
    wanted = {kind: name for kind, name in wanted.items() if name is not None}
    missing = [kind for kind, name in wanted.items() if name not in table.column_names]
    if missing:
        reading = Reading.of(table)
        guesses = _guess(table, [name for name in table.column_names if name not in wanted.values()])
        expected = " and ".join(f"'{name}'" for name in wanted.values())
        flags = " ".join(f"--data.{kind}_column={shlex.quote(guesses.get(kind, 'NAME'))}" for kind in missing)
        plural, advice = "s" if len(wanted) > 1 else "", f"set {flags}"
        without = " (its first line is a row, too: there is no header)" if reading.has("no header") else ""
        if len(table.column_names) == 1 and set(",;\t|") & set(table.column_names[0]):
            advice = (
                "each line seems to stand in quotes as a whole, which makes it one value: write quotes around "
                f"single values only, else {advice}"
            )
        elif _may_lack_a_header(table):
            header = ",".join("" if name is None else name for name in (label_column, text_column) if name)
            advice = (
                f"if that is a row and no header, write a header such as {header} above it, else {advice}"
            )
        raise UserError(
            f"expected column{plural} {expected} in {where}, found {quoted(table.column_names)}{without}; "
            f"{advice}"
        )
    for kind, name in wanted.items():
        _check_type(table, kind, str(name), where)


def label_feature(feature: object) -> datasets.Value | datasets.ClassLabel:
    """The type that labels keep: whole numbers, fractions, strings, or declared class names.

    Truth values become `true` and `false`; numbers of 64 bits without a sign, which may be too large, text.
    """
    if isinstance(feature, datasets.ClassLabel):
        return feature
    kind = feature.pa_type if isinstance(feature, datasets.Value) else pa.string()
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return datasets.Value("int64")
    return datasets.Value("float64" if pa.types.is_floating(kind) else "string")


def _check_type(table: datasets.Dataset, kind: str, name: str, where: str) -> None:
    feature = table.features[name]
    # a JSON file's column is text in the table; its reader notes where it held more than that
    row = Reading.of(table).nested.get(name)
    if row is None and not isinstance(feature, datasets.ClassLabel):
        type_ = feature.pa_type if isinstance(feature, datasets.Value) else None
        if type_ is None or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
            found = pc.index(pc.is_valid(table.data.column(name)), True).as_py()
            row = max(found, 0) + 1
    if row is not None:
        held = table[row - 1][name]
        shown = held if isinstance(held, str) else repr(held)
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        raise UserError(
            f"expected a {kind} in column '{name}' of {where}, found {shown} in row {row}; set "
            f"--data.{kind}_column to a column of plain values"
        )


def _may_lack_a_header(table: datasets.Dataset) -> bool:
    if table.info.builder_name != "files":
        return False
    rows = table[: min(len(table), 100)]
    return may_be_a_row(
        table.column_names, [tuple(map(str, row)) for row in zip(*rows.values(), strict=True)]
    )


def _guess(table: datasets.Dataset, names: list[str]) -> dict[str, str]:
    """Likely columns of texts and labels: by name, else the longest and the least varied values."""
    by_name = {name.lower(): name for name in reversed(names)}
    rows = table[: min(len(table), 100)]
    text = next((by_name[name] for name in LIKELY_TEXT if name in by_name), None)
    label = next((by_name[name] for name in LIKELY_LABEL if name in by_name and by_name[name] != text), None)
    if text is None and (left := [name for name in names if name != label]):
        text = max(left, key=lambda name: sum(len(str(value)) for value in rows[name]))
    if label is None and (left := [name for name in names if name != text]):
        label = min(left, key=lambda name: len({str(value) for value in rows[name]}))
    return {kind: name for kind, name in {"text": text, "label": label}.items() if name is not None}
