"""The flags of a search beside those of `fit`, and what can be refused before any library is loaded."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from lit_ft.commands import early
from lit_ft.errors import UserError
from lit_ft.launcher import started_by
from lit_ft.settings.arguments import config_values, flag_value, without_flags
from lit_ft.settings.config_file import read_config
from lit_ft.settings.secrets import refuse_secret_arguments

OWN = {"trials": 20, "jobs": 1, "seeds": 3}
TAKEN = ("ckpt_path", "estimate")  # flags of fit that a search has no use for


@dataclass(frozen=True)
class Options:
    """The search's own flags.

    Attributes:
        space: A file, or `default`.
        trials: How many there are to be.
        jobs: How many run at once.
        seeds: New seeds of the finals.
        rest: The flags of `fit`.
    """

    space: str
    trials: int
    jobs: int
    seeds: int
    rest: tuple[str, ...]


def search_options(args: Sequence[str]) -> Options:
    """Split the command line into the search's own flags and those of `fit`.

    Raises:
        UserError: A flag has no value, or one that has no meaning.
    """
    found: dict[str, int] = {}
    for name, default in OWN.items():
        text = _given(args, name)
        least = 0 if name == "seeds" else 1
        if text is not None and not (text.isdecimal() and int(text) >= least):
            raise UserError(f"expected a whole number of at least {least} for --{name}, found {text!r}")
        found[name] = default if text is None else int(text)
    space = _given(args, "space")
    if space is None:
        raise UserError(
            "expected --space, the file of what is searched, found none; set --space default for one that "
            "fits your task, which is then yours to edit"
        )
    rest = without_flags(list(args), "--space", *(f"--{name}" for name in OWN))
    given = {arg.partition("=")[0].removeprefix("--") for arg in rest if arg.startswith("--")}
    for name in TAKEN:
        if name in given:
            raise UserError(f"search starts runs of its own; leave out --{name}")
    return Options(space, rest=tuple(rest), **found)


def _given(args: Sequence[str], name: str) -> str | None:
    """The value of one of the search's flags; refuses it without one."""
    value = flag_value(list(args), f"--{name}")
    bare = any(arg == f"--{name}" and args[i + 1 : i + 2] in ([], ["--"]) for i, arg in enumerate(args))
    if bare or (value is not None and (value == "" or value.startswith("--"))):
        raise UserError(f"expected a value after --{name}, found none (write --{name}=VALUE)")
    return value


def check_search(options: Options) -> None:
    """What can be said before the libraries are loaded: keys, files, columns, and Optuna's absence."""
    args = list(options.rest)
    refuse_secret_arguments(args)
    if (found := started_by()) is not None:
        raise UserError(
            f"search starts the processes of its runs itself, found that {found[0]} started it; leave it out"
        )
    configs = [read_config(path) for _, _, path in config_values(args)]
    early.check_keys("fit", args, configs)
    if (settings := early.known_settings(args, configs)) is not None:
        early.check_settings("fit", settings)
    if importlib.util.find_spec("optuna") is None:
        raise UserError(
            "search needs the library optuna, which is not installed; run: pip install -c constraints.txt "
            "-e '.[search]'"
        )
