"""How a csv or tsv is written, whatever its suffix: encoding, separator, quotes and header.

The head of the file shows the separator and the header; quotes are checked to its end (quotes.py).
"""

import csv
import io
import itertools
import mmap
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lit_ft.data.file_errors import codec_of
from lit_ft.data.headers import clean_names, is_a_row
from lit_ft.data.quotes import Content, Quotes, are_ordinary, count_breaks, label_values, look_at_enclosed
from lit_ft.data.reading import Kind
from lit_ft.errors import UserError, shorten

HEAD_BYTES = 1 << 18
CHUNK_BYTES = 1 << 22
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
SEPARATOR_LINE = re.compile(rb'"?sep=([,;|\t])"?(?:\r\n|\r|\n)')  # Excel writes and reads such a line
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
CLEAR_SHARE = 0.8  # of the rows have the same number of values if a separator clearly fits
NUMBERED_ROWS = 6  # this many rows, numbered from 1 without a name in the header, are R's row names
EXAMPLE_LETTERS = 30


@dataclass
class Dialect:
    """How to read a csv: its rows are in `content`, in UTF-8, from `start` on.

    Attributes:
        content: The file, rewritten if its quotes do not follow RFC 4180.
        start: Offset of the first row.
        separator: The character between values.
        first_line: Line number of the first row in the file, from 1.
        quoted: Whether `"` encloses values; else it is an ordinary character.
        num_breaks: Number of line breaks within values.
        names: Names of the columns.
        spare: Whether each row ends with a separator that the header lacks.
        notes: Kind and text of each note for the user.
    """

    content: Content
    start: int
    separator: str
    first_line: int = 1
    quoted: bool = True
    num_breaks: int = 0
    names: list[str] = field(default_factory=list)
    spare: bool = False
    notes: list[tuple[Kind, str]] = field(default_factory=list)

    def recognised(self, *said: str) -> None:
        """Note what the suffix does not tell."""
        self.notes += [("recognised", text) for text in said]

    @property
    def width(self) -> int:
        """How many values a row has."""
        return len(self.names) + self.spare

    def rewrite(self, quotes: Quotes) -> None:
        """Rewrite the content with quotes as in RFC 4180."""
        self.content, self.start = quotes.rewritten(self.content, self.start), 0
        self.num_breaks = look_at_enclosed(self.content, 0, self.separator, 1, {}).num_breaks

    def num_blank_lines(self, num_rows: int) -> int:
        """How many lines between the rows are blank; those after the last row do not count."""
        end = len(self.content)
        while end > self.start and self.content[end - 1 : end] in (b"\n", b"\r"):
            end -= 1
        num_lines = count_lines(self.content, self.start, end) + 1 if end > self.start else 0
        return num_lines - self.num_breaks - num_rows

    def fault(self, path: str, flag: str) -> UserError | None:
        """The error for the first line that has not as many values as the header; None if all have."""
        text = io.TextIOWrapper(io.BytesIO(self.content[self.start :]), "utf-8", newline="")
        reader = _reader(text, self.separator, '"' if self.quoted else None)
        line = self.first_line
        widths: Counter[int] = Counter()
        found: tuple[int, list[str]] | None = None
        for row in reader:
            if row and len(row) != self.width and found is None:
                found = line, row
            widths[len(row)] += bool(row)
            if found and widths.total() >= 100:
                break
            line = self.first_line + reader.line_num
        if found is None:
            return None
        (width, number), names = widths.most_common(1)[0], len(self.names)
        fix = f"fix it, or give {flag} another file"
        if number > max(2, CLEAR_SHARE * widths.total()) and width != self.width and width > 1:
            header = f"line {self.first_line - 1} has {names} column name{'s' * (names != 1)}"
            return UserError(
                f"{path}: {header}, but the lines from {found[0]} on have {width} values; write a header of "
                f"{width} names as the first line, or give {flag} another file"
            )
        line, row = found
        shown = _short(self.separator.join(row))
        what = f"expected {self.width} values, as in the header, found {len(row)} in '{shown}'"
        return UserError(f"{path}, line {line}: {what}; {fix}")


