"""The space of a search under the types of `fit`'s parser, and the settings that it starts from."""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml
from jsonargparse import Namespace

from lit_ft.classifier.parser import Parser
from lit_ft.commands.several import make_parser
from lit_ft.errors import UserError
from lit_ft.settings.bounds import BOUNDS, check_bounds
from lit_ft.settings.space import Choices, Entry, Range, as_flag

GROUPS = ("data", "model", "trainer")
JOURNAL = "journal.log"  # Optuna's, in the folder of a search
Check = Callable[[Namespace, str], None]  # parsed settings, and the key that differs from the start's


def plain(config: Namespace) -> dict[str, Any]:
    """Parsed settings of `fit` as nested plain values."""
    return dict(yaml.safe_load(_parser().dump(config, skip_none=False, skip_check=True)))


def value_of(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a setting, such as `model.learning_rate`, in nested plain values."""
    found: Any = settings
    for name in key.split("."):
        found = found[name] if isinstance(found, Mapping) and name in found else None
    return found


@functools.cache  # making it takes longer than parsing
def _parser() -> Parser:
    """A parser of `fit`'s settings; a mistake is an `ArgumentError` with its line."""
    parser = make_parser("fit", {})
    parser.exit_on_error = False
    return parser


def typed(
    space: Sequence[Entry], args: Sequence[str], check: Check = lambda config, key: None
) -> list[Entry]:
    """The space with the types that the settings have; `{low: 0, high: 1}` of a number is no choice of two.

    Args:
        space: As it was read.
        args: Flags of `fit`.
        check: Refuses settings that have no meaning for the texts or labels.

    Raises:
        UserError: A value that `fit` would refuse, with its file and line.
    """
    found = []
    for entry in space:
        if isinstance(entry.what, Choices):
            known: dict[str, str] = {}
            for text in entry.what.values:
                value = repr(_parsed(args, entry, text, check))
                if value in known:
                    same = f"{known[value]} and {text} are the same value; leave one out"
                    raise UserError(f"{entry.place}: {entry.key}: {same}")
                known[value] = text
            found.append(entry)
        else:
            found.append(replace(entry, what=_typed_range(args, entry, entry.what, check)))
    return found


def _typed_range(args: Sequence[str], entry: Entry, what: Range, check: Check) -> Range:
    """A range of whole numbers if the setting takes no others, however its ends are written."""
    ends = [_parsed(args, entry, as_flag(end), check) for end in (what.low, what.high)]
    if any(isinstance(end, bool) or not isinstance(end, (int, float)) for end in ends):
        raise UserError(f"{entry.place}: {entry.key}: expected a list of values, found a range of numbers")
    try:
        _parsed(
            args, entry, as_flag(what.low + min(0.5, (what.high - what.low) / 2)), lambda config, key: None
        )
        return replace(what, whole=False)
    except UserError:
        step = what.step
        if step is not None and not float(step).is_integer():
            line = f"expected a whole step, found {step:g}: the setting is a whole number"
            raise UserError(f"{entry.place}: {entry.key}: {line}") from None
        low, high = map(int, ends)
        return replace(what, low=low, high=high, step=None if step is None else int(step), whole=True)


def _parsed(args: Sequence[str], entry: Entry, text: str, check: Check) -> Any:
    """A value as `fit` reads it."""
    try:
        config = _parser().parse_args([*args, f"--{entry.key}={text}"])
        check_bounds({entry.key: config[entry.key]}, BOUNDS)
        check(config, entry.key)
    except (argparse.ArgumentError, UserError) as error:
        line = error.message if isinstance(error, argparse.ArgumentError) else str(error)
        raise UserError(f"{entry.place}: {line.partition('; set --')[0]}") from error
    return config[entry.key]


def own_values(
    space: Sequence[Entry], args: Sequence[str], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The start's own values of the searched settings, and the keys whose value is outside of the space.

    Args:
        space: What is searched.
        args: Flags of `fit`.
        settings: The same as nested plain values.
    """
    values: dict[str, Any] = {}
    outside = []
    for entry in space:
        own = value_of(settings, entry.key)
        if isinstance(entry.what, Range):
            if entry.what.holds(own):
                values[entry.key] = own
        else:
            for text in entry.what.values:
                if value_of(settings_of(args, {entry.key: text}), entry.key) == own:
                    values[entry.key] = text
        if entry.key not in values:
            outside.append(entry.key)
    return values, outside


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """Values of settings as flags."""
    return [f"--{key}={as_flag(value)}" for key, value in values.items()]


def settings_of(args: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a command line with other values, as nested plain values."""
    config = _parser().parse_args([*args, *flags_of(values)])
    config.pop("config", None)
    return plain(config)
