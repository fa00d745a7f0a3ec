"""Leaf: the keys that a parser knows, and which of them was meant by one that it does not know."""

import argparse
import difflib
import re

from jsonargparse import ArgumentParser


def valid_keys(parser: ArgumentParser) -> list[str]:
    """The keys that `parser` and its sub-commands accept, in the order of their help."""
    keys: list[str] = []
    for action in parser._actions:
        for sub_parser in (getattr(action, "_name_parser_map", None) or {}).values():
            keys += valid_keys(sub_parser)
        hidden = action.dest in ("help", "print_config", "print_shtab") or action.dest.endswith(".help")
        if action.option_strings and not hidden and action.dest != argparse.SUPPRESS:
            keys.append(action.dest)
    return keys


def like_group(group: str, keys: list[str]) -> str:
    """`model` for `modle`; a group that resembles none stays as it is."""
    groups = {k.rpartition(".")[0] for k in keys}
    return group if group in groups else (difflib.get_close_matches(group, groups, n=1) or [group])[0]


def nearest(key: str, keys: list[str]) -> str | None:
    """The key that was meant: a like name in the same group, the same name elsewhere, or a like key.

    A short name also stands for the words that it begins: `lr` for `learning_rate`.
    """
    group, _, name = key.rpartition(".")
    group = like_group(group, keys)
    siblings = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == group}
    if close := difflib.get_close_matches(name, siblings, n=1):
        return siblings[close[0]]
    namesakes = [k for k in keys if k.rpartition(".")[2] == name]
    initials = [
        k for k in siblings.values() if "".join(re.findall(r"(?:^|_)(\w)", k.rpartition(".")[2])) == name
    ]
    if not namesakes and initials:
        return initials[0]
    close = difflib.get_close_matches(key, namesakes or keys, n=1, cutoff=0.0 if namesakes else 0.75)
    found = close[0] if close else None
    return None if found == group else found  # a group alone is no key to set; its keys are listed
