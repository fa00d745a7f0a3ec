"""Leaf: whether the quotes of a csv enclose values, and how, or are letters like others.

A quote that opens and closes where it should not swallows the lines in between, and no reader minds. So each
is followed to the end of the file, in compiled expressions, at hundreds of MB a second.
"""

import mmap
import re
from collections.abc import Iterator, Sequence

Content = bytes | mmap.mmap


class Quotes:
    """The values of a csv as bytes, for one way to quote.

    Args:
        separator: Between values.
        quote: Encloses values; within them it is written twice.
        backslash: Whether a quote within a value is written after a backslash instead.
        space: Whether spaces between a separator and a value count for nothing.
        bare_backslash: Whether a separator in a value without quotes is written after a backslash.
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
        value = rf"{before}{q}{letter}*+(?:(?:{escaped}){letter}*+)*+"
        escaped_in_line = escaped.replace(".", r"[^\r\n]")
        value_in_line = rf"{before}{q}{in_line}*+(?:(?:{escaped_in_line}){in_line}*+)*+"
        bare = rf"(?:[^{s}\r\n\\]|\\[^\r\n])++" if bare_backslash else rf"[^{s}\r\n]++"
        bare = rf"(?!{before}{q}){bare}"
        others = rf"(?:{value_in_line}{end}|{bare}|[{s}\r\n]++)*+"
        self._next = re.compile(rf"{others}({value}{end})?+".encode(), re.DOTALL)
        self._closed = re.compile(rf"{value}{q}{after}".encode(), re.DOTALL)
        self._value = re.compile(rf"({value}{end})|{bare}".encode(), re.DOTALL)

    def over_lines(self, content: Content, start: int) -> Iterator[tuple[int, int]]:
        """Where each value with line breaks begins and ends; last, twice the end of what is sound."""
        while match := self._next.match(content, start):
            start = match.end()
            if match[1] is None:
                yield start, start
                return
            yield match.span(1)

    def sound_to(self, content: Content, start: int) -> int:
        """The end of the content, or where the first value begins whose quotes are not as they should be."""
        return max(end for _, end in self.over_lines(content, start))

    def closing(self, content: Content, start: int) -> int | None:
        """Where the value at `start` is closed; None where that is nowhere."""
        match = self._closed.match(content, start)
        return match and match.end()

    def rewritten(self, content: Content, start: int) -> bytes:
        """The same values, quoted as by RFC 4180."""
        written = content[start:]
        escapes = self.quote + (self.separator if self.bare_backslash else b"")
        # Python's and MySQL's writers put a backslash before a backslash, too; Spark's does not
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
            elif not self.bare_backslash:
                return _enclosed(text) if text.startswith(b'"') else text
            return _enclosed(re.sub(rb"\\(.)", letter, text, flags=re.DOTALL) if self.backslash else text)

        return self._value.sub(value, written)


def _enclosed(text: bytes) -> bytes:
    return b'"' + text.replace(b'"', b'""') + b'"'


# --- quotes that are letters


def label_values(rows: Sequence[Sequence[str]]) -> dict[int, set[bytes]]:
    """The columns whose few values come again and again, by place, as labels do."""
    rows = [row for row in rows[1:] if len(row) == len(rows[0])]
    columns = enumerate(zip(*rows, strict=True))
    values = {place: {value.encode() for value in column} for place, column in columns}
    return {place: found for place, found in values.items() if len(found) <= max(2, len(rows) // 3)}


def swallowed_rows(
    content: Content, span: tuple[int, int], separator: bytes, width: int, labels: dict[int, set[bytes]]
) -> int:
    """How many lines a quoted value runs over, 0 unless each of them looks like a row of its own.

    Args:
        content: The file.
        span: Of the value.
        separator: Between values; a tab is in few texts, of others the labels must fit, too.
        width: How many values a row has.
        labels: Of `label_values`.
    """
    begin = max(content.rfind(b"\n", 0, span[0]), content.rfind(b"\r", 0, span[0])) + 1
    ends = [end for end in (content.find(b"\n", span[1]), content.find(b"\r", span[1])) if end >= 0]
    rows = [line.split(separator) for line in content[begin : min(ends, default=len(content))].splitlines()]
    alike = all(len(row) == width for row in rows) and (separator == b"\t" or _fits(rows, labels))
    return len(rows) if alike else 0


def are_letters(content: Content, start: int, separator: bytes, labels: dict[int, set[bytes]]) -> bool:
    """Whether each line is a row if quotes enclose nothing, and no writer meant them to enclose values."""
    s = re.escape(separator)
    first = re.compile(rb"[\r\n]*+([^\r\n]*+)").match(content, start)
    width = first[1].count(separator) + 1 if first else 1
    others = rb"(?:" + s + rb"[^\r\n" + s + rb"]*+){%d}" % (width - 1)
    line = rb"[^\r\n" + s + rb"]*+" + others + rb"(?:[\r\n]++|\Z)"
    lines = re.compile(rb"[\r\n]*+(?:(?!\Z)" + line + rb")*+").match(content, start)
    if lines is None or lines.end() < len(content):
        return False
    lone = rb"(?<![^\r\n" + s + rb'])"[^\r\n"' + s + rb']*+"(?=[\r\n' + s + rb"]|\Z)"
    twice = rb"(?<![^\r\n" + s + rb'])"[^\r\n"' + s + rb']*+""[^"\r\n' + s + rb"]"
    rows = content[start:].splitlines()
    if re.search(twice, content[start:]) or len(re.findall(lone, content[start:])) > len(rows) // 2:
        return False
    ill = [row.split(separator) for row in rows if any(map(_half_enclosed, row.split(separator)))]
    return separator == b"\t" or _fits(ill, labels)


def _half_enclosed(value: bytes) -> bool:
    inside = value.startswith(b'"') and value.endswith(b'"') and len(value) > 1
    return b'"' in value[1:-1] if inside else value.startswith(b'"') or value.endswith(b'"')


def _fits(rows: list[list[bytes]], labels: dict[int, set[bytes]]) -> bool:
    return any(all(row[place] in values for row in rows) for place, values in labels.items())
