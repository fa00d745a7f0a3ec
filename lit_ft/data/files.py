"""Leaf: CSV, TSV, JSON, parquet and text files as arrow tables, and one clear line where one is broken.

The fast path reads in blocks; only where it fails is the file read again, slowly, to name the line. A module
of its own because `datasets` 5.2 (streaming.py) replaces `open` and the like in the module of every builder;
for local files the replacements behave as the originals.
"""

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from datasets.builder import Key
from tqdm import tqdm

from lit_ft.console import bar_pace
from lit_ft.data.dialect import recognise
from lit_ft.data.file_errors import codec_of, not_utf8
from lit_ft.data.headers import INVISIBLE, clean_names
from lit_ft.data.json_records import json_records
from lit_ft.data.reading import Kind, Reading
from lit_ft.errors import NoRows, UserError, first_line, quoted

BATCH_ROWS = 10_000
MOST_COLUMNS = 5_000  # `datasets` 5.2 copies the description of each many times: 100,000 take a minute
HALF_PAIR = re.compile("[\ud800-\udfff]")  # "\ud83d" in JSON: Python reads it, no encoding writes it
TABLE_LINES = 100  # of a text, with equally many tabs, look like a table
BLOCK_BYTES = 8 << 20  # one CSV row must fit


class LateColumns(Exception):
    """JSON records brought keys that the table, already begun, has no column for: begin again with them."""


@dataclass
class FilesConfig(datasets.BuilderConfig):
    """The files that make one table, in order, and the suffix they share."""

    paths: tuple[str, ...] = ()
    suffix: str = ""
    flag: str = ""
    late_columns: tuple[str, ...] = ()


class Files(datasets.ArrowBasedBuilder):
    """Reads files into the `datasets` cache. Values of CSV, TSV and JSON stay text, as they were written.

    `info.description` is a `Reading` as JSON: what there is to say of the files is cached with their rows.
    """

    BUILDER_CONFIG_CLASS = FilesConfig
    config: FilesConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=Reading().as_json())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name="train", gen_kwargs={})]

    def _generate_tables(self) -> Iterator[tuple[Key, pa.Table]]:
        paths, flag = self.config.paths, self.config.flag
        reading = Reading()
        names: list[str] | None = None
        num_rows = 0
        with tqdm(desc=f"reading {paths[0]}", unit=" rows", delay=2, leave=False, **bar_pace()) as bar:
            for path_index, path in enumerate(paths):
                num_rows_before = num_rows
                for index, table in enumerate(self._read(path_index, num_rows, names, reading)):
                    names = table.column_names if names is None else names
                    if table.num_columns > MOST_COLUMNS:
                        raise UserError(
                            f"expected at most {MOST_COLUMNS:,} columns, found {table.num_columns:,} in "
                            f"{path}; give {flag} a file of the texts and labels alone"
                        )
                    if nul := [
                        name for name in table.column_names if "\0" in name
                    ]:  # `datasets` cuts it there
                        raise UserError(
                            f"{path} has a NUL in the column {quoted(nul[:1])}, as UTF-16 read as UTF-8 has; "
                            f"write it as UTF-8, or give {flag} another file"
                        )
                    if sorted(names) != sorted(table.column_names):
                        raise UserError(
                            f"{paths[0]} has the columns {quoted(names)}, but {path} has "
                            f"{quoted(table.column_names)}; give {flag} files with the same columns"
                        )
                    num_rows += table.num_rows
                    bar.update(table.num_rows)
                    yield Key(path_index, index), table.select(names)
                if num_rows == num_rows_before:
                    raise NoRows(f"{path} has no rows; give {flag} a file with at least one")
        self.info.description = reading.as_json()

    def _read(
        self, path_index: int, num_rows_before: int, names: list[str] | None, reading: Reading
    ) -> Iterator[pa.Table]:
        path, flag, suffix = self.config.paths[path_index], self.config.flag, self.config.suffix
        try:
            if suffix in CSV_SUFFIXES:
                yield from _csv_tables(path, flag, lambda kind, text: reading.note(kind, path_index, text))
            elif suffix in JSON_SUFFIXES:
                yield from self._json_tables(path_index, num_rows_before, names, reading)
            elif suffix == ".txt":
                yield from _text_tables(path, lambda kind, text: reading.note(kind, path_index, text))
            else:
                yield from _parquet_tables(path)
        except UnicodeError:
            raise not_utf8(path, flag) or UserError(
                f"{path} begins as {codec_of(path).upper()} does, but is none; write it as UTF-8, or give "
                f"{flag} another file"
            ) from None
        except pa.ArrowInvalid as error:
            if "straddling" in str(error):
                raise UserError(
                    f"{path} has a row of more than {BLOCK_BYTES >> 20} MB; cut it, or close its quote, or "
                    f"give {flag} another file"
                ) from None
            raise (suffix != ".parquet" and not_utf8(path, flag)) or UserError(
                f"{path} is not a readable {suffix[1:]} file: {first_line(error)}; write it "
                f"again, or give {flag} another file"
            ) from None

    def _json_tables(
        self, path_index: int, num_rows_before: int, names: list[str] | None, reading: Reading
    ) -> Iterator[pa.Table]:
        path, flag = self.config.paths[path_index], self.config.flag
        columns = dict.fromkeys([*(names or ()), *self.config.late_columns])
        batches = self._json_batches(path_index, reading)
        for number, (records, keys) in enumerate(batches):
            if names is None and number == 0:
                columns = keys | columns
            elif any(key not in columns for key in keys):
                for later in (batches, *(self._json_batches(i, reading) for i in self._after(path_index))):
                    for _, more in later:
                        keys |= more
                raise LateColumns(*(key for key in keys if key not in columns))
            if half := [name for name in columns if HALF_PAIR.search(name)]:
                raise UserError(
                    f"{path} has half a surrogate pair in the key {quoted(half[:1])}, which is no text; "
                    f"rename it, or give {flag} another file"
                )
            table = {}
            for name in columns:
                values = [record.get(name) for record in records]
                row = next((i for i, value in enumerate(values, 1) if isinstance(value, (list, dict))), 0)
                if row:
                    reading.nested.setdefault(name, num_rows_before + row)
                table[name] = _string_array([_json_cell(value) for value in values])
            num_rows_before += len(records)
            yield pa.table(table)

    def _json_batches(
        self, path_index: int, reading: Reading
    ) -> Iterator[tuple[list[dict[str, Any]], dict[str, None]]]:
        """Records, and all keys that they have."""
        path, flag = self.config.paths[path_index], self.config.flag
        for records in _batches(
            json_records(path, flag, lambda text: reading.note("recognised", path_index, text))
        ):
            yield records, dict.fromkeys(key for record in records for key in record)

    def _after(self, path_index: int) -> range:
        return range(path_index + 1, len(self.config.paths))


