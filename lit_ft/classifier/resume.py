"""Reading the checkpoints of a fit: opened safely, checked, compared with the settings."""

import contextlib
import math
import os
import re
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lit_ft import runs
from lit_ft.console import warn
from lit_ft.data.column_names import listed_columns, named
from lit_ft.data.tags import TagMapping
from lit_ft.errors import UserError, first_line, unusable
from lit_ft.reliability.checkpoints import HARMLESS
from lit_ft.settings.config_file import keys_of_configs, places_of
from lit_ft.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

# How the model reads a text: a checkpoint is evaluated as it was trained, unless a flag says otherwise.
READING = (
    *("max_tokens", "truncation", "text_separator", "column_names", "unescape", "strip_html_breaks"),
    "threshold",
)
# What the classes are: always those of training.
CLASSES = ("task", "label_type", "label_base", "label_names", "ordered")
# Where the data is: as in training, if neither config nor flags say it.
LOCATION = (
    "source subset train_split validation_split test_split train_path validation_path test_path "
    "text_column pair_column label_column label_columns label_separator slice_columns"
).split()
# Which rows were held out, and which trained on: always those of training.
HELD_OUT = ("validation_share", "split_seed", "group_column", "folds", "fold", "train_share")
TRAINING = {"compile"}  # of the model's settings: evaluation ignores it
AFTERWARDS = {"decide", "clip"}  # come after the model: as in training, unless a flag says otherwise


def _instead_of(checkpoint: Path) -> str:
    """What to do without a checkpoint: those of a run of `repeat` are removed when it has been measured."""
    run = checkpoint.parent.parent
    if checkpoint.parent.name != runs.CHECKPOINTS or not (run / runs.MODEL / "config.json").is_file():
        return "set --ckpt_path to best, last or a file that exists"
    return (
        f"it was removed (`repeat --keep all` keeps checkpoints): `fit --config {run / runs.CONFIG}` makes "
        f'the run again, and pipeline("text-classification", "{run / runs.MODEL}") loads its model'
    )


def open_checkpoint(path: Path, verified: bool = False) -> dict[str, Any]:
    """Open a checkpoint of this program, its tensors mapped from the file; no code in it is run.

    Args:
        path: The file.
        verified: Whether `locate` has just checked the file's checksums.

    Raises:
        UserError: There is no such file, it is damaged, or something else wrote it.
    """
    if path.is_dir():
        start = path if (path / "config.json").is_file() else path / runs.MODEL
        hint = f" (--model.pretrained={start} starts a fit from its encoder)" if start.is_dir() else ""
        raise UserError(
            f"expected a .ckpt file that `fit` wrote, found the folder {path}{hint}; set --ckpt_path to "
            "best, last or such a file"
        )
    if not path.is_file():
        raise UserError(f"no checkpoint {path}; {_instead_of(path)}")
    if not verified and not runs.is_readable(path):
        whole = zipfile.is_zipfile(path)
        what = "damaged (its checksums do not match)" if whole else "not a checkpoint, or cut off"
        raise UserError(f"{path} is {what}; set --ckpt_path to another one")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler's errors have no common class
        reason = first_line(error)
        raise UserError(
            f"{path} cannot be opened as weights alone ({reason}); set --ckpt_path to another one"
        ) from None
    if (
        not isinstance(checkpoint, dict)
        or not {"settings", "encoder_config", "state_dict"} <= checkpoint.keys()
    ):
        raise UserError(
            f"{path} is not a checkpoint of a lit_ft classifier; set --ckpt_path to one that `fit` wrote"
        )
    check_form(checkpoint, path)
    return checkpoint


