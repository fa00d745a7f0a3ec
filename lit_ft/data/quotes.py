"""Whether the quotes of a csv enclose values, and how, or are ordinary characters.

A misplaced quote swallows the lines up to the next one, and no reader complains. So all quotes are checked to
the end of the file, by compiled expressions at hundreds of MB per second.
"""

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Content = bytes | mmap.mmap
LINE_END = re.compile(rb"[\r\n]|\Z")
FEWEST_ROWS = 4  # needed to tell labels from other values


def _possessive(item: str, times: str) -> str:
    """A group repeated without backtracking: `*+`, `++` or `?+`.

    Python before 3.11.5 (cpython #106052) goes on behind what a repetition consumed that failed in its
    middle. A last alternative that never matches takes it back to where that began.
    """
    return f"(?:{item}|(?!)){times}"


class Quotes:
    """Finds the values of a csv, as bytes, under one way to quote.

    Args:
        separator: The character between values.
        quote: The character around values, doubled within them.
        backslash: Whether a backslash escapes a quote instead, also in an unquoted value.
        space: Whether spaces between a separator and a value are ignored.
        bare_backslash: Whether a backslash escapes a separator in an unquoted value.
    """

    def __init__(
        self,
        separator: str,
        quote: str = '"',
        *,
        backslash: bool = False,
        space: bool = False,
        bare_backslash: bool = False,
    ) -> None:
        self.backslash, self.space, self.bare_backslash = backslash, space, bare_backslash
        self.quote, self.separator = quote.encode(), separator.encode()
        q, s = re.escape(quote), re.escape(separator)
        before, after = (" *+" if space else ""), ("[ ]*+" if separator == "\t" else r"[ \t]*+")
        escaped = (r"\\.|" if backslash else "") + q * 2
        letter, in_line = (rf"[^{q}\\]", rf"[^{q}\\\r\n]") if backslash else (rf"[^{q}]", rf"[^{q}\r\n]")
        end = rf"{q}{after}(?=[{s}\r\n]|\Z)"
        value = rf"{before}{q}{letter}*+" + _possessive(rf"(?:{escaped}){letter}*+", "*+")
        escaped_in_line = escaped.replace(".", r"[^\r\n]")
        value_in_line = rf"{before}{q}{in_line}*+" + _possessive(rf"(?:{escaped_in_line}){in_line}*+", "*+")
        bare = rf"(?!{before}{q})[^{s}\r\n]++"
        if backslash:
            after_backslash = r"[^\r\n]" if bare_backslash else rf"(?:{q}|(?!{q}))"
            letters = rf"[^{q}{s}\r\n\\]|\\{after_backslash}"
            bare = rf"(?!{before}{q})" + _possessive(letters, "++")
        others = _possessive(rf"{value_in_line}{end}|{bare}|[{s}\r\n]++", "*+")
        over_lines = _possessive(f"({value}{end})", "?+")
        self._next = re.compile(f"{others}{over_lines}".encode(), re.DOTALL)
        self._closed = re.compile(rf"{value}{q}{after}".encode(), re.DOTALL)
        self._value = re.compile(rf"({value}{end})|{bare}".encode(), re.DOTALL)

    def over_lines(self, content: Content, start: int) -> Iterator[tuple[int, int]]:
        """Start and end of each value with line breaks; last, twice the end of the well-formed part."""
        while match := self._next.match(content, start):
            start = match.end()
            if match[1] is None:
                yield start, start
                return
            yield match.span(1)

    def bare_values(self, text: str) -> list[bytes]:
        """The unquoted values."""
        return [match[0] for match in self._value.finditer(text.encode()) if match[1] is None]

    def sound_to(self, content: Content, start: int) -> int:
        """Offset of the first value with a misplaced quote, else the end of the content."""
        return max(end for _, end in self.over_lines(content, start))

    def closing(self, content: Content, start: int) -> int | None:
        """Offset after the closing quote of the value at `start`; None if it never closes."""
        match = self._closed.match(content, start)
        return match and match.end()

    def rewritten(self, content: Content, start: int) -> bytes:
        """The same values, quoted as in RFC 4180."""
        written = content[start:]
        escapes = self.quote + (self.separator if self.bare_backslash else b"")
        # Python's and MySQL's writers also escape the backslash itself; Spark's does not
        if not re.search(rb"(?<!\\)(?:\\\\)*\\[^\\" + re.escape(escapes) + rb"]", written):
            escapes += b"\\"

        def letter(match: re.Match[bytes]) -> bytes:
            return match[1] if match[1] in escapes else match[0]

        def value(match: re.Match[bytes]) -> bytes:
            text = match[0].strip(b" ") if self.space else match[0]
            if match[1] is not None:
                text = text.rstrip()[1:-1].replace(
                    self.quote * 2, b"\\" + self.quote if self.backslash else self.quote
                )
            elif not text.startswith(b'"') and not (self.backslash and b"\\" in text):
                return text
            return _enclosed(re.sub(rb"\\(.)", letter, text, flags=re.DOTALL) if self.backslash else text)

        return self._value.sub(value, written)