def recognise(path: str, flag: str) -> Dialect:
    """How this csv or tsv is written.

    Raises:
        UserError: A quote is misplaced.
        UnicodeError: The file is not in the encoding that it seems to have.
    """
    csv.field_size_limit(1 << 30)
    content, start, said = _utf8(path)
    usual = "\t" if path.lower().endswith(".tsv") else ","
    first_line = 1
    head = _head(content, start)
    if announced := SEPARATOR_LINE.match(content, start):
        separator, start, first_line = announced[1].decode(), announced.end(), 2
    else:
        separator = _separator(head, usual)
    dialect = Dialect(content, start, separator, first_line)
    dialect.recognised(*said)
    if separator != usual and separator not in head.splitlines()[0]:
        dialect.recognised(f"one column, with {SEPARATORS[usual]} in its values")
    elif separator != usual:
        dialect.recognised(f"{SEPARATORS[separator]} between the values")
    _recognise_quotes(dialect, path, flag)
    _recognise_header(dialect, _head(dialect.content, dialect.start))
    return dialect


def count_lines(content: Content, start: int, end: int) -> int:
    """The number of line ends between two offsets: LF, CRLF or CR."""
    number = 0
    for begin in range(start, end, CHUNK_BYTES):
        stop = min(begin + CHUNK_BYTES, end)
        number += count_breaks(content[begin:stop])
        number -= content[stop - 1 : stop + 1] == b"\r\n" and stop < end  # a CRLF, counted in both chunks
    return number


# --- encoding and separator


def _utf8(path: str) -> tuple[Content, int, list[str]]:
    """The content in UTF-8, where it begins, and what was recognised."""
    codec = codec_of(path)
    if codec.startswith("utf-8"):
        with open(path, "rb") as file:  # mapped: neither the search nor the reader needs a copy
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return content, len(re.match(rb"(?:\xef\xbb\xbf)*", content)[0]), []  # type: ignore[index]
    with open(path, encoding=codec, newline="") as file:
        return file.read().encode(), 0, [codec.upper()]


def _head(content: Content, start: int) -> str:
    """The first whole lines, at least one."""
    end = min(start + HEAD_BYTES, len(content))
    if end < len(content):
        last = max(content.rfind(b"\n", start, end), content.rfind(b"\r", start, end))
        end = last + 1 if last >= 0 else content.find(b"\n", start) + 1 or len(content)
    return content[start:end].decode()


def _reader(lines: io.TextIOBase, separator: str, quote: str | None, **options: Any) -> Any:
    quoting: Any = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=separator, quotechar=quote, quoting=quoting, **options)


def _rows(head: str, separator: str, quote: str | None = '"', **options: Any) -> list[list[str]]:
    return _whole(_reader(io.StringIO(head, newline=""), separator, quote, **options))


def _whole(reader: Iterable[list[str]]) -> list[list[str]]:
    """The rows that are not blank, without a last one that an open quote extends to the end of the head."""
    rows = [row for row in reader if row]
    return rows[:-1] if len(rows) > 1 and rows[-1][-1].endswith(("\n", "\r")) else rows


def _agreement(rows: Sequence[Sequence[str]]) -> float:
    """The share of rows with the most common number of values; 0 if that or the header's is one."""
    if not rows or len(rows[0]) < 2:
        return 0.0
    widths = Counter(len(row) for row in rows[1:] or rows)
    width, number = widths.most_common(1)[0]
    return number / widths.total() if width > 1 else 0.0


