"""What is wrong with a file: its format, its encoding, its JSON."""

import json
import re
import shlex
import sys
import zipfile
from pathlib import Path
from typing import Literal

from lit_ft.errors import UserError

BYTE_ORDER_MARKS = {  # in this order: UTF-32's begins with UTF-16's
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
FOREIGN = {  # first bytes -> what the file is
    b"ARROW1": "an Arrow (feather) file; write it as parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls); save it as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip; run gunzip first",
    b"BZh": "compressed by bzip2; run bunzip2 first",
    b"\xfd7zXZ\0": "compressed by xz; run unxz first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; run unzstd first",
    b"SQLite format 3\0": "an SQLite database; export the table as csv",
    b"%PDF-": "a PDF; export its table as csv",
}
Content = Literal["table", "json", "text", "binary"]


def codec_of(path: str) -> str:
    """The encoding: what the byte order mark says, UTF-16 if every second byte is NUL, else UTF-8."""
    with open(path, "rb") as file:
        start = file.read(1000)
    if marked := next((codec for mark, codec in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None):
        return marked
    zeros = [start[parity::2].count(0) / max(len(start) // 2, 1) for parity in (0, 1)]
    if max(zeros) > 0.8 and min(zeros) < 0.1:
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    return "utf-8"


def not_utf8(path: str, flag: str) -> UserError | None:
    """The error for the first byte that is not UTF-8, its line and likely encoding; None if all are."""
    if not codec_of(path).startswith("utf-8"):
        return None
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                found = f"byte 0x{line[error.start]:02x} in line {number}"
                return UserError(
                    f"{path} is not UTF-8: found {found}{_as_windows_1252(line, error.start, path, flag)}"
                )
    return None


def _as_windows_1252(line: bytes, place: int, path: str, flag: str) -> str:
    """The advice: a command if the line looks like Windows-1252 (Western Europe), else without one."""
    begin, end = max(line.rfind(b" ", 0, place), place - 12, 0), place + 12
    letters = sum(byte > 127 for byte in line)
    try:
        word = (line[begin:end].decode("cp1252").split() or [""])[0].strip('",;')
    except UnicodeDecodeError:  # cp1252 does not define five of the bytes
        word = ""
    if not word or letters > len(line) / 3:
        return f"; save it as UTF-8, or give {flag} another file"
    command = f"iconv -f cp1252 -t utf-8 {shlex.quote(path)} > utf8{Path(path).suffix}"
    return f", as in Windows-1252 ('{word}'); convert it: {command}, or give {flag} another file"


def foreign(path: str, start: bytes, content: Content) -> str | None:
    """What the file is instead of `content`, by its first bytes, and what to do; None if it looks right."""
    if start.startswith(b"PK\x03\x04"):
        return _archive(path)
    for mark, what in FOREIGN.items():
        if start.startswith(mark):
            return what
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if content in ("text", "binary"):
        return None
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML); download the file itself"
    if text.startswith(b"<?xml"):
        return "XML; convert it"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer; run `git lfs pull` in its repository"
    if content == "table" and re.match(rb'[\[{]\s*(\{\s*)?"[^"]*"\s*:', text):
        return "JSON; rename it to .jsonl"
    return None


def _archive(path: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError):
        names = []
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook (.xlsx); save it as CSV UTF-8"
    if any(name in ("content.xml", "word/document.xml") for name in names):
        return "an office document; save its table as CSV UTF-8"
    return "a zip archive; unpack it"


def malformed_json(path: str, line: int, error: ValueError | RecursionError, flag: str) -> UserError:
    """The error for a line of JSON, with the column if it is known."""
    if isinstance(error, json.JSONDecodeError):
        what = f"malformed JSON ({error.msg}, column {error.colno})"
        if "double quotes" in error.msg:  # as print() writes a dict
            what += "; write it with json.dumps"
    elif isinstance(error, RecursionError):
        what = f"lists or objects nested deeper than {sys.getrecursionlimit()} levels"
    else:  # Python's limit on the digits of an integer
        what = f"a number of more than {sys.get_int_max_str_digits()} digits"
    return UserError(f"{path}, line {line}: {what}; fix it, or give {flag} another file")
