"""The command line's front door: standard library only, so that `--help` and typing errors answer at once.

It knows the commands, turns `--config NAME` into a file, and then imports the one module that does the
work. What a user can mend ends here as one line on stderr and exit code 2.
"""

import difflib
import errno
import importlib
import io
import os
import sys
from pathlib import Path

from lit_ft import __version__
from lit_ft.environment import set_environment
from lit_ft.errors import UserError, chain, one_line
from lit_ft.launcher import ignore_strays

COMMANDS = {  # command -> (module with main(command, args) -> int, what it does)
    "fit": ("cli", "train and validate the classifier"),
    "validate": ("cli", "measure a checkpoint on the validation split"),
    "test": ("cli", "measure a checkpoint on the test split"),
    "predict": ("cli", "write predictions.csv for a file of texts"),
    "check": ("check", "look through the data before any training: duplicates, leakage, labels, lengths"),
    "sft": ("sft", "adapt an encoder to your texts by masked-word prediction"),
    "fill-mask": ("fill_mask", "show what a masked language model puts in place of [MASK]"),
    "verify-resume": (
        "verify_resume",
        "prove on a config that a killed run resumes exactly",
    ),
    "report": ("report", "write a run's report.html again, or compare several runs"),
}
DEFAULT_CONFIGS = {
    **dict.fromkeys(
        ("fit", "validate", "test", "predict", "check", "verify-resume"),
        ("sample.yaml", "embedded reviews and a tiny BERT, no network"),
    ),
    "sft": ("imdb.yaml", "stanfordnlp/imdb and bert-base-cased; sample_sft.yaml needs no network"),
}
# Flags that name somebody's own data or model, if not with a value of the sample's.
OWN: dict[str, str | None] = {
    f"--data.{split}_path": None for split in ("train", "validation", "test", "predict")
}
OWN |= {"--data.source": "sample", "--model.pretrained": "sample", "--data": None, "--model": None}
TRAINING = ("fit", "check", "sft", "verify-resume")  # they need data; the others' is a checkpoint's
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
UNWRITABLE |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}

# torch 2.13, caffe2/serialize/inline_container.cc, while writing
CUT_SHORT = ("] . unexpected pos ", "PytorchStreamWriter failed writing")


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

`COMMAND --help` explains every setting. Packaged configs: {", ".join(packaged_configs())}
"""


def configs_dir() -> Path:
    """The folder of the packaged configs: inside an installed wheel, else beside the source package."""
    package = Path(__file__).resolve().parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def packaged_configs() -> list[str]:
    """File names of the packaged configs, sorted."""
    return sorted(path.name for path in configs_dir().glob("*.yaml"))


def find_config(name: str) -> Path:
    """The config file that `--config NAME` means.

    Args:
        name: A path, used as given if it is a file; else the name of a packaged config, with or without
            `.yaml` (`configs/yelp.yaml` too, so that a command from the README works in any folder).
    """
    given = Path(os.path.expanduser(name))
    if given.exists() and not given.is_dir():
        return given
    if name and str(given.parent) in (".", "configs"):
        for candidate in (given.name, given.name + ".yaml"):
            if candidate in packaged_configs():
                return configs_dir() / candidate
    close = difflib.get_close_matches(given.name, packaged_configs(), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    found = "is a folder" if given.is_dir() else "does not exist"
    listed = ", ".join(packaged_configs()) or f"none in {configs_dir()}"
    raise UserError(f"--config {name!r} {found}, nor is it a packaged config{hint}; packaged are: {listed}")


def config_values(args: list[str]) -> list[tuple[int, int, str]]:
    """Where `args` name configs: (index, number of arguments taken, value) for each, in order."""
    found, index = [], 0
    while index < len(args):
        flag, equals, value = args[index].partition("=")
        taken = 1
        if flag in ("--config", "-c"):
            if not equals:
                if index + 1 == len(args):
                    listed = ", ".join(packaged_configs())
                    raise UserError(f"{flag}: expected a config's name after it; packaged are: {listed}")
                value, taken = args[index + 1], 2
            found.append((index, taken, value))
        index += taken
    return found


def first_config_stem(args: list[str]) -> str | None:
    """The stem of the first `--config` in `args`, which is a run's name where no `--name` is given."""
    values = config_values(args)
    return Path(values[0][2]).stem if values else None


def flag_value(args: list[str], flag: str) -> str | None:
    """The value of the last `flag VALUE` or `flag=VALUE` in `args`."""
    value = None
    for index, arg in enumerate(args):
        if arg == flag and index + 1 < len(args):
            value = args[index + 1]
        elif arg.startswith(flag + "="):
            value = arg.removeprefix(flag + "=")
    return value