def _separator(head: str, usual: str) -> str:
    """The suffix's separator, unless another one clearly fits and it does not."""
    agreement = {}
    for separator in SEPARATORS:
        plain = _rows(head, separator, None) if '"' in head else []
        agreement[separator] = max(_agreement(_rows(head, separator)), _agreement(plain))
    best = max(SEPARATORS, key=lambda separator: (agreement[separator], separator == usual))
    if agreement[best] >= CLEAR_SHARE > agreement[usual]:
        return best
    rows = _rows(head, usual)
    if rows and len(rows[0]) == 1 and _agreement([["", ""], *rows[1:]]) < CLEAR_SHARE:
        single = (other for other in SEPARATORS if all(len(row) == 1 for row in _rows(head, other)))
        return next(single, usual)  # one column without quotes
    return usual


# --- quotes


def _recognise_quotes(dialect: Dialect, path: str, flag: str) -> None:
    """Find out how values are quoted: as in RFC 4180, otherwise (then rewrite them), or not at all."""
    content, start, separator = dialect.content, dialect.start, dialect.separator
    head = _head(content, start)
    rows = _rows(head, separator)
    if (other := _other_quotes(head, rows, separator)) is not None:
        for quotes, said in other:
            if quotes.sound_to(content, start) == len(content):
                dialect.rewrite(quotes)
                dialect.recognised(*said)
                return
    if content.find(b'"', start) < 0:
        return
    labels = label_values(rows)
    found = look_at_enclosed(content, start, separator, len(rows[0]) if rows else 1, labels)
    sound = found.sound_to == len(content)
    dialect.num_breaks = found.num_breaks
    bare = [value for value in Quotes(separator).bare_values(head) if b'"' in value]
    if sound and not found.swallowed and not bare:
        return
    if (not sound or any(b'\\"' in value for value in bare)) and content.find(b'\\"', start) >= 0:
        backslash = Quotes(separator, backslash=True)
        if backslash.sound_to(content, start) == len(content):
            dialect.rewrite(backslash)
            dialect.recognised('quotes within values written as \\"')
            return
    on_purpose = sound and (found.twice or (found.swallowed > 0 and not found.labelled))
    if sound and not found.swallowed and separator != "\t":
        return
    if not on_purpose and are_ordinary(content, start, separator.encode(), labels):
        dialect.quoted, dialect.num_breaks = False, 0
        dialect.recognised("quotes as ordinary characters, since some of them enclose no value")
        return
    if sound and not found.swallowed:
        return
    place = found.swallowing if sound else found.sound_to
    line = dialect.first_line + count_lines(content, start, place)
    if sound:
        num_lines = found.swallowed
        warning = (
            f"in line {line} a quote opens a value of {num_lines} lines, each of which looks like a row of "
            "its own; if the quote is part of the text, double it and enclose the value in quotes"
        )
        dialect.notes.append(("warning", warning))
        return
    closing = Quotes(separator).closing(content, place)
    if closing is None:
        what = "a quote opens and never closes"
    else:
        tail = _short(content[closing : closing + 100].decode("utf-8", "replace").splitlines()[0])
        first = content[place:closing].decode("utf-8", "replace").strip()
        written = 'as \\"' if first.endswith('\\"') else "alone"
        what = (
            f"expected a separator after the closing quote of {_short(first)}, found '{tail}'; a quote "
            f'within a value is doubled (""), not written {written}'
        )
    raise UserError(f"{path}, line {line}: {what}; fix it, or give {flag} another file")


