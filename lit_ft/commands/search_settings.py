"""The settings that a search starts from, and its space under the types of `fit`'s parser."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from lit_ft.classifier.own_callbacks import VALIDATION
from lit_ft.classifier.parser import Parser, add_groups, link_groups
from lit_ft.errors import UserError
from lit_ft.report.scores import OF_FIT, console
from lit_ft.settings.bounds import BOUNDS, check_bounds
from lit_ft.settings.flags import add_run_flags
from lit_ft.settings.space import Choices, Entry, Range, as_flag


def fit_parser(exit_on_error: bool = True) -> Parser:
    """A parser of `fit`'s settings. Without `exit_on_error` a mistake is an `ArgumentError` with its line."""
    parser = Parser(prog="python -m lit_ft", exit_on_error=exit_on_error)
    parser.add_argument("-c", "--config", action="config")
    add_run_flags(parser)
    add_groups(parser)
    link_groups(parser)
    return parser


@dataclass(frozen=True)
class Start:
    """The settings that a search starts from.

    Attributes:
        args: The command line of `fit`, with every config resolved to a file.
        config: The parsed settings, as nested plain values.
    """

    args: tuple[str, ...]
    config: dict[str, Any]

    @property
    def seed(self) -> int:
        """Of the trials and of the sampler."""
        return self.config["seed_everything"]

    @property
    def monitor(self) -> str:
        """The validation figure by which trials are compared."""
        return self.config["monitor"]

    @property
    def maximise(self) -> bool:
        """Whether it is better when it is high."""
        return bool(VALIDATION[self.monitor].higher_is_better)

    def value(self, key: str) -> Any:
        """The value of a setting, such as `model.learning_rate`."""
        found: Any = self.config
        for name in key.split("."):
            found = found[name] if isinstance(found, dict) and name in found else None
        return found


def read_start(args: Sequence[str]) -> Start:
    """Parse the command line of a fit.

    Raises:
        UserError: No figure of that name can choose the best trial.
    """
    parser = fit_parser()
    config = parser.parse_args(list(args))
    check_bounds({"seed_everything": config.seed_everything})
    known = [f"val/{score.name}" for score in console(OF_FIT)]
    if config.monitor not in known:
        listed = ", ".join(dict.fromkeys(known))
        raise UserError(f"expected --monitor to be one of {listed}, found {config.monitor!r}")
    config.pop("config", None)
    return Start(tuple(args), yaml.safe_load(parser.dump(config, skip_none=False)))


def typed(space: Sequence[Entry], start: Start) -> list[Entry]:
    """The space with the types that the settings have; `{low: 0, high: 1}` of a number is no choice of two.

    Raises:
        UserError: A value that `fit` would refuse, with its file and line.
    """
    parser = fit_parser(exit_on_error=False)
    found = []
    for entry in space:
        if isinstance(entry.what, Choices):
            for text in entry.what.values:
                _parsed(parser, start, entry, text)
            found.append(entry)
            continue
        ends = [_parsed(parser, start, entry, as_flag(end)) for end in (entry.what.low, entry.what.high)]
        for end in ends:
            if isinstance(end, bool) or not isinstance(end, (int, float)):
                raise UserError(
                    f"{entry.place}: {entry.key}: expected a list of values, found a range of numbers"
                )
        whole = entry.what.whole and all(isinstance(end, int) for end in ends)
        found.append(replace(entry, what=replace(entry.what, whole=whole)))
    return found


def _parsed(parser: Parser, start: Start, entry: Entry, text: str) -> Any:
    """A value as `fit` reads it."""
    try:
        config = parser.parse_args([*start.args, f"--{entry.key}={text}"])
        value = config[entry.key]
        check_bounds({entry.key: value}, BOUNDS)
    except (argparse.ArgumentError, UserError) as error:
        line = error.message if isinstance(error, argparse.ArgumentError) else str(error)
        raise UserError(f"{entry.place}: {line.partition('; set --')[0]}") from error
    return value


def own_values(space: Sequence[Entry], start: Start) -> tuple[dict[str, Any], list[str]]:
    """The start's own values of the searched settings, and the keys whose value is outside of the space."""
    parser = fit_parser(exit_on_error=False)
    values: dict[str, Any] = {}
    outside = []
    for entry in space:
        own = start.value(entry.key)
        if isinstance(entry.what, Range):
            if entry.what.holds(own):
                values[entry.key] = own
        else:
            for text in entry.what.values:
                parsed = parser.parse_args([*start.args, f"--{entry.key}={text}"])
                plain = yaml.safe_load(parser.dump(parsed, skip_none=False))
                if Start((), plain).value(entry.key) == own:
                    values[entry.key] = text
        if entry.key not in values:
            outside.append(entry.key)
    return values, outside


def flags_of(values: Mapping[str, Any]) -> list[str]:
    """The flags of a trial."""
    return [f"--{key}={as_flag(value)}" for key, value in values.items()]


def settings_of(start: Start, values: Mapping[str, Any]) -> dict[str, Any]:
    """The start's settings with other values, as nested plain values."""
    parser = fit_parser()
    config = parser.parse_args([*start.args, *flags_of(values)])
    config.pop("config", None)
    return dict(yaml.safe_load(parser.dump(config, skip_none=False)))
