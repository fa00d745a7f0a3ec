"""Leaf: which files are meant, and what is wrong with one on which the fast readers failed."""

import csv
import difflib
import glob
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from lit_ft.errors import UserError, first_line

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt")


def find_files(patterns: list[str], flag: str) -> list[str]:
    """The files that paths and globs name, in their order, each of a known format and not empty."""
    files: list[str] = []
    for pattern in map(os.path.expanduser, patterns):
        if os.path.isdir(pattern):
            raise UserError(
                f"expected a file, found the folder {pattern}; set {flag}='{os.path.join(pattern, '*.csv')}'"
            )
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
        if Path(file).suffix.lower() not in SUFFIXES:
            raise UserError(
                f"expected a file of {', '.join(SUFFIXES)}, found {file}; convert it and set {flag}"
            )
        try:
            if os.path.getsize(file) == 0:
                raise UserError(f"{file} is empty; give {flag} a file with at least one row")
            open(file, "rb").close()
        except OSError as error:
            raise UserError(
                f"{file} cannot be read: {error.strerror}; change its mode, or set {flag}"
            ) from None
    return files


def _neighbours(pattern: str) -> str:
    """The files of that folder that could have been meant, or the part of the path that does not exist."""
    folder = os.path.dirname(pattern) or "."
    if glob.has_magic(pattern):
        return ""
    if not os.path.isdir(folder):
        return f" (there is no folder {folder})"
    near = difflib.get_close_matches(os.path.basename(pattern), os.listdir(folder), 3)
    return f" (there is {quoted(near)})" if near else ""


def quoted(names: Iterable[str], most: int = 12) -> str:
    """The names in quotes with commas between, short enough for one line."""
    shown = [f"'{name if len(name) <= 40 else name[:37] + '...'}'" for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def delimiter(path: str) -> str:
    """A tab for `.tsv`, else a comma."""
    return "\t" if path.lower().endswith(".tsv") else ","


def columns_of(path: str) -> list[str]:
    """The columns that a file without rows names."""
    if path.lower().endswith(".parquet"):
        import pyarrow.parquet

        return pyarrow.parquet.read_schema(path).names
    if not path.lower().endswith((".csv", ".tsv")):
        return []
    with open(path, encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file, delimiter=delimiter(path)), [])


def csv_fault(path: str, flag: str) -> UserError | None:
    """The first line of another number of values than the header, or whose quote never closes."""
    csv.field_size_limit(1 << 30)
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter(path), strict=True)
        line, expected = 1, 0
        try:
            for row in reader:
                expected = expected or len(row)
                if row and len(row) != expected:
                    what = f"expected {expected} values, as in the header, found {len(row)}"
                    return UserError(f"{path}, line {line}: {what}; mend it, or give {flag} another file")
                line = reader.line_num + 1
        except csv.Error as error:
            what = "a quote opens and never closes" if "unexpected end" in str(error) else first_line(error)
            return UserError(f"{path}, line {line}: {what}; mend it, or give {flag} another file")
    return None


def not_utf8(path: str, flag: str) -> UserError | None:
    """The first byte that is not UTF-8, with its line."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                utf16 = number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")
                found = "UTF-16" if utf16 else f"byte 0x{line[error.start]:02x} in line {number}"
                return UserError(
                    f"{path} is not UTF-8: found {found}; convert it, or give {flag} another file"
                )
    return None


def malformed_json(path: str, line: int, error: ValueError | RecursionError, flag: str) -> UserError:
    """What is wrong in a line of JSON, and in which column where that is known."""
    if isinstance(error, json.JSONDecodeError):
        what = f"malformed JSON ({error.msg}, column {error.colno})"
    elif isinstance(error, RecursionError):
        what = f"lists or objects inside each other deeper than {sys.getrecursionlimit()} levels"
    else:  # Python reads whole numbers of so many digits only
        what = f"a number of more than {sys.get_int_max_str_digits()} digits"
    return UserError(f"{path}, line {line}: {what}; mend it, or give {flag} another file")
