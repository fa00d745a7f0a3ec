"""The records of a JSON file: one object per line, one list, objects over several lines, or columns."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from lit_ft.data.file_errors import codec_of, malformed_json
from lit_ft.data.headers import LIKELY_TEXT
from lit_ft.errors import UserError

SPACE = re.compile(r"\s*")
COMMA = re.compile(r"\s*(?:,\s*|(?=\]))")
BETWEEN = re.compile(r"[\s,]*")
EXPECTED = 'expected one object per line, such as {"text": "..."}, or one list of such objects'


def json_records(path: str, flag: str, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The objects of a file, one at a time.

    Args:
        path: The file; its content tells lines from a list, not its suffix.
        flag: The flag that named it, for errors.
        say: Receives a note if the file has neither of these two forms.
    """
    codec = codec_of(path)
    if not codec.startswith("utf-8"):
        say(codec.upper())
    with open(path, encoding=codec) as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("["):
            items = _list(file.read(), path, flag)
        elif first and not first.lstrip().startswith("{"):
            shown = first.strip()[:40]
            raise UserError(f"{path} is not JSON: it begins with '{shown}'; {EXPECTED}; set {flag} to one")
        else:
            items = _objects(file, first, path, flag, say)
        for number, record in enumerate(items, 1):
            if not isinstance(record, dict):
                raise UserError(
                    f'{path}, row {number}: expected an object such as {{"text": "..."}}, found '
                    f"{json.dumps(record)[:40]}; give {flag} a file of objects"
                )
            yield record


def _objects(file: TextIO, first: str, path: str, flag: str, say: Callable[[str], None]) -> Iterator[Any]:
    """Objects of one line each, or of several lines if the first line alone is not an object."""
    if _is_json(first):
        records = _lines(file, path, flag)
    elif first.rstrip().endswith(",") and _is_json(first.rstrip()[:-1]):
        say("a comma after each line")
        records = _lines((line.rstrip().removesuffix(",") for line in file), path, flag)
    else:
        records = _stream(file.read(), path, flag)
    begin = list(itertools.islice(records, 2))
    if len(begin) == 1 and isinstance(begin[0], dict):
        found = _from_one_object(begin[0], path, flag, say)
        yield from begin if found is None else found
    else:
        yield from itertools.chain(begin, records)


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except RecursionError:
        return True  # `_lines` reports it, with the line number
    except ValueError as error:
        return not isinstance(error, json.JSONDecodeError)
    return True


def _lines(lines: Iterable[str], path: str, flag: str) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield json.loads(line.rstrip())
            except (ValueError, RecursionError) as error:
                raise malformed_json(path, number, error, flag) from None


def _list(text: str, path: str, flag: str) -> Iterator[Any]:
    """One item at a time: the list of all items would take several times the memory of the text."""
    decoder = json.JSONDecoder()
    match = SPACE.match(text, text.index("[") + 1)
    try:
        while match and not text.startswith("]", match.end()):
            item, end = decoder.raw_decode(text, match.end())
            yield item
            if (match := COMMA.match(text, end)) is None:
                raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
        if match and text[match.end() + 1 :].strip():
            raise json.JSONDecodeError("Extra data", text, match.end() + 1)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or text.count("\n", 0, match.end() if match else 0) + 1
        raise malformed_json(path, line, error, flag) from None


def _stream(text: str, path: str, flag: str) -> Iterator[Any]:
    """Consecutive values, as `jq` writes them; commas between them are ignored."""
    decoder, place = json.JSONDecoder(), 0
    try:
        while (place := BETWEEN.match(text, place).end()) < len(text):  # type: ignore[union-attr]
            item, place = decoder.raw_decode(text, place)
            yield item
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or text.count("\n", 0, place) + 1
        raise malformed_json(path, line, error, flag) from None


# --- a file of one object


def _from_one_object(
    whole: dict[str, Any], path: str, flag: str, say: Callable[[str], None]
) -> Iterator[Any] | None:
    """The records within it; None if it is a record itself."""
    if any(isinstance(value, (str, int, float)) and key in LIKELY_TEXT for key, value in whole.items()):
        return None
    lists = [key for key, value in whole.items() if _all(value, dict) and isinstance(value, list)]
    if len(lists) == 1:
        say(f"the {len(whole[lists[0]]):,} objects of its key '{lists[0]}'")
        return iter(whole[lists[0]])
    if isinstance(whole.get("columns"), list) and _all(whole.get("data"), list):
        say("columns and data, as by pandas' orient='split'")
        return (dict(zip(whole["columns"], row, strict=False)) for row in whole["data"])
    inside = [list(value) for value in whole.values() if isinstance(value, dict) and value]
    if inside and len(inside) == len(whole) and all(keys == inside[0] for keys in inside):
        rows_outside, rows_inside = (all(key.isdecimal() for key in keys) for keys in (whole, inside[0]))
        if rows_inside and not rows_outside:
            say("columns of values by row, as DataFrame.to_json() writes them (orient='columns')")
            return ({name: column[row] for name, column in whole.items()} for row in inside[0])
        if rows_outside and not rows_inside:
            say("rows by their number, as by pandas' orient='index'")
            return iter(whole.values())
    lengths = {len(value) if isinstance(value, list) else -1 for value in whole.values()}
    if len(lengths) == 1 and min(lengths) > 0 and not lists:
        say("columns of values")
        return (dict(zip(whole, row, strict=True)) for row in zip(*whole.values(), strict=True))
    if lists or inside:
        keys = ", ".join(f"'{key}'" for key in list(whole)[:6])
        raise UserError(
            f"{path} is one object with the keys {keys}; {EXPECTED} (in pandas: "
            f'to_json(path, orient="records", lines=True)); give {flag} such a file'
        )
    return None


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and len(values) > 0 and all(isinstance(value, kind) for value in values)