def locate(
    name: str, ckpt_path: str, command: str, asked: bool = True, among: list[Path] | None = None
) -> Path | None:
    """The file that `--ckpt_path` means; None for a `fit` that has nothing to resume.

    A run without a validation has no best checkpoint: its last one is used unless `best` was asked for.

    Args:
        name: The run's name.
        ckpt_path: `best`, `last` or a file.
        command: The command, such as `test`.
        asked: Whether `--ckpt_path` was given on the command line or in a config.
        among: The run folders to search, newest first; by default all of the name.

    Raises:
        UserError: Another command than `fit` finds no readable checkpoint.
    """
    if ckpt_path not in ("best", "last"):
        return Path(os.path.expanduser(ckpt_path))
    found, damaged = runs.find_checkpoint(name, ckpt_path, among)
    for path in damaged:
        warn(f"{path} is damaged or cut off, and skipped" + (f" for {found}" if found else ""))
    if command == "fit":
        return found
    last = None if ckpt_path == "last" else runs.find_checkpoint(name, "last", newer_than=found)[0]
    if found is not None:
        if last is not None:
            warn(f"{last} is of a newer run, which has no best checkpoint; --ckpt_path {last} uses it")
        return found
    if last is not None and not asked and not damaged:
        warn(f"no validation took place, so there is no best checkpoint: using {last}")
        return last
    others = sorted(path.name for path in runs.RUNS.glob("*") if runs.versions(path.name))
    hint = f"run `fit --name {name}` first, or set --name or --ckpt_path"
    if last is not None:
        hint = f"{'' if damaged else 'no validation took place; '}set --ckpt_path last for {last}"
    elif others and name not in others:
        hint = f"{hint} (names here: {', '.join(others[:10])})"
    raise UserError(f"no readable checkpoint '{ckpt_path}' in {runs.RUNS / name}/version_*; {hint}")


def take_over_settings(checkpoint: dict[str, Any], path: Path, config: Any, args: list[str]) -> None:
    """Evaluate with the checkpoint's settings where the command does not say otherwise.

    Args:
        checkpoint: The opened checkpoint.
        path: The checkpoint's path, for the message.
        config: The command's parsed settings; changed in place.
        args: The command line, which tells what was given.

    Raises:
        UserError: The command asks for another model than the checkpoint holds.
    """
    then = checkpoint["settings"]
    flags = {arg.partition("=")[0].removeprefix("--") for arg in args if arg.startswith("--")}
    given = flags | keys_of_configs(args)
    if whole := flags & {"data", "model"}:
        raise UserError(
            f"expected single settings with a checkpoint, found --{whole.pop()}; write --data.KEY=VALUE"
        )
    for key in CLASSES:
        if f"data.{key}" in flags and config.data[key] != then["data"][key]:
            raise UserError(f"the classes are the checkpoint's: leave out --data.{key}")
        config.data[key] = then["data"][key]
    for key in HELD_OUT:
        if f"data.{key}" in flags and config.data[key] != then["data"][key]:
            raise UserError(
                f"the held-out texts are the checkpoint's: data.{key} is {config.data[key]} here and "
                f"{then['data'][key]} there; leave out --data.{key}"
            )
        config.data[key] = then["data"][key]
    for key in READING:
        if f"data.{key}" not in flags:
            config.data[key] = then["data"][key]
    elsewhere = "data.source" in flags  # then the training files' paths do not count
    for key in LOCATION:
        if f"data.{key}" not in given and not (elsewhere and key.endswith("_path")):
            config.data[key] = then["data"][key]
    _check_columns(config.data, then["data"])
    for key, value in config.model.items():
        if key in HARMLESS["model"] | TRAINING or (key in AFTERWARDS and f"model.{key}" in flags):
            continue
        asked = f"model.{key}" in flags or (key == "pretrained" and "model.pretrained" in given)
        if asked and value != then["model"][key]:
            advice = f"leave out --model.{key}"
            if place := places_of(args).get(f"model.{key}"):  # a config's, so there is no flag to leave out
                advice = f"{place} sets it: add --model.{key}={then['model'][key]}"
            raise UserError(
                f"{path} is a checkpoint of another model: model.{key} is {value!r} here and "
                f"{then['model'][key]!r} there; {advice} or set --ckpt_path"
            )
        config.model[key] = then["model"][key]