def columns_of(path: str) -> list[str]:
    """The columns that a file without rows names."""
    if path.lower().endswith(".parquet"):
        return pa.parquet.read_schema(path).names
    return recognise(path, "").names if path.lower().endswith(CSV_SUFFIXES) else []


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, BATCH_ROWS)):
        yield batch


def _string_array(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair, as "\ud83d" in a JSON text cut by its length
        return pa.array([v and v.encode("utf-8", "replace").decode() for v in values], pa.string())


def _csv_tables(path: str, flag: str, note: Callable[[Kind, str], None]) -> Iterator[pa.Table]:
    dialect = recognise(path, flag)
    names = dialect.names
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise UserError(f"{path} has two columns '{twice[0]}'; rename one, or give {flag} another file")
    for kind, text in dialect.notes:
        note(kind, text)
    if dialect.start == len(dialect.content):
        return
    columns = [*names, max(names, key=len) + "_"] if dialect.spare else names
    headers: list[int] = []
    num_rows = 0
    rows = pa.py_buffer(dialect.content).slice(dialect.start)
    try:
        batches = pa.csv.open_csv(
            pa.BufferReader(rows),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=columns),
            parse_options=pa.csv.ParseOptions(
                delimiter=dialect.separator,
                quote_char='"' if dialect.quoted else False,
                newlines_in_values=dialect.quoted,
                ignore_empty_lines=len(columns) > 1,  # of one column they are rows, as in a file of texts
            ),
            # every column is text: 'NA' stays 'NA', '007' stays '007', and 'good' may stand below '3'
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
        for batch in batches:
            if not batch.num_rows:
                continue
            table = pa.Table.from_batches([batch])
            headers += [num_rows + row for row in _header_rows(table, names)]
            num_rows += table.num_rows
            if dialect.spare:
                if pc.any(pc.not_equal(table.column(len(names)), "")).as_py():
                    raise UserError(
                        f"{path}: expected {len(names)} values, as in the header, found rows with one more; "
                        f"mend it, or give {flag} another file"
                    )
                table = table.select(names)
            yield table
    except pa.ArrowInvalid:
        if fault := not_utf8(path, flag) or dialect.fault(path, flag):
            raise fault from None
        raise
    if headers:
        shown = ", ".join(f"{row:,}" for row in headers[:3]) + (" ..." if len(headers) > 3 else "")
        note(
            "header again", f"the header comes again in row {shown}, as where files were joined; take it out"
        )
    if len(columns) > 1 and (blank := dialect.num_blank_lines(num_rows)) > 0:
        note("warning", f"{blank:,} blank line{'s are' if blank > 1 else ' is'} no row and left out")


def _header_rows(table: pa.Table, names: list[str]) -> list[int]:
    """Which rows, from 1, are the header again; that of a single column may be a text."""
    if len(names) < 2:
        return []
    alike = pc.equal(pc.utf8_trim(table.column(0), INVISIBLE), names[0]).to_numpy()
    rows = [(int(row), table.slice(row, 1).to_pylist()[0]) for row in np.flatnonzero(alike)]
    return [row + 1 for row, values in rows if clean_names([values[name] for name in names]) == names]


def _parquet_tables(path: str) -> Iterator[pa.Table]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    except OSError as error:
        if error.errno is not None:
            raise
        raise pa.ArrowInvalid(str(error)) from None  # pyarrow 26: a damaged page is an OSError without errno


def _text_tables(path: str, note: Callable[[Kind, str], None]) -> Iterator[pa.Table]:
    codec = codec_of(path)
    if not codec.startswith("utf-8"):
        note("recognised", codec.upper())
    with open(path, encoding=codec) as file:
        for number, lines in enumerate(_batches(line.rstrip("\n") for line in file)):
            tabs = {line.count("\t") for line in lines[:TABLE_LINES]}
            if number == 0 and len(lines) > 1 and len(tabs) == 1 and tabs != {0}:
                note("warning", "each line is a text, tabs and all; call the file .tsv if it is a table")
            yield pa.table({"text": _string_array(lines)})


def _json_cell(value: Any) -> str | None:
    if isinstance(value, str) or value is None:
        return value
    return None if value != value else json.dumps(value, ensure_ascii=False)  # NaN stands for a missing value


CSV_SUFFIXES = (".csv", ".tsv")
JSON_SUFFIXES = (".jsonl", ".json")
