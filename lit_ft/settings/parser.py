"""jsonargparse's errors as one line: what was expected, what was found, where, and the nearest valid key.

jsonargparse 4.53 prints the usage (a hundred lines here) and then a message that names neither the config
file nor the line. The texts matched below are those of its `_core.py`, `_typehints.py` and `_actions.py`;
a text that is not recognised still ends as one line.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from lit_ft.errors import UserError, one_line
from lit_ft.settings.config_file import (
    ConfigFile,
    as_found,
    is_odd_number,
    misread_values,
    read_config,
    reading,
)
from lit_ft.settings.keys import class_problem, like_group, nearest, type_words, typehint, valid_keys
from lit_ft.settings.secrets import NAME, VALUE, refuse_secret_arguments, refuse_secrets


@dataclass
class Problem:
    """One explained error: `key` as the parser that met it names it, `text` what was expected and found."""

    key: str
    text: str
    nearest: str | None = None
    unknown: bool = False


@dataclass
class Parsing:
    """What was read so far of one command line; the parsers of its parts share it."""

    flags: dict[str, str] = field(default_factory=dict)  # flag -> its last value, as typed
    files: list[ConfigFile] = field(default_factory=list)
    current: ConfigFile | None = None  # the file being read now

    def misread(self, key: str) -> list[str]:
        """The unquoted values of a key that YAML does not read as text."""
        if self.current is not None:
            return self.current.misread.get(key, [])
        return misread_values(self.flags.get(f"--{key}", ""))

    def place(self, key: str) -> str:
        """The place where a key, or the class that has it, is set: ` (FILE, line N)`; empty for a flag."""
        if self.current is not None:
            return f" ({self.current.place(key) if key else self.current.name})"
        while "." in key and f"--{key}" not in self.flags:
            for config in reversed(self.files):
                if key in config.lines:
                    return f" ({config.place(key)})"
            key = key.rpartition(".")[0]
        return ""


NO_KEYS = "there are no keys"
_parsing: ContextVar[Parsing | None] = ContextVar("_parsing", default=None)


class HelpAll(argparse._HelpAction):
    """`--help_all`: every setting, where `--help` shows those that matter."""

    def __call__(self, parser: Any, *args: Any, **kwargs: Any) -> None:
        parser.shown = ()
        super().__call__(parser, *args, **kwargs)


class OneLineErrors(ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2, never a usage text.

    Put it first: `class Parser(OneLineErrors, LightningArgumentParser)`.

    Args:
        shown: The settings that `--help` explains, while `--help_all` explains all; empty for no such split.
        allow_abbrev: Off, because `--data.max_tok 64` is a mistake, as `max_tok` is in a file.
    """

    def __init__(
        self, *args: Any, shown: Sequence[str] = (), allow_abbrev: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, allow_abbrev=allow_abbrev, **kwargs)
        self.shown = shown
        if shown:
            self.add_argument("--help_all", action=HelpAll, help="Explain every setting and exit.")

    def format_help(self, *args: Any) -> str:
        """The help of the settings in `shown`, from the same texts as that of all."""
        if not self.shown:
            return super().format_help(*args)
        kept = {"help", "help_all", "config", *self.shown}
        hidden = [(action, action.help) for action in self._actions if action.dest not in kept]
        for action, _ in hidden:
            action.help = argparse.SUPPRESS
        self.epilog = "These are the settings that matter most; --help_all explains every setting."
        try:
            return super().format_help(*args)
        finally:
            self.epilog = None
            for action, text in hidden:
                action.help = text

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *more: Any, **kwargs: Any
    ) -> Namespace:
        if _parsing.get() is not None:  # a sub-command's parser
            return super().parse_args(args, *more, **kwargs)
        given = sys.argv[1:] if args is None else args
        token = _parsing.set(Parsing(_flags(list(map(str, given)))))
        try:
            refuse_secret_arguments(list(map(str, given)))
            found = super().parse_args(args, *more, **kwargs)
            refuse_secrets(found[found.subcommand] if "subcommand" in found else found)
            state, name, values = _parsing.get() or Parsing(), found.get("subcommand"), found
            parser: ArgumentParser = self
            if name is not None and self._subcommands_action is not None:
                parser, values = self._subcommands_action._name_parser_map[name], found[name]
            self._refuse_null(parser, values, state)
            self._refuse_odd_numbers(parser, state)
            return found
        finally:
            _parsing.reset(token)

    def _refuse_odd_numbers(self, parser: ArgumentParser, state: Parsing) -> None:
        """Refuse 010 and 1:30 as numbers, which YAML 1.1 silently reads as 8 and 90."""
        written = [(f" ({c.place(key)})", key, c.misread[key]) for c in state.files for key in c.misread]
        written += [
            ("", flag.removeprefix("--"), misread_values(value)) for flag, value in state.flags.items()
        ]
        for place, key, values in written:
            words = type_words(typehint(parser, key))
            for value in filter(is_odd_number, values):
                if "number" in words or (place and not words):
                    read = reading(value)
                    meant = f"write {read} or the number that was meant, or '{value}' for a text"
                    self._leave(f"{key}: found {value}, which YAML reads as {read}; {meant}{place}", None)

    def _refuse_null(self, parser: ArgumentParser, found: Namespace, state: Parsing) -> None:
        """Refuse null for a type without it: jsonargparse treats it as a value that was not given."""
        for key, default in ((action.dest, action.default) for action in parser._actions):
            words = type_words(typehint(parser, key))
            if words and "null" not in words and default is not None and found.get(key, 0) is None:
                places = [config.place(key) for config in state.files if key in config.lines]
                place = f" ({places[-1]})" if places and f"--{key}" not in state.flags else ""
                self._leave(f"{key}: expected {words}, found null{place}", None)

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Namespace:
        try:
            config = read_config(str(path))
            if "config" in config.lines:
                what = "a config names no further config; give --config several times"
                raise UserError(f"{config.place('config')}: {what}")
            for key, node in config.groups.items():
                _check_group(self, config, key, node)
        except UserError as ex:
            self._leave(str(ex), ex)
        state = _parsing.get() or Parsing()
        state.files.append(config)
        state.current = config
        try:
            found = super().parse_path(path, *args, **kwargs)
        except UserError:  # of a config that this one names
            raise
        except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as ex:
            # yaml 6 lets Python's own errors through, for `!!float x` and 2001-99-99
            self._leave(f"{config.name}: not valid YAML: {ex}", ex)
        finally:
            state.current = None
        refuse_secrets(found)  # here too, as --print_config would show them
        return found

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        problem = explain(self, message, ex)
        self._leave(_sentence(problem, _parsing.get() or Parsing()), ex, problem)

    def _leave(self, line: str, ex: Exception | None, problem: Problem | None = None) -> NoReturn:
        if not self.exit_on_error:  # the parser of one class in a Union: another member may still fit
            error = argparse.ArgumentError(None, line)
            error.problem = problem  # type: ignore[attr-defined]
            raise error from ex
        self.exit(2, f"lit_ft: error: {VALUE.sub('a secret', one_line(line))}\n")
        raise AssertionError("exit returned")