def _check_columns(data: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Refuse single texts for a model of pairs, pairs for one of texts, and names that it never saw."""
    now, before = data["pair_column"], then["pair_column"]
    if (now is None) != (before is None):
        held = "single texts" if before is None else f"pairs (data.pair_column={before})"
        found = "null" if now is None else f"'{now}'"
        advice = "leave it out" if before is None else "set --data.pair_column to the column of second texts"
        raise UserError(f"the checkpoint's model reads {held}, found data.pair_column {found}; {advice}")
    columns = listed_columns(then["text_column"])
    if data["column_names"] and listed_columns(data["text_column"]) != columns:
        raise UserError(
            f"the checkpoint's model reads {named(columns)}, each with its name (data.column_names), found "
            f"data.text_column {data['text_column']}; rename the file's columns and leave out "
            "--data.text_column"
        )


def restored(path: Path) -> contextlib.AbstractContextManager[None]:
    """Around code that uses a checkpoint's content unchecked: one line if it is unusable."""
    return unusable(f"the checkpoint {path}", ADVICE)


@contextlib.contextmanager
def taken_over(path: Path | None) -> Iterator[None]:
    """Around a fit that resumes: one line if Lightning cannot take over the checkpoint's state.

    Only what Lightning 2.6.6 does in `restore...` of trainer/connectors/checkpoint_connector.py is the
    checkpoint's fault.
    """
    try:
        yield
    except Exception as error:
        frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
        restores = (
            c.co_name.startswith("restore") and "checkpoint_connector" in c.co_filename for c in frames
        )
        if path is None or not any(restores):
            raise
        with restored(path):
            raise


def rebuild(checkpoint: dict[str, Any], path: Path | None, datamodule: Any, model: Any) -> None:
    """Restore the data module and the model's structure; the weights are only checked.

    Raises:
        UserError: The content is unusable, or its weights would not fit.
    """
    assert path is not None
    with restored(path):
        datamodule.load_state_dict(checkpoint["YelpDataModule"])
        model.on_load_checkpoint(checkpoint)
        if isinstance(labels := model.labels, TagMapping):
            threshold = datamodule.hparams["threshold"] or labels.threshold
            separator = datamodule.hparams["label_separator"] or labels.separator
            model.labels = replace(labels, threshold=threshold, separator=separator)
            model.val_metrics.labels = model.test_metrics.labels = model.labels
    check_weights(model.state_dict(), checkpoint["state_dict"], path)


ADVICE = "set --ckpt_path to another one"
LIGHTNING = "pytorch-lightning_version"  # Lightning compares it, to migrate checkpoints of its old versions
VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.post|\.dev)\d+)*(\+[\w.]+)?")
# Keys that every command reads, and their types.
KEYS: dict[str, tuple[type, ...]] = {
    "epoch": (int,),
    "global_step": (int,),
    "num_training_steps": (int,),
    "state_dict": (dict,),
    "encoder_config": (dict,),
    "settings": (dict,),
    "settings.data": (dict,),
    "settings.model": (dict,),
    "settings.trainer": (dict,),
    "YelpDataModule": (dict,),
    "YelpDataModule.labels": (dict,),
    "YelpDataModule.labels.task": (str,),
    "YelpDataModule.tokenizer": (dict,),
    "callbacks": (dict,),
    "loops": (dict,),
}
# The same of the labels, by their task.
LABEL_KEYS: dict[str, dict[str, tuple[type, ...]]] = {
    SINGLE_LABEL.name: {"values": (list,), "names": (list,), "declared": (list,)},
    MULTI_LABEL.name: {"values": (list,), "names": (list,), "separator": (str,)},
    REGRESSION.name: {"name": (str,), **dict.fromkeys(("mean", "deviation", "low", "high"), (float,))},
}
MISSING = object()


