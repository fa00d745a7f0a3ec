"""Which files are read, and how: every format is one row of `FORMATS`.

The fast path reads in blocks. Only if it fails is the file read again, slowly, to name the line. Does not
import `datasets`, so that a missing file is reported within a second.
"""

import difflib
import functools
import glob
import itertools
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from lit_ft.data.dialect import recognise
from lit_ft.data.file_errors import Content, codec_of, foreign, not_utf8
from lit_ft.data.headers import INVISIBLE, clean_names
from lit_ft.data.json_records import json_records
from lit_ft.data.reading import Note
from lit_ft.errors import UserError, quoted, rows_in_words

BATCH_ROWS = 10_000
TABLE_LINES = 100  # lines of a text with the same number of tabs in each look like a table
BLOCK_BYTES = 8 << 20  # one CSV row must fit
OTHER_SUFFIXES = {
    ".xlsx": "save it as CSV UTF-8",
    ".xls": "save it as CSV UTF-8",
    ".ods": "save it as CSV UTF-8",
    ".ndjson": "rename it to .jsonl",
    ".tab": "rename it to .tsv",
    ".text": "rename it to .txt",
    ".gz": "run gunzip first",
    ".zip": "unpack it",
    ".arrow": "write it as parquet",
    ".feather": "write it as parquet",
    ".pkl": "write it as parquet",
}

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Format:
    """How the files of one suffix are read.

    Attributes:
        read: Takes a path, the flag that gave it and where to put notes; yields tables or lists of records.
        content: What a file holds, which decides what its first bytes may be.
        columns: Names the columns of a file without rows.
        magic: The first bytes of every such file.
    """

    read: Callable[[str, str, Note], Iterator[pa.Table | Records]]
    content: Content
    columns: Callable[[str], list[str]] = lambda path: []
    magic: bytes | None = None


def find_files(patterns: list[str], flag: str) -> list[str]:
    """The files that paths and globs name, in their order, each of a known format and not empty."""
    files: list[str] = []
    for pattern in map(os.path.expanduser, patterns):
        if os.path.isdir(pattern):
            held = {Path(name).suffix.lower() for name in os.listdir(pattern)}
            suffix = next((suffix for suffix in FORMATS if suffix in held), ".csv")
            advice = shlex.quote(os.path.join(pattern, f"*{suffix}"))
            raise UserError(f"expected a file, found the folder {pattern}; set {flag}={advice}")
        found = (
            [pattern]
            if os.path.exists(pattern)
            else sorted(filter(os.path.isfile, glob.glob(pattern, recursive=True)))
        )
        if not found:
            raise UserError(
                f"no file matches '{pattern}'{_neighbours(pattern)}; set {flag} to a file or a glob"
            )
        files += [file for file in found if file not in files]
    for file in files:
        _check(file, flag)
    return files


def _check(file: str, flag: str) -> None:
    """Refuse a file that is empty, of an unknown format, or of another format than its suffix says."""
    suffix = Path(file).suffix.lower()
    if suffix not in FORMATS:
        advice = OTHER_SUFFIXES.get(suffix, "convert it")
        raise UserError(f"expected a file of {', '.join(FORMATS)}, found {file}; {advice} and set {flag}")
    try:
        if os.path.getsize(file) == 0:
            raise UserError(f"{file} is empty; give {flag} a file with at least one row")
        with open(file, "rb") as opened:
            start = opened.read(512)
        marked = [name for name, kind in FORMATS.items() if kind.magic and start.startswith(kind.magic)]
        found = f"{marked[0][1:]}; rename it to {marked[0]}" if marked else None
        found = found or foreign(file, start, FORMATS[suffix].content)
        if found and suffix not in marked:
            raise UserError(f"{file} is {found}, or give {flag} another file")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; make it readable, or set {flag}") from None


def _neighbours(pattern: str) -> str:
    """Files with similar names in that folder, or the folder that does not exist."""
    folder = os.path.dirname(pattern) or "."
    if glob.has_magic(pattern):
        return ""
    if not os.path.isdir(folder):
        return f" (there is no folder {folder})"
    near = difflib.get_close_matches(os.path.basename(pattern), os.listdir(folder), 3)
    return f" (there is {quoted(near)})" if near else ""


def columns_of(path: str) -> list[str]:
    """The columns that a file without rows names."""
    return FORMATS[Path(path).suffix.lower()].columns(path)


def _batches(rows: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, BATCH_ROWS)):
        yield batch


def _csv_tables(path: str, flag: str, note: Note) -> Iterator[pa.Table]:
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
                ignore_empty_lines=len(columns) > 1,  # in a single column they are rows
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
                        f"fix it, or give {flag} another file"
                    )
                table = table.select(names)
            yield table
    except pa.ArrowInvalid as error:
        if fault := not_utf8(path, flag) or dialect.fault(path, flag):
            raise fault from None
        if "straddling" in str(error):
            raise UserError(
                f"{path} has a row of more than {BLOCK_BYTES >> 20} MB; shorten it, close its quote, or "
                f"give {flag} another file"
            ) from None
        raise
    if headers:
        rows_again = rows_in_words(headers)
        note("header again", f"the header is repeated in {rows_again}, as in joined files; remove it")
    if len(columns) > 1 and (blank := dialect.num_blank_lines(num_rows)) > 0:
        note("warning", f"{blank:,} blank line{'s were' if blank > 1 else ' was'} skipped")


def _header_rows(table: pa.Table, names: list[str]) -> list[int]:
    """The rows, from 1, that repeat the header; not looked for in a single column, where it may be a text."""
    if len(names) < 2:
        return []
    alike = pc.equal(pc.utf8_trim(table.column(0), INVISIBLE), names[0]).to_numpy()
    rows = [(int(row), table.slice(row, 1).to_pylist()[0]) for row in np.flatnonzero(alike)]
    return [row + 1 for row, values in rows if clean_names([values[name] for name in names]) == names]


def _json_tables(path: str, flag: str, note: Note) -> Iterator[Records]:
    return _batches(json_records(path, flag, functools.partial(note, "recognised")))


def _parquet_tables(path: str, flag: str, note: Note) -> Iterator[pa.Table]:
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    except OSError as error:
        if error.errno is not None:
            raise
        raise pa.ArrowInvalid(str(error)) from None  # pyarrow 26: a damaged page is an OSError without errno


def _text_tables(path: str, flag: str, note: Note) -> Iterator[pa.Table]:
    codec = codec_of(path)
    if not codec.startswith("utf-8"):
        note("recognised", codec.upper())
    with open(path, encoding=codec) as file:
        for number, lines in enumerate(_batches(line.rstrip("\n") for line in file)):
            tabs = {line.count("\t") for line in lines[:TABLE_LINES]}
            if number == 0 and len(lines) > 1 and len(tabs) == 1 and tabs != {0}:
                note(
                    "warning",
                    "each line is one text, tabs included; rename it to .tsv if it is a table",
                )
            yield pa.table({"text": pa.array(lines, pa.string())})


def _csv_columns(path: str) -> list[str]:
    return recognise(path, "").names


def _parquet_columns(path: str) -> list[str]:
    return pa.parquet.read_schema(path).names


FORMATS = {
    ".csv": Format(_csv_tables, "table", _csv_columns),
    ".tsv": Format(_csv_tables, "table", _csv_columns),
    ".jsonl": Format(_json_tables, "json"),
    ".json": Format(_json_tables, "json"),
    ".parquet": Format(_parquet_tables, "binary", _parquet_columns, b"PAR1"),
    ".txt": Format(_text_tables, "text"),
}