def _enclosed(text: bytes) -> bytes:
    return b'"' + text.replace(b'"', b'""') + b'"'


# --- quotes that are ordinary characters


def label_values(rows: Sequence[Sequence[str]]) -> dict[int, set[bytes]]:
    """Index of a column -> its values, for columns of few values that repeat, as labels do."""
    rows = [row for row in rows[1:] if len(row) == len(rows[0])]
    columns = enumerate(zip(*rows, strict=True) if len(rows) >= FEWEST_ROWS else ())
    values = {place: {value.encode() for value in column} for place, column in columns}
    return {place: found for place, found in values.items() if len(found) <= max(2, len(rows) // 3)}


@dataclass
class Enclosed:
    """What the values with line breaks show.

    Attributes:
        sound_to: Offset of the first value with a misplaced quote, else the end.
        num_breaks: Number of line breaks within values.
        twice: Whether one of them holds a doubled quote.
        swallowing: Offset of the first value whose lines each look like a row of their own.
        swallowed: Number of these lines.
        labelled: Whether each of them has a label that other rows have too; true if there are no labels.
    """

    sound_to: int = 0
    num_breaks: int = 0
    twice: bool = False
    swallowing: int = 0
    swallowed: int = 0
    labelled: bool = False


def look_at_enclosed(
    content: Content, start: int, separator: str, width: int, labels: dict[int, set[bytes]]
) -> Enclosed:
    """Check all quotes of the content from `start` on.

    Args:
        content: The file.
        start: Offset of its first line.
        separator: The character between values. Few texts hold a tab, so lines with tabs look like rows;
            with any other separator their labels must fit, too.
        width: Number of values in a row.
        labels: The result of `label_values`.
    """
    found, before, between = Enclosed(), start, separator.encode()
    looks = width > 1 and (separator == "\t" or len(labels) > 0)
    for begin, end in Quotes(separator).over_lines(content, start):
        found.sound_to = end
        if end > begin:
            value = content[begin:end]
            breaks = count_breaks(value)
            found.num_breaks += breaks
            found.twice = found.twice or b'""' in value[1:-1]
            if looks and not found.swallowed and value.count(between) == (width - 1) * breaks:
                rows = _lines_of(content, before, begin, end, between)
                fits = _fits(rows, labels)
                if {len(row) for row in rows} == {width} and (separator == "\t" or fits):
                    found.swallowing, found.swallowed = begin, len(rows)
                    found.labelled = fits or not labels
            before = end
    return found


def count_breaks(text: bytes) -> int:
    """The number of line breaks: LF, CRLF or CR."""
    number = text.count(b"\n")
    return number if b"\r" not in text else number + text.count(b"\r") - text.count(b"\r\n")


def _lines_of(content: Content, before: int, begin: int, end: int, separator: bytes) -> list[list[bytes]]:
    """The lines that a value spans, split at the separator; none of them begins before `before`."""
    first = max(content.rfind(b"\n", before, begin), content.rfind(b"\r", before, begin), before - 1) + 1
    last = LINE_END.search(content, end)
    return [line.split(separator) for line in content[first : last and last.start()].splitlines()]


def are_ordinary(content: Content, start: int, separator: bytes, labels: dict[int, set[bytes]]) -> bool:
    """Whether quotes are ordinary characters: each line is then a row, and none seems to enclose a value."""
    s = re.escape(separator.decode())
    first = re.compile(rb"[\r\n]*+([^\r\n]*+)").match(content, start)
    width = first[1].count(separator) + 1 if first else 1
    line = rf"[^\r\n{s}]*+(?:{s}[^\r\n{s}]*+){{{width - 1}}}(?:[\r\n]++|\Z)"
    every = r"[\r\n]*+" + _possessive(rf"(?!\Z){line}", "*+")
    lines = re.compile(every.encode()).match(content, start)
    if lines is None or lines.end() < len(content):
        return False
    num_rows = num_enclosed = 0
    for match in re.compile(rb"[^\r\n]+").finditer(content, start):
        num_rows += 1
        if b'"' in match[0]:
            row = match[0].split(separator)
            kinds = {_kind(value) for value in row if b'"' in value}
            num_enclosed += "enclosed" in kinds
            doubtful = "open" in kinds and separator != b"\t" and not _fits([row], labels)
            if "twice" in kinds or doubtful:
                return False
    return num_enclosed <= num_rows // 2


def _kind(value: bytes) -> str:
    """How quotes stand in a value: `enclosed`, `twice` (also doubled within), `open` or `within`."""
    begins, ends, inside = value.startswith(b'"'), value.endswith(b'"'), value[1:-1]
    if not (begins and ends) or len(value) == 1:
        return "open" if begins or ends else "within"
    if b'"' in inside.replace(b'""', b""):
        return "open"
    return "twice" if b'""' in inside else "enclosed"


def _fits(rows: list[list[bytes]], labels: dict[int, set[bytes]]) -> bool:
    return any(
        all(place < len(row) and row[place] in values for row in rows) for place, values in labels.items()
    )
