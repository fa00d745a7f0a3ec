"""The entry of the command line: standard library only, so that `--help` and typing errors answer at once.

It knows the commands, turns `--config NAME` into a file, and then imports the module that does the work. A
mistake of the user ends here as one line on stderr and exit code 2.
"""

import difflib
import importlib
import io
import sys

from lit_ft import __version__
from lit_ft.errors import UserError, exit_code_of, one_line
from lit_ft.launcher import ignore_strays
from lit_ft.machine import set_environment
from lit_ft.settings.arguments import DEFAULT_CONFIGS, packaged_configs, resolve_configs

COMMANDS = {  # command -> (module with main(command, args) -> int, what it does)
    "fit": ("fit", "train and validate the classifier"),
    "validate": ("fit", "measure a checkpoint on the validation split"),
    "test": ("fit", "measure a checkpoint on the test split"),
    "predict": ("fit", "write predictions.csv for a file of texts"),
    "check": ("check", "check the data before any training: duplicates, leakage, labels, lengths"),
    "repeat": ("repeat", "fit with several seeds, on several folds: how far a figure can be trusted"),
    "search": ("search", "try other settings, and say what the best ones are worth"),
    "sft": ("sft", "adapt an encoder to your texts by masked-word prediction"),
    "fill-mask": ("fill_mask", "show what a masked language model puts in place of [MASK]"),
    "verify-resume": (
        "verify_resume",
        "prove on your config that a killed run resumes exactly",
    ),
    "report": ("report", "write a run's report.html again, or compare several runs"),
}


# Checked before their modules import torch
EARLY = ("fit", "validate", "test", "predict", "check", "repeat", "search")


def usage() -> str:
    """The text of `python -m lit_ft --help`."""
    lines = "\n".join(f"  {name:<13} {text}" for name, (_, text) in COMMANDS.items())
    return f"""usage: python -m lit_ft COMMAND [--config NAME_OR_FILE] [--key value ...]

lit_ft {__version__}: fine-tune an encoder on your own texts with PyTorch Lightning.

commands:
{lines}

examples:
  python -m lit_ft fit --config sample.yaml                     # a minute, no network
  python -m lit_ft test --config sample.yaml --ckpt_path best   # then measure it

`COMMAND --help` explains the settings that matter most, `--help_all` every one.
Packaged configs: {", ".join(packaged_configs())}
"""


def run(args: list[str]) -> int:
    """Runs one command and returns its exit code."""
    if not args or args[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    if args[0] == "--version":
        sys.stdout.write(f"lit_ft {__version__}\n")
        return 0
    command = args[0]
    if command not in COMMANDS:
        swapped = [name for name in COMMANDS if sorted(name) == sorted(command)]  # `fti` is fit, not sft
        close = swapped or difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(f"unknown command {command!r}; {hint}the commands are {', '.join(COMMANDS)}")
    rest = resolve_configs(command, args[1:]) if command in DEFAULT_CONFIGS else args[1:]
    set_environment()
    if strays := ignore_strays(command):
        sys.stderr.write(f"warning: {one_line(strays)}\n")
    # Lightning 2.6.6 (fabric/strategies/launchers/subprocess_script.py) starts the other ranks with sys.argv:
    # `python -m lit_ft.__main__ ARGS` after `python -m`, else the console script at sys.argv[0].
    sys.argv[1:] = [command, *rest]
    if command in EARLY:
        importlib.import_module("lit_ft.commands.early").check(command, rest)
    try:
        module = importlib.import_module(f"lit_ft.commands.{COMMANDS[command][0]}")
    except ModuleNotFoundError as ex:
        if ex.name is None or "." in ex.name:  # our own module, or a part of an installed library
            raise
        advice = "run: pip install -c constraints.txt -e ."
        raise UserError(f"the library {ex.name!r} is not installed; {advice}") from ex
    return module.main(command, rest)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's own) and returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escapes what the console's encoding lacks, such as \u597d
            stream.reconfigure(errors="backslashreplace")
    return exit_code_of(lambda: run(list(sys.argv[1:] if argv is None else argv)))


def console() -> None:
    """The console script `lit-ft`."""
    raise SystemExit(main())


if __name__ == "__main__":
    console()
