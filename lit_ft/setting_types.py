"""Leaf: the types of settings, in words for a person."""

import re
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def typehint(parser: ArgumentParser, key: str) -> Any:
    """The type of `key`, here or in a sub-command; None where it has none or does not exist."""
    for action in parser._actions:
        if action.dest == key:
            return getattr(action, "_typehint", None) or action.type
        for sub_parser in (getattr(action, "_name_parser_map", None) or {}).values():
            if (found := typehint(sub_parser, key)) is not None:
                return found
    return None


def type_words(hint: Any) -> str:
    """A type in words: `int | None` is "a whole number or null"; nothing for no type."""
    if hint is None:
        return ""
    words: list[str] = []
    choices: list[str] = []
    for member in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(member) is Literal:
            choices += map(str, get_args(member))
        else:
            words.append("null" if member is type(None) else _one_type(member))
    if choices:
        listed = ", ".join(dict.fromkeys(choices))
        words.append(f"one of {listed}" if len(choices) > 1 else listed)
    words.sort(key="null".__eq__)  # it comes last
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1]


def _one_type(hint: Any) -> str:
    if hint in WORDS:
        return WORDS[hint]
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return WORDS[dict]
    if isinstance(origin, type) and issubclass(origin, Iterable):
        item = args[0] if args else str
        return f"a list of {PLURALS.get(item) or getattr(item, '__name__', str(item))}"
    restricted = re.match(r"(int|float|str) restricted to be (.*)", hint.__doc__ or "")  # jsonargparse.typing
    if restricted:
        return f"{WORDS[{'int': int, 'float': float, 'str': str}[restricted[1]]]} {restricted[2]}"
    return getattr(hint, "__name__", str(hint))