def names_own(args: list[str]) -> bool:
    """Whether flags name data or a model: their settings are not the sample's, which is a toy."""
    given = {flag: flag_value(args, flag) for flag in OWN}
    return any(value not in (None, "null", OWN[flag]) for flag, value in given.items())


def needs_default_config(command: str, args: list[str]) -> bool:
    """Whether `command` runs its default config: none is named, and nothing else says what to run."""
    if command not in DEFAULT_CONFIGS or config_values(args) or names_own(args):
        return False
    if _asks_help(args):
        return False
    if command in TRAINING:
        return True
    # A checkpoint knows its own settings; with --name, best and last are looked up in that run's folder.
    return flag_value(args, "--ckpt_path") in (None, "best", "last") and flag_value(args, "--name") is None


def _asks_help(args: list[str]) -> bool:
    return any(arg in ("-h", "--help") or arg.partition("=")[0].endswith(".help") for arg in args)


def resolve_configs(command: str, args: list[str]) -> list[str]:
    """`args` with every config's file, or the default one, in front: flags win wherever they stand."""
    args = list(args)
    of_sft = command == "verify-resume" and "sft" in args
    name, text = DEFAULT_CONFIGS.get("sft" if of_sft else command, ("", ""))
    if needs_default_config(command, args):
        sys.stderr.write(f"lit_ft: no --config given, using {name} ({text})\n")
        args[:0] = ["--config", name]
    elif command in TRAINING and not config_values(args) and not _asks_help(args):
        first = os.environ.get("LOCAL_RANK", "0") == "0"  # Lightning starts the others with the same flags
        told = f"your own data or model with the defaults of `{command} --help`, not with {name}'s settings"
        sys.stderr.write(f"lit_ft: no --config given: {told}\n" if first else "")
    configs: list[str] = []
    for index, taken, value in reversed(config_values(args)):
        configs[:0] = ["--config", str(find_config(value))]
        del args[index : index + taken]
    return configs + args


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
    if command == "fit":  # answers before the command's module has imported torch
        importlib.import_module("lit_ft.preflight").check(rest)
    try:
        module = importlib.import_module(f"lit_ft.{COMMANDS[command][0]}")
    except ModuleNotFoundError as ex:
        if ex.name is None or "." in ex.name:  # a part of ours, or of a library that is there
            raise
        advice = "run: pip install -c constraints.txt -e ."
        raise UserError(f"the library {ex.name!r} is not installed; {advice}") from ex
    return module.main(command, rest)


def unwritable(ex: BaseException | None) -> str | None:
    """One line for a full disk or a forbidden path that is behind `ex`, else None."""
    was_cut_short = False
    for link in chain(ex):
        if isinstance(link, OSError) and link.errno in UNWRITABLE:
            where = f": {link.filename}" if link.filename else f", working in {Path.cwd()}"
            return f"{link.strerror or os.strerror(link.errno)}{where}"
        if "(os error 28)" in str(link):  # safetensors 0.8 writes in Rust and raises its own error
            return f"No space left on device, working in {Path.cwd()}: {link}"
        # After a short write torch.save complains of the archive's end; given a file and not a path, it keeps
        # the system's own error behind that.
        was_cut_short |= isinstance(link, RuntimeError) and any(words in str(link) for words in CUT_SHORT)
    return f"No space left on device, working in {Path.cwd()}" if was_cut_short else None


def fail(message: str, code: int = 2) -> int:
    """Prints `message` as one line on stderr and returns `code`."""
    sys.stderr.write(f"lit_ft: error: {one_line(message)}\n")
    return code


def main(argv: list[str] | None = None) -> int:
    """Runs the command line `argv` (default: the process's own) and returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a console's encoding lacks is escaped, such as \u597d
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, where a closed pipe is handled, and not while Python exits
        return code
    except UserError as ex:
        return fail(str(ex))
    except KeyboardInterrupt:
        sys.stderr.write("\nlit_ft: interrupted\n")
        return 130
    except BrokenPipeError:  # `lit_ft ... | head`: nobody reads any more, also not Python's flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as ex:
        return fail(f"the machine's memory ran out ({ex or 'in Python'}); take less data or a smaller model")
    except Exception as ex:
        problem = unwritable(ex)
        if problem is None:
            raise
        return fail(problem)


def console() -> None:
    """The console script `lit-ft`."""
    raise SystemExit(main())


if __name__ == "__main__":
    console()