def _flags(args: Sequence[str]) -> dict[str, str]:
    """`--key value` and `--key=value` -> the value as it was typed, the last one of a key."""
    found = {}
    for arg, following in zip(args, [*args[1:], ""], strict=False):
        flag, equals, value = arg.partition("=")
        found[flag] = value if equals else following
    return found


def _check_group(parser: ArgumentParser, config: ConfigFile, key: str, node: yaml.Node) -> None:
    """Refuses `data: 3` and an empty `data:`, for which jsonargparse ends with a traceback."""
    if typehint(parser, key) is not None or not any(k.startswith(key + ".") for k in valid_keys(parser)):
        return
    found = "a list"
    if isinstance(node, yaml.ScalarNode):
        if (Path(config.name).parent / node.value).is_file():
            return  # a file with the group's settings
        found = "nothing" if node.value in ("", "null", "~") else as_found(node.value)
    raise UserError(f"{config.place(key)}: expected settings indented below '{key}:', found {found}")


def explain(parser: ArgumentParser, message: str, ex: Exception | None) -> Problem:
    """What jsonargparse's `message` means to a user."""
    if found := re.match(r"unrecognized arguments: (-*)([^\s=]+)(=\S*)?", message):
        key = found[2]
        if not found[1] and key in valid_keys(parser):
            value = found[3] or "=VALUE"
            return Problem(
                "", f"unexpected argument {as_found(key + (found[3] or ''))}; write --{key}{value}"
            )
        problem = _unknown(valid_keys(parser), key)
        if found[1] == "--" or problem.nearest:
            return problem
        return Problem(
            "", f"unexpected argument {as_found(found[1] + key)}; settings are written --key=value"
        )
    refused = r"(?:Group '(\w+)' does not accept option|Subcommand .+ does not accept option|Option) '(.+?)'"
    if found := re.match(refused, message):
        key = f"{found[1]}.{found[2]}" if found[1] else found[2]
        return _unknown(valid_keys(getattr(ex, "subcommand_parser", None) or parser), key)
    if found := re.match(r'Parser key "([^"]+)"(?: element \d+)?:\s*(.*)', message, re.DOTALL):
        key, rest = found[1], found[2]
        hint = typehint(parser, key)
        if (inner := _inner_problem(ex)) and not (inner.unknown and inner.text == NO_KEYS):
            close = f"{key}.{inner.nearest}" if inner.nearest else None
            return Problem(f"{key}.{inner.key}", inner.text, close, inner.unknown)
        if words := class_problem(key, hint, rest):
            return Problem(key, words)
        values = re.findall(r"(?:Got value|Given value): (.*)|Unable to load config '(.*?)'", rest, re.DOTALL)
        is_group = rest.startswith("Unable to load config")
        expected = "settings or a YAML file" if is_group else type_words(hint)
        secret = NAME.search(key)
        if expected and (values or secret):
            value = next(filter(None, values[-1]), "") if values else ""
            in_list = "value type: <class 'list'>" in rest
            shown = "a value that is not shown" if secret else _found(key, expected, value, in_list)
            return Problem(key, f"expected {expected}, found {shown}")
        return Problem(key, "not a valid value" if secret else rest)
    if found := re.match(r"argument (?:\S+/)?--([^\s:]+): expected (?:one|at least one) argument", message):
        expected = type_words(typehint(parser, found[1])) or "a value"
        return Problem(found[1], f"expected {expected}, found none (write --{found[1]}=VALUE)")
    if found := re.match(r"the following arguments are required: (.*)", message):
        subcommands = getattr(getattr(parser, "_subcommands_action", None), "choices", None) or ()
        for action in parser._actions:
            if action.dest == found[1] and not action.option_strings and not subcommands:
                return Problem("", f"expected {action.metavar}, found none; usage: {parser.usage}")
        parts = [key.partition(".") for key in found[1].split(", ")]
        keys = [last if first in subcommands else first + dot + last for first, dot, last in parts]
        if not parser.exit_on_error:  # the parser of a class
            return Problem(keys[0], "expected a value, found none; set it below init_args or as a flag")
        flags = ", ".join(f"--{key}=VALUE" for key in keys)
        return Problem("", f"expected a value for {', '.join(keys)}, found none; set {flags}")
    text = re.sub(r'\s*in "<unicode string>"', "", message)
    return Problem("", text.replace("Problems parsing config", "not valid YAML"))


