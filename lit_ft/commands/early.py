"""Before torch is imported: unknown keys, missing files and columns, and a Hub that does not answer.

The libraries take seconds to import, so that these mistakes are told first. What is uncertain here, such as a
file for a whole group or the settings of a checkpoint, is left to the command, which checks everything again.
"""

import ast
import csv
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from lit_ft import hub
from lit_ft.console import quiet
from lit_ft.data.column_names import check_names
from lit_ft.data.headers import clean_names
from lit_ft.errors import UserError
from lit_ft.launcher import global_rank
from lit_ft.runs import RUNS
from lit_ft.settings.arguments import asks_help, config_values, flag_value
from lit_ft.settings.config_file import ConfigFile, read_config
from lit_ft.settings.flags import OWN_FLAGS, RUN_FLAGS, run_name
from lit_ft.settings.secrets import refuse_secret_arguments

SAMPLE_CONFIG = "sample.yaml"
NO_SETTINGS = ("config", "print_config", "print_shtab")  # flags that set nothing
READ = {  # command -> the splits that it reads
    "fit": ("train", "validation"),
    "repeat": ("train", "validation", "test"),
    "search": ("train", "validation", "test"),
    "check": ("train", "validation", "test", "predict"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}
NEW = ("fit", "repeat", "search")  # these start runs
MOST_BYTES = 16 << 20  # of files whose columns are checked here: more would be read in silence for seconds
MEASURED = ("--data.validation_path", "--data.test_path")
LIST = "data.text_column[]"  # key of `known_settings`: a config has a list of columns, which is not kept


def check(command: str, args: list[str]) -> None:
    """Refuse what needs no library to be seen, then say that the libraries are being loaded.

    Args:
        command: `fit`, `validate`, `test`, `predict`, `check`, `repeat` or `search`.
        args: The command line after it, with every config resolved to a file.

    Raises:
        UserError: In the words that the command itself would use.
    """
    refuse_secret_arguments(args)
    name = None
    if not asks_help(args):
        configs = [read_config(path) for _, _, path in config_values(args)]
        check_keys(command, args, configs)
        if (settings := known_settings(args, configs)) is not None:
            check_settings(command, settings)
        if command in NEW:
            given = [flag_value(args, "--name"), *(config.values.get("name") for config in configs[::-1])]
            name = run_name(next(filter(None, given), None), args)
    tell_loading(command, args, name)


def check_settings(command: str, settings: Mapping[str, str | None]) -> None:
    """Refuse missing files and columns and, for a new run, what only an unreachable Hub has."""
    paths = {f"--data.{split}_path": settings.get(f"data.{split}_path") for split in READ[command]}
    new = command in (*NEW, "check")  # the others have their columns from a checkpoint
    texts = columns_in(settings) if new else []
    label: str | None = settings.get("data.label_column") or "label"
    pair = settings.get("data.pair_column")
    if settings.get("data.label_columns", "null") not in (None, "null"):  # read in place of the one column
        label = None
    if texts:
        check_names(texts, pair, label)
    for flag, path in paths.items():
        check_files(flag, path, texts, None if "predict" in flag else label, pair)
    if command in NEW and not settings.get("ckpt_path"):
        source = None if settings.get("data.train_path") else settings.get("data.source")
        wanted = {"model": settings.get("model.pretrained"), "dataset": source}
        hub.check_cached({kind: name for kind, name in wanted.items() if name}, SAMPLE_CONFIG)


def columns_in(settings: Mapping[str, str | None]) -> list[str]:
    """The columns of texts; none if a config has a list of them, which is not kept here."""
    if LIST in settings or "data.text_column+" in settings:
        return []
    value = settings.get("data.text_column") or "text"
    if not value.startswith("["):
        return [value]
    listed = yaml.safe_load(value) if value.endswith("]") else None
    return listed if isinstance(listed, list) and all(isinstance(name, str) for name in listed) else []


def check_files(
    flag: str, path: str | None, texts: Sequence[str], label: str | None = None, pair: str | None = None
) -> None:
    """Refuse a path that names no file, and a csv that lacks a column; without `texts`, no columns."""
    if not path:
        return
    from lit_ft.data.formats import find_files  # imports pyarrow, which takes 0.2 s

    files = find_files([path], flag)
    is_small = sum(map(os.path.getsize, files)) <= MOST_BYTES
    columns = [name for name in (*texts, label, pair) if name is not None]
    if texts and is_small and any(_lacks(file, columns) for file in files):
        from lit_ft.data.corpus import read_files  # imports datasets, but not torch
        from lit_ft.data.source import check_columns

        with quiet():
            table = read_files(path, flag=flag, labelled=label is not None)
            check_columns(table, texts, label, path, pair, measured=flag in MEASURED)


def _lacks(file: str, columns: Sequence[str]) -> bool:
    """Whether the first line of a csv may lack a column; whoever reads the whole file knows for certain."""
    suffix = Path(file).suffix.lower()
    if suffix not in (".csv", ".tsv"):
        return False
    with open(file, encoding="utf-8-sig", errors="replace", newline="") as lines:
        header = next(csv.reader([lines.readline()], delimiter="\t" if suffix == ".tsv" else ","), [])
    return not set(columns) <= set(clean_names(header))


def check_keys(command: str, args: list[str], configs: Sequence[ConfigFile]) -> None:
    """Refuse a key that no setting of the command has; deeper ones, such as a callback's, are its own."""
    keys = known_keys(command)
    given = [arg[2:].partition("=")[0].rstrip("+") for arg in args if arg.startswith("--") and arg != "--"]
    for config in configs:
        groups = {key.rpartition(".")[0] for key in config.lines}
        given += [key for key in config.lines if key not in groups and "<<" not in key]
    for key in given:
        group, *names = key.split(".")
        if group not in NO_SETTINGS and ".".join([group, *names[:1]]) not in keys:
            for owner, own in OWN_FLAGS.items():
                if key in own and owner != command:
                    raise UserError(f"unknown flag --{key} of {command}: it is one of {owner}")
            from lit_ft.settings.parser import unknown_key

            raise UserError(unknown_key(keys, key, args, list(configs)))


def known_keys(command: str) -> list[str]:
    """The keys of a command's settings in the order of its help, read from the constructors' source."""
    package = Path(__file__).resolve().parents[1]
    lightning = importlib.util.find_spec("lightning")
    folders = (lightning.submodule_search_locations or []) if lightning else []
    keys = ["config", *OWN_FLAGS.get(command, ()), *RUN_FLAGS]
    for group, path, name in (
        ("data", package / "classifier/data.py", "YelpDataModule"),
        ("model", package / "classifier/model.py", "BertClassifier"),
        *(("trainer", Path(folder) / "pytorch/trainer/trainer.py", "Trainer") for folder in folders),
    ):
        keys += [group, *(f"{group}.{argument}" for argument in _arguments_of(path, name))]
    return keys


def _arguments_of(path: Path, name: str) -> list[str]:
    """The arguments of a class's constructor."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                    return [argument.arg for argument in (*method.args.args, *method.args.kwonlyargs)][1:]
    raise AssertionError(f"{path} has no class {name} with a constructor")


def known_settings(args: list[str], configs: Sequence[ConfigFile]) -> dict[str, str | None] | None:
    """Key -> value as it was written; None if a group comes from a file, or nothing is to be run."""
    found: dict[str, str | None] = {}
    for config in configs:
        if {"data", "model"} & config.groups.keys() or any("<<" in key for key in config.lines):
            return None
        found |= config.values
        if "data.text_column" in config.values:
            found.pop(LIST, None)
        elif "data.text_column" in config.lines:
            found[LIST] = None
        if "data.label_columns" in config.lines:  # a list, which is not kept
            found.setdefault("data.label_columns", "[]")
    for arg in args:
        flag = arg.partition("=")[0]
        if flag in ("--data", "--model", "--print_config"):
            return None
        if flag.startswith("--") and (value := flag_value(args, flag)) is not None:
            found[flag.removeprefix("--")] = None if value == "null" else value
            if flag == "--data.text_column":
                found.pop(LIST, None)
    return found


def tell_loading(command: str, args: list[str], name: str | None = None) -> None:
    """One line on standard error, by process 0, before the seconds in which nothing else can be shown.

    Args:
        command: The command.
        args: The command line after it.
        name: The run's name, if the command trains. Its folder is made later, when nothing is wrong with
            the data and the model, and is said then.
    """
    if global_rank() == 0 and "torch" not in sys.modules:
        names = [Path(path).name for _, _, path in config_values(args)]
        with_configs = f" with {', '.join(names)}" if names else ""
        into = f" into {RUNS / name}" if name else ""
        print(f"lit_ft: {command}{with_configs}{into}: loading libraries ...", file=sys.stderr, flush=True)
