"""The formats of `predict`: what is added to a row, and how rows are written and known again.

The input's rows and columns stay as they are, and ours follow. M rows of a piece have a text, C classes.
"""

import csv
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset

CHUNK_ROWS = 1000  # rows of the input read at a time
PROBABILITY = "probability_"
PREDICTED = ("predicted", "confidence", "second", "second_confidence")  # of one class a text
PREDICTION = PREDICTED[:1]  # of several labels a text, and of numbers
FIXED = (PREDICTED, PREDICTION)  # of every kind of label
CUT = "cut"  # whether the text is longer than `max_tokens`; after what is predicted, before the probabilities
OURS = "lit_ft_"  # prefix of a column name that the input already has
DIGITS = 6  # of a probability as text
SIGNIFICANT = 8  # digits of a predicted number as text, whatever its unit; float32 has some 7


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of the input with what was predicted of them.

    Attributes:
        start: The first row, from 0.
        end: After the last row.
        places: Those that have a text, counted from `start`, (M,) int64.
        added: Our columns, each with M values: names, lists of names, numbers or truth values.
    """

    start: int
    end: int
    places: np.ndarray
    added: list[np.ndarray]

    def spread(self, values: Sequence[Any], without: Any) -> list[Any]:
        """M values -> one for each row of the piece; `without` for rows without a text."""
        spread = [without] * (self.end - self.start)
        for place, value in zip(self.places.tolist(), values, strict=True):
            spread[place] = value
        return spread


def are_ours(names: Sequence[str]) -> bool:
    """Whether these are the columns that `predict` adds, under any name that was free."""
    plain = [re.sub(rf"^{OURS}(.*?)(_\d+)?$", r"\1", name) for name in names]
    fixed = plain[: plain.index(CUT)] if CUT in plain else []
    after = plain[len(fixed) + 1 :]
    return tuple(fixed) in FIXED and all(name.startswith(PROBABILITY) for name in after)


class CsvRows:
    """A .csv: probabilities with six digits, `true` or `false`, nothing for a row without a text.

    Args:
        path: The file.
        table: The input.
        added: Our columns and their types.
        head: Whether to begin with the header; parts that are appended do not.
    """

    def __init__(self, path: Path, table: Dataset, added: Mapping[str, pa.DataType], head: bool) -> None:
        self.table = table
        self.file = path.open("w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file)
        if head:
            self.writer.writerow([*table.column_names, *added])

    def write(self, piece: Piece) -> None:
        """Add rows."""
        columns = self.table[piece.start : piece.end].values()
        added = [piece.spread(_as_text(values), "") for values in piece.added]
        self.writer.writerows(zip(*columns, *added, strict=True))

    def close(self) -> None:
        """End the file."""
        self.file.close()

    @staticmethod
    def join(parts: Sequence[Path]) -> None:
        """Append the other parts to the first."""
        with parts[0].open("ab") as whole:
            for part in parts[1:]:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, whole)

    @staticmethod
    def is_prediction_of(path: Path, table: Dataset) -> bool:
        """Whether a file holds the rows of the input and then our columns."""
        names = list(table.column_names)
        csv.field_size_limit(1 << 30)
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.reader(file)
            try:
                header = next(reader, [])
                if header[: len(names)] != names or not are_ours(header[len(names) :]):
                    return False
                for values in _rows(table):
                    written = ["" if value is None else str(value) for value in values]
                    if next(reader, [])[: len(names)] != written:
                        return False
                return next(reader, None) is None
            except csv.Error:
                return False


def _as_text(values: np.ndarray) -> list[str]:
    if values.dtype == bool:
        return ["true" if value else "false" for value in values.tolist()]
    if values.dtype == object:
        return values.tolist()
    if values.dtype == np.float64:
        return [f"{value:.{SIGNIFICANT}g}" for value in values.tolist()]
    return [f"{value:.{DIGITS}f}" for value in values.tolist()]


def _rows(table: Dataset) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(table), CHUNK_ROWS):
        yield from zip(*table[start : start + CHUNK_ROWS].values(), strict=True)


class JsonRows:
    """A .jsonl: an object a row, `null` for what a row without a text has not.

    Args:
        path: The file.
        table: The input.
        added: Our columns and their types.
        head: Has no meaning here: there is no header.
    """

    def __init__(self, path: Path, table: Dataset, added: Mapping[str, pa.DataType], head: bool) -> None:
        self.table = table
        self.names = [*table.column_names, *added]
        self.file = path.open("w", newline="\n", encoding="utf-8")

    def write(self, piece: Piece) -> None:
        """Add rows."""
        columns = self.table[piece.start : piece.end].values()
        added = [piece.spread(_as_values(values), None) for values in piece.added]
        for row in zip(*columns, *added, strict=True):
            self.file.write(_json(dict(zip(self.names, row, strict=True))) + "\n")

    def close(self) -> None:
        """End the file."""
        self.file.close()

    join = staticmethod(CsvRows.join)

    @staticmethod
    def is_prediction_of(path: Path, table: Dataset) -> bool:
        """Whether a file holds the rows of the input and then our columns."""
        names = list(table.column_names)
        try:
            with path.open(encoding="utf-8") as file:
                for values in _rows(table):
                    written = json.loads(file.readline())
                    if list(written)[: len(names)] != names or not are_ours(list(written)[len(names) :]):
                        return False
                    if json.loads(_json(dict(zip(names, values, strict=True)))) != {
                        n: written[n] for n in names
                    }:
                        return False
                return not file.readline()
        except (ValueError, TypeError):  # no JSON, no object, no UTF-8
            return False


def _as_values(values: np.ndarray) -> list[Any]:
    if values.dtype == np.float64:
        return [float(f"{value:.{SIGNIFICANT}g}") for value in values.tolist()]
    return (np.round(values.astype(np.float64), DIGITS) if values.dtype.kind == "f" else values).tolist()


def _json(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:  # JSON has no NaN and no infinity
        return json.dumps(_finite(row), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class ParquetRows:
    """A .parquet: the input's own types, probabilities as float32, null for a row without a text.

    Args:
        path: The file.
        table: The input.
        added: Our columns and their types.
        head: Has no meaning here: every part is a whole file.
    """

    def __init__(self, path: Path, table: Dataset, added: Mapping[str, pa.DataType], head: bool) -> None:
        self.table = table.with_format("arrow")
        ours = [pa.field(name, kind) for name, kind in added.items()]
        self.schema = pa.schema([*table.data.schema.remove_metadata(), *ours])
        self.writer = pa.parquet.ParquetWriter(path, self.schema)

    def write(self, piece: Piece) -> None:
        """Add rows, as a row group."""
        columns = list(self.table[piece.start : piece.end].columns) if self.table.column_names else []
        places = np.zeros(piece.end - piece.start, np.int64)
        without = np.ones(len(places), bool)
        places[piece.places], without[piece.places] = np.arange(len(piece.places)), False
        order = pa.array(places, mask=without)
        ours = self.schema.types[len(columns) :]
        columns += [pa.array(v, kind).take(order) for v, kind in zip(piece.added, ours, strict=True)]
        self.writer.write_table(pa.table(columns, schema=self.schema))

    def close(self) -> None:
        """End the file."""
        self.writer.close()

    @staticmethod
    def join(parts: Sequence[Path]) -> None:
        """Write one file of all parts, a row group at a time, and give it the name of the first."""
        if len(parts) == 1:
            return
        whole = parts[0].with_name(f"{parts[0].name}.whole")
        try:
            with pa.parquet.ParquetWriter(whole, pa.parquet.read_schema(parts[0])) as writer:
                for part in parts:
                    with pa.parquet.ParquetFile(part) as file:
                        for group in range(file.num_row_groups):
                            writer.write_table(file.read_row_group(group))
            whole.replace(parts[0])
        except BaseException:
            whole.unlink(missing_ok=True)
            raise

    @staticmethod
    def is_prediction_of(path: Path, table: Dataset) -> bool:
        """Whether a file holds the rows of the input and then our columns."""
        names, start = list(table.column_names), 0
        rows = table.with_format("arrow")
        try:
            with pa.parquet.ParquetFile(path) as file:
                header = file.schema_arrow.names
                if header[: len(names)] != names or not are_ours(header[len(names) :]):
                    return False
                if file.metadata.num_rows != len(table):
                    return False
                for batch in file.iter_batches(CHUNK_ROWS, columns=names):
                    given = rows[start : start + len(batch)].replace_schema_metadata()
                    if not pa.Table.from_batches([batch]).replace_schema_metadata().equals(given):
                        return False
                    start += len(batch)
                return True
        except (OSError, pa.ArrowException):
            return False


# To add a format, write its class and add a row: suffix -> how rows are written.
ROWS: dict[str, type[CsvRows] | type[JsonRows] | type[ParquetRows]] = {
    ".csv": CsvRows,
    ".parquet": ParquetRows,
    ".jsonl": JsonRows,
}