def _found(key: str, expected: str, value: str, in_list: bool) -> str:
    """The value for a message, as it was written; with advice on quotes if a text was expected."""
    value = re.split(r"\n\s*- ", value)[0]  # jsonargparse continues with the other members of a Union
    misread = (_parsing.get() or Parsing()).misread(key)
    if not misread:
        given = (_parsing.get() or Parsing()).flags.get(f"--{key}")
        if value == "None" and (given == "None" or "null" in expected):
            return "the text 'None'; write null"
        return "null" if value == "None" else as_found(value)
    written, read = misread[0], reading(misread[0])
    if not re.search(r"\btexts\b" if in_list else r"\btext\b", expected):
        return as_found(written)
    reads = f", which YAML reads as {read}" if read != written else ""
    return f"{written}{reads}; write it in quotes: '{written}'"


def _inner_problem(ex: BaseException | None) -> Problem | None:
    """The problem inside a class, if `ex` only says that no member of a Union fits."""
    while ex is not None:
        problem = getattr(ex, "problem", None)
        if isinstance(problem, Problem) and problem.key:
            return problem
        ex = ex.__cause__
    return None


def unknown_key(keys: list[str], key: str, args: Sequence[str], files: list[ConfigFile]) -> str:
    """The line for a key that is not among `keys`, as a parser of those would end with."""
    return VALUE.sub("a secret", _sentence(_unknown(keys, key), Parsing(_flags(args), files)))


def _unknown(keys: list[str], key: str) -> Problem:
    group = like_group(key.rpartition(".")[0], keys)
    names = [k for k in keys if k.rpartition(".")[0] == group] or sorted({k.partition(".")[0] for k in keys})
    text = f"the keys there are {', '.join(names)}" if len(names) <= 30 else "see --help_all for the keys"
    text = text if names else NO_KEYS
    return Problem(key, text, nearest(key, keys), unknown=True)


def _sentence(problem: Problem, state: Parsing) -> str:
    key = problem.key
    if not problem.unknown:
        place = state.place(key)
        return f"{key}: {problem.text}{place}" if key else problem.text + place
    advice = f"did you mean {problem.nearest}?" if problem.nearest else problem.text
    for config in reversed(state.files):  # unknown keys of a file are reported after all files were read
        if key in config.lines:
            return f"unknown key {key} in {config.place(key)}; {advice}"
    if f"--{key}" not in state.flags:  # from a checkpoint, or from a file for one group (--data FILE)
        return f"unknown key {key}; {advice}"
    if problem.nearest:
        advice = f"did you mean --{problem.nearest}?"
    return f"unknown flag --{key}; {advice}"
