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
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from datasets.builder import Key
from tqdm import tqdm

from lit_ft.console import bar_pace
from lit_ft.errors import NoRows, UserError, first_line
from lit_ft.faults import csv_fault, delimiter, malformed_json, not_utf8, quoted

BATCH_ROWS = 10_000
MOST_COLUMNS = 5_000  # `datasets` 5.2 copies the description of each many times: 100,000 take a minute
HALF_PAIR = re.compile("[\ud800-\udfff]")  # "\ud83d" in JSON: Python reads it, no encoding writes it
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

    `info.description` tells, as JSON, the first row where a column of a JSON file holds a list or an object.
    """

    BUILDER_CONFIG_CLASS = FilesConfig
    config: FilesConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description="{}")

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name="train", gen_kwargs={})]

    def _generate_tables(self) -> Iterator[tuple[Key, pa.Table]]:
        paths, flag = self.config.paths, self.config.flag
        names: list[str] | None = None
        num_rows = 0
        with tqdm(desc=f"reading {paths[0]}", unit=" rows", delay=2, leave=False, **bar_pace()) as bar:
            for path_index, path in enumerate(paths):
                num_rows_before = num_rows
                for index, table in enumerate(self._read(path, num_rows)):
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
                            f"convert it, or give {flag} another file"
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

    def _read(self, path: str, num_rows_before: int) -> Iterator[pa.Table]:
        flag = self.config.flag
        try:
            if self.config.suffix in JSON_SUFFIXES:
                yield from self._json_tables(path, num_rows_before)
            else:
                yield from READERS[self.config.suffix](path, flag)
        except UnicodeDecodeError:
            raise not_utf8(path, flag) or AssertionError(path) from None
        except pa.ArrowInvalid as error:
            found = (
                None if self.config.suffix == ".parquet" else not_utf8(path, flag) or csv_fault(path, flag)
            )
            raise found or UserError(
                f"{path} is not a readable {self.config.suffix[1:]} file: {first_line(error)}; write it "
                f"again, or give {flag} another file"
            ) from None

    def _json_tables(self, path: str, num_rows_before: int) -> Iterator[pa.Table]:
        flag = self.config.flag
        nested: dict[str, int] = json.loads(self.info.description)
        columns = dict.fromkeys(self.config.late_columns)
        begun = num_rows_before > 0
        for records in _batches(_json_records(path, flag)):
            keys = dict.fromkeys(key for record in records for key in record)
            if begun and (late := [key for key in keys if key not in columns]):
                raise LateColumns(*late)
            columns, begun = keys | columns if not begun else columns, True
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
                    nested.setdefault(name, num_rows_before + row)
                table[name] = _string_array([_json_cell(value) for value in values])
            num_rows_before += len(records)
            yield pa.table(table)
        self.info.description = json.dumps(nested)


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, BATCH_ROWS)):
        yield batch


def _string_array(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair, as "\ud83d" in a JSON text cut by its length
        return pa.array([v and v.encode("utf-8", "replace").decode() for v in values], pa.string())


def _csv_tables(path: str, flag: str) -> Iterator[pa.Table]:
    def open_file(column_types: dict[str, pa.DataType]) -> pa.csv.CSVStreamingReader:
        return pa.csv.open_csv(
            path,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter(path), newlines_in_values=True),
            # every column is text: 'NA' stays 'NA', '007' stays '007', and 'good' may stand below '3'
            convert_options=pa.csv.ConvertOptions(column_types=column_types, strings_can_be_null=False),
        )

    names = open_file({}).schema.names
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise UserError(f"{path} has two columns '{twice[0]}'; rename one, or give {flag} another file")
    last = None
    for batch in open_file(dict.fromkeys(names, pa.string())):
        if batch.num_rows:
            last = batch
            yield pa.Table.from_batches([batch])
    # pyarrow 26 takes the file's end for a missing closing quote; the last value then ends in a line break
    if last is not None and last.column(len(names) - 1)[-1].as_py().endswith("\n"):
        if fault := csv_fault(path, flag):
            raise fault


def _parquet_tables(path: str, flag: str) -> Iterator[pa.Table]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    except OSError as error:
        if error.errno is not None:
            raise
        raise pa.ArrowInvalid(str(error)) from None  # pyarrow 26: a damaged page is an OSError without errno


def _text_tables(path: str, flag: str) -> Iterator[pa.Table]:
    with open(path, encoding="utf-8-sig") as file:
        for lines in _batches(line.rstrip("\n") for line in file):
            yield pa.table({"text": _string_array(lines)})


def _json_records(path: str, flag: str) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8-sig") as file:
        start = next((line.lstrip()[0] for line in file if line.strip()), "")
        file.seek(0)
        records = _json_list(file.read(), path, flag) if start == "[" else _json_lines(file, path, flag)
        for number, record in enumerate(records, 1):
            if not isinstance(record, dict):
                raise UserError(
                    f'{path}, row {number}: expected an object such as {{"text": "..."}}, found '
                    f"{json.dumps(record)[:40]}; give {flag} a file of objects"
                )
            yield record


def _json_lines(file: Iterable[str], path: str, flag: str) -> Iterator[Any]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield json.loads(line.rstrip())
            except (ValueError, RecursionError) as error:
                raise malformed_json(path, number, error, flag) from None


def _json_list(text: str, path: str, flag: str) -> Iterator[Any]:
    """One item at a time: the list of all items would take several times the memory of the text."""
    decoder, space, comma = json.JSONDecoder(), re.compile(r"\s*"), re.compile(r"\s*(?:,\s*|(?=\]))")
    match = space.match(text, text.index("[") + 1)
    try:
        while match and not text.startswith("]", match.end()):
            item, end = decoder.raw_decode(text, match.end())
            yield item
            if (match := comma.match(text, end)) is None:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
        if match and text[match.end() + 1 :].strip():
            raise json.JSONDecodeError("Extra data", text, match.end() + 1)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or text.count("\n", 0, match.end() if match else 0) + 1
        raise malformed_json(path, line, error, flag) from None


def _json_cell(value: Any) -> str | None:
    if isinstance(value, str) or value is None:
        return value
    return None if value != value else json.dumps(value, ensure_ascii=False)  # NaN stands for a missing value


JSON_SUFFIXES = (".jsonl", ".json")
READERS: dict[str, Callable[[str, str], Iterator[pa.Table]]] = {
    ".csv": _csv_tables,
    ".tsv": _csv_tables,
    ".parquet": _parquet_tables,
    ".txt": _text_tables,
}