def _other_quotes(head: str, rows: list[list[str]], separator: str) -> list[tuple[Quotes, list[str]]] | None:
    """Ways to quote, other than RFC 4180's, that the head suggests."""
    if not rows:
        return None
    whole = {len(row) for row in rows} == {len(rows[0])}

    def fits(quote: str | None, **options: Any) -> bool:
        widths = {len(row) for row in _rows(head, separator, quote, **options)}
        return len(widths) == 1 and widths != {1}

    if separator != "\t" and re.search(re.escape(separator) + ' +"', head):
        bare = Quotes(separator).bare_values(head)
        if any(re.match(b' +"', value) for value in bare) and fits('"', skipinitialspace=True):
            said = ["spaces after the separators, which are dropped"]
            plain, backslash = (Quotes(separator, space=True, backslash=b) for b in (False, True))
            return [(plain, said), (backslash, [*said, 'quotes within values written as \\"'])]
    columns = [rows[0], *zip(*rows[1:], strict=True)] if len(rows) > 2 and whole else [rows[0]]
    begun = [value for row in rows for value in row if value.startswith("'")]
    columns += [begun] if any("''" in value[1:-1] for value in begun) else []
    if any(map(_in_single_quotes, columns)) or (not whole and fits("'")):
        said = ["values in single quotes"]
        return [(Quotes(separator, "'"), said), (Quotes(separator, "'", backslash=True), said)]
    if not whole and "\\" + separator in head:
        if fits(None, escapechar="\\"):
            said = ["separators within values escaped by a backslash"]
            return [(Quotes(separator, backslash=True, bare_backslash=True), said)]
    return None


def _in_single_quotes(values: Sequence[str]) -> bool:
    return all(len(value) > 1 and value[0] == value[-1] == "'" for value in values)


# --- header


def _recognise_header(dialect: Dialect, head: str) -> None:
    """Find the names of the columns and where the rows begin."""
    lines = io.StringIO(head, newline="")
    reader = _reader(lines, dialect.separator, '"' if dialect.quoted else None)
    skipped = 0
    header: list[str] = []
    for row in reader:
        if len(row) == 1 or any(row):
            header = row
            break
        skipped = reader.line_num
    consumed = reader.line_num
    rows = _whole(reader)
    if not header:
        dialect.start = len(dialect.content)
        return
    if not dialect.quoted:
        header = [name.strip('"') for name in header]
    names = clean_names(header)
    if is_a_row(names, rows):
        dialect.names = [f"column{i}" for i in range(1, len(names) + 1)]
        warning = (
            f"line {dialect.first_line + skipped} looks like the rows below it and is read as one: there is "
            f"no header, and the columns are named {dialect.names[0]} to {dialect.names[-1]}"
        )
        dialect.notes.append(("no header", warning))
        consumed = skipped
    else:
        dialect.names = _named(dialect, names, rows)
        if dialect.names != header and [name.strip() for name in header] == dialect.names:
            dialect.recognised("column names without the spaces around them")
    before = "".join(itertools.islice(io.StringIO(head, newline=""), consumed)).encode()
    if dialect.quoted:
        dialect.num_breaks -= look_at_enclosed(before, 0, dialect.separator, 1, {}).num_breaks
    dialect.start += len(before)
    dialect.first_line += consumed
    if dialect.separator == ";" and any(DECIMAL_COMMA.fullmatch(value) for row in rows for value in row):
        dialect.recognised("numbers with decimal commas, kept as they are")


def _named(dialect: Dialect, names: list[str], rows: list[list[str]]) -> list[str]:
    """A name for each value of the rows, which may have one more or less than the header."""
    widths = {len(row) for row in rows}
    if widths == {len(names) + 1}:
        first = [row[0] for row in rows]
        if not any(row[-1] for row in rows):
            dialect.spare = True
        elif len(rows) >= NUMBERED_ROWS and first == [str(i) for i in range(1, len(rows) + 1)]:
            names = ["", *names]
            dialect.recognised("an unnamed first column of row numbers")
    elif widths == {len(names) - 1} and len(names) > 2 and names[-1] == "":
        names = names[:-1]
    if names.count("") > 1:
        names = [name or f"column{i}" for i, name in enumerate(names, 1)]
        dialect.recognised("unnamed columns, named by their position, such as column3")
    return names


def _short(text: str) -> str:
    return shorten(" ".join(text.split()), EXAMPLE_LETTERS)
