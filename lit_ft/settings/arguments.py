"""`--config NAME` on a command line: the file that it means, and the config that runs by default."""

import difflib
import os
import sys
from pathlib import Path

from lit_ft.errors import UserError

DEFAULT_CONFIGS = {
    **dict.fromkeys(
        ("fit", "validate", "test", "predict", "check", "verify-resume", "repeat", "search"),
        ("sample.yaml", "embedded reviews and a tiny BERT, no network"),
    ),
    "sft": ("imdb.yaml", "stanfordnlp/imdb and bert-base-cased; sample_sft.yaml needs no network"),
}
# Flags that name the user's own data or model, unless they have the sample's value.
OWN: dict[str, str | None] = {
    f"--data.{split}_path": None for split in ("train", "validation", "test", "predict")
}
OWN |= {"--data.source": "sample", "--model.pretrained": "sample", "--data": None, "--model": None}
TRAINING = (
    "fit",
    "check",
    "sft",
    "verify-resume",
    "repeat",
    "search",
)  # they need data; the other commands take it from a checkpoint


def configs_dir() -> Path:
    """The folder of the packaged configs: inside an installed wheel, or beside the source package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def packaged_configs() -> list[str]:
    """File names of the packaged configs, sorted."""
    return sorted(path.name for path in configs_dir().glob("*.yaml"))


def find_config(name: str) -> Path:
    """The config file that `--config NAME` means.

    Args:
        name: A path to a file, or the name of a packaged config, with or without `.yaml`. `configs/yelp.yaml`
            is such a name too, so that a command from the README works in any folder.
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
    """The configs in `args`, in order: (index, number of arguments taken, value) of each."""
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
    """The stem of the first `--config` in `args`, which names a run without `--name`."""
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


def without_flags(args: list[str], *flags: str) -> list[str]:
    """`args` without these flags and their values."""
    kept, dropping = [], False
    for arg in args:
        dropping = arg in flags or (dropping and not arg.startswith("-"))
        if not dropping and arg.partition("=")[0] not in flags:
            kept.append(arg)
    return kept


def names_own(args: list[str]) -> bool:
    """Whether flags name data or a model, for which the settings of the toy sample are wrong."""
    given = {flag: flag_value(args, flag) for flag in OWN}
    return any(value not in (None, "null", OWN[flag]) for flag, value in given.items())


def needs_default_config(command: str, args: list[str]) -> bool:
    """Whether `command` runs its default config: no config is named, and no flag says what to run."""
    if command not in DEFAULT_CONFIGS or config_values(args) or names_own(args):
        return False
    if asks_help(args):
        return False
    if command in TRAINING:
        return True
    # A checkpoint has its own settings; with --name, best and last are looked up in the folder of that run.
    return flag_value(args, "--ckpt_path") in (None, "best", "last") and flag_value(args, "--name") is None


def asks_help(args: list[str]) -> bool:
    """Whether a command line asks for a help text, of the command or of a class."""
    return any(
        arg in ("-h", "--help", "--help_all") or arg.partition("=")[0].endswith(".help") for arg in args
    )


def resolve_configs(command: str, args: list[str]) -> list[str]:
    """`args` with the file of each config, or the default one, in front, so that flags always win."""
    args = list(args)
    of_sft = command == "verify-resume" and "sft" in args
    name, text = DEFAULT_CONFIGS.get("sft" if of_sft else command, ("", ""))
    if needs_default_config(command, args):
        sys.stderr.write(f"lit_ft: no --config given, using {name} ({text})\n")
        args[:0] = ["--config", name]
    elif command in TRAINING and not config_values(args) and not asks_help(args):
        first = (
            os.environ.get("LOCAL_RANK", "0") == "0"
        )  # Lightning starts the other ranks with the same flags
        told = f"your own data or model with the defaults of `{command} --help`, not with {name}'s settings"
        sys.stderr.write(f"lit_ft: no --config given: {told}\n" if first else "")
    configs: list[str] = []
    for index, taken, value in reversed(config_values(args)):
        configs[:0] = ["--config", str(find_config(value))]
        del args[index : index + taken]
    return configs + args
