"""Leaf: which files are meant, and what is wrong with one on which the fast readers failed."""

import json
import re
import shlex
import sys
import zipfile
from pathlib import Path
from typing import Literal

from lit_ft.errors import UserError

BYTE_ORDER_MARKS = {  # UTF-32's begins with UTF-16's
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
    """UTF-8, or what the byte order mark says, or UTF-16 where every second byte is a NUL."""
    with open(path, "rb") as file:
        start = file.read(1000)
    if marked := next((codec for mark, codec in BYTE_ORDER_MARKS.items() if start.startswith(mark)), None):
        return marked
    zeros = [start[parity::2].count(0) / max(len(start) // 2, 1) for parity in (0, 1)]
    if max(zeros) > 0.8 and min(zeros) < 0.1:
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    return "utf-8"


def not_utf8(path: str, flag: str) -> UserError | None:
    """The first byte that is not UTF-8, with its line, and what it may be instead."""
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
    """The advice for a file of Western Europe's Windows; for one of other letters, without its command."""
    begin, end = max(line.rfind(b" ", 0, place), place - 12, 0), place + 12
    letters = sum(byte > 127 for byte in line)
    try:
        word = (line[begin:end].decode("cp1252").split() or [""])[0].strip('",;')
    except UnicodeDecodeError:  # cp1252 leaves five bytes without a meaning
        word = ""
    if not word or letters > len(line) / 3:
        return f"; save it as UTF-8, or give {flag} another file"
    command = f"iconv -f cp1252 -t utf-8 {shlex.quote(path)} > utf8{Path(path).suffix}"
    return f", as in Windows-1252 ('{word}'); convert it: {command}, or give {flag} another file"


def foreign(path: str, start: bytes, content: Content) -> str | None:
    """What a file is whose first bytes are not those of `content`, and what to do with it."""
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
        return "a pointer of Git LFS; run `git lfs pull` where it was cloned"
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
    """What is wrong in a line of JSON, and in which column where that is known."""
    if isinstance(error, json.JSONDecodeError):
        what = f"malformed JSON ({error.msg}, column {error.colno})"
        if "double quotes" in error.msg:  # as print() shows a dict
            what += "; json.dumps writes it so"
    elif isinstance(error, RecursionError):
        what = f"lists or objects inside each other deeper than {sys.getrecursionlimit()} levels"
    else:  # Python reads whole numbers of so many digits only
        what = f"a number of more than {sys.get_int_max_str_digits()} digits"
    return UserError(f"{path}, line {line}: {what}; mend it, or give {flag} another file")