def check_form(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint that lacks what every command reads."""
    _check_keys(checkpoint, KEYS, path)
    labels = checkpoint["YelpDataModule"]["labels"]
    if labels["task"] not in LABEL_KEYS:
        known = ", ".join(LABEL_KEYS)
        raise UserError(
            f"{path} is damaged: expected labels of the task {known}, found {labels['task']!r:.40}; {ADVICE}"
        )
    own = LABEL_KEYS[labels["task"]]
    _check_keys(checkpoint, {f"YelpDataModule.labels.{key}": types for key, types in own.items()}, path)
    version = checkpoint.get(LIGHTNING)
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise UserError(f"{path} is damaged: expected {LIGHTNING}, found {version!r:.40}; {ADVICE}")
    temperature = checkpoint.get("temperature")
    if temperature is not None and not (isinstance(temperature, float) and 0 < temperature < math.inf):
        raise UserError(
            f"{path} is damaged: expected a temperature above 0, found {temperature!r:.40}; {ADVICE}"
        )
    if not 0 < (deviation := labels.get("deviation", 1.0)) < math.inf:
        raise UserError(f"{path} is damaged: expected a deviation above 0, found {deviation!r}; {ADVICE}")
    if (thresholds := checkpoint.get("thresholds")) is not None:
        sound = isinstance(thresholds, list) and len(thresholds) == len(labels["names"])
        if not sound or not all(isinstance(t, float) and 0 < t < 1 for t in thresholds):
            raise UserError(
                f"{path} is damaged: expected a threshold between 0 and 1 for each of {len(labels['names'])} "
                f"labels, found {thresholds!r:.40}; {ADVICE}"
            )
    if "values" in labels and len(labels["values"]) != len(labels["names"]):
        found = f"{len(labels['values'])} labels and {len(labels['names'])} names"
        raise UserError(f"{path} is damaged: expected as many names as labels, found {found}; {ADVICE}")


def _check_keys(checkpoint: Mapping[str, Any], keys: Mapping[str, tuple[type, ...]], path: Path) -> None:
    for key, types in keys.items():
        value: Any = checkpoint
        for name in key.split("."):
            value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
        if not isinstance(value, types) or isinstance(value, bool):
            found = "nothing" if value is MISSING else type(value).__name__
            expected = types[0].__name__
            raise UserError(f"{path} is damaged: expected {key} ({expected}), found {found}; {ADVICE}")


def refuse_weights_alone(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse to resume from weights alone: Lightning 2.6.6 might start the optimizer afresh, unsaid."""
    if not checkpoint.get("optimizer_states"):
        raise UserError(
            f"expected a checkpoint with the optimizer's state, found weights alone in {path}; {ADVICE}"
        )


def check_weights(expected: Mapping[str, torch.Tensor], found: Mapping[str, Any], path: Path) -> None:
    """Refuse weights that do not fit the model.

    Args:
        expected: The model's `state_dict`.
        found: The checkpoint's `state_dict`.
        path: The checkpoint's path.
    """
    for name, weight in expected.items():
        value = found.get(name)
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
            what = "none" if value is None else f"a {type(value).__name__}"
            if isinstance(value, torch.Tensor):
                what = "one without values" if value.is_meta else f"one of layout {value.layout}"
            raise UserError(
                f"{path} is damaged: expected a tensor for the weight {name}, found {what}; {ADVICE}"
            )
        kinds = [f"{tuple(w.shape)} {'real' if w.is_floating_point() else w.dtype}" for w in (weight, value)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{path} is damaged: expected the weight {name} of {kinds[0]}, found {kinds[1]}; {ADVICE}"
            )
    if more := found.keys() - expected.keys():
        raise UserError(f"{path} is damaged: expected no weight {min(map(str, more))}, found one; {ADVICE}")
