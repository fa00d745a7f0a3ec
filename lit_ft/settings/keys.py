"""The keys, types and classes of settings in error messages: what was expected, or meant."""

import argparse
import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

# Names in the scripts of transformers, in AutoTrain, SetFit and Ludwig -> ours in `fit` or `sft`
OTHERS = {
    "batch_size": ("data.batch_size",),
    "bf16": ("trainer.precision", "precision"),
    "dataset_name": ("data.source",),
    "device": ("trainer.accelerator",),
    "early_stopping_patience": ("trainer.callbacks",),
    "epochs": ("trainer.max_epochs", "num_train_epochs"),
    "fp16": ("trainer.precision", "precision"),
    "gpus": ("trainer.devices",),
    "gradient_accumulation_steps": ("trainer.accumulate_grad_batches", "gradient_accumulation_steps"),
    "label_column_name": ("data.label_column",),
    "lr": ("model.learning_rate",),
    "max_grad_norm": ("trainer.gradient_clip_val",),
    "max_length": ("data.max_tokens",),
    "max_seq_length": ("data.max_tokens",),
    "max_steps": ("trainer.max_steps", "max_steps"),
    "mlm_probability": ("data.mask_probability",),
    "model_name": ("model.pretrained",),
    "model_name_or_path": ("model.pretrained",),
    "num_epochs": ("trainer.max_epochs", "num_train_epochs"),
    "num_train_epochs": ("trainer.max_epochs", "num_train_epochs"),
    "output_dir": ("name",),
    "per_device_eval_batch_size": ("data.eval_batch_size",),
    "per_device_train_batch_size": ("data.batch_size",),
    "resume_from_checkpoint": ("ckpt_path",),
    "run_name": ("name",),
    "seed": ("seed_everything",),
    "target_column": ("data.label_column",),
    "text_column_name": ("data.text_column",),
    "text_column_names": ("data.text_column",),
    "train_file": ("data.train_path",),
    "validation_file": ("data.validation_path",),
    "test_file": ("data.test_path",),
    "warmup_ratio": ("model.warmup_share",),
}
HIDDEN = ("help", "help_all", "print_config", "print_shtab")  # flags that are no settings


def valid_keys(parser: ArgumentParser) -> list[str]:
    """The keys that `parser` and its sub-commands accept, in the order of their help."""
    keys: list[str] = []
    for action in parser._actions:
        for sub_parser in (getattr(action, "_name_parser_map", None) or {}).values():
            keys += valid_keys(sub_parser)
        hidden = action.dest in HIDDEN or action.help is argparse.SUPPRESS or action.dest.endswith(".help")
        if action.option_strings and not hidden and action.dest != argparse.SUPPRESS:
            keys.append(action.dest)
    return keys


def like_group(group: str, keys: list[str]) -> str:
    """The nearest group, `model` for `modle`; a group unlike any other stays as it is."""
    groups = {k.rpartition(".")[0] for k in keys}
    return group if group in groups else (difflib.get_close_matches(group, groups, n=1) or [group])[0]


def nearest(key: str, keys: list[str]) -> str | None:
    """The key that was meant: a similar name in the group, the same name elsewhere, or a similar key.

    Initials count too, `lr` for `learning_rate`, and so do the names that other tools use.
    """
    group, _, name = key.rpartition(".")
    theirs = [ours for ours in OTHERS.get(name, ()) if ours in keys]
    if theirs and not group:
        return theirs[0]
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
    return None if found == group else found  # a group cannot be set; its keys are listed instead


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def typehint(parser: ArgumentParser, key: str) -> Any:
    """The type of `key`, here or in a sub-command; None if it has none or does not exist."""
    for action in parser._actions:
        if action.dest == key:
            return getattr(action, "_typehint", None) or action.type
        for sub_parser in (getattr(action, "_name_parser_map", None) or {}).values():
            if (found := typehint(sub_parser, key)) is not None:
                return found
    return None


def type_words(hint: Any) -> str:
    """A type in words: `int | None` is "a whole number or null"; empty for no type."""
    if hint is None:
        return ""
    words: list[str] = []
    choices: list[str] = []
    for member in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        if get_origin(member) is Literal:
            choices += map(str, get_args(member))
        else:
            words.append("null" if member is type(None) else _one_type(member))
    if choices:
        listed = ", ".join(dict.fromkeys(choices))
        words.append(f"one of {listed}" if len(choices) > 1 else listed)
    words.sort(key="null".__eq__)  # it comes last
    return ", ".join(words[:-1]) + " or " * (len(words) > 1) + words[-1]


def _one_type(hint: Any) -> str:
    if hint in WORDS:
        return WORDS[hint]
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return WORDS[dict]
    if isinstance(origin, type) and issubclass(origin, Iterable):
        item = args[0] if args else str
        return f"a list of {PLURALS.get(item) or getattr(item, '__name__', str(item))}"
    restricted = re.match(r"(int|float|str) restricted to be (.*)", hint.__doc__ or "")  # jsonargparse.typing
    if restricted:
        return f"{WORDS[{'int': int, 'float': float, 'str': str}[restricted[1]]]} {restricted[2]}"
    return getattr(hint, "__name__", str(hint))


OTHER_PACKAGE = "pytorch_lightning."  # the old package of Lightning, whose classes are different ones
EXAMPLES = ("EarlyStopping", "CSVLogger", "SimpleProfiler", "MixedPrecision")
FORM = "{class_path: EarlyStopping, init_args: {monitor: val/loss}}"


def class_problem(key: str, hint: Any, message: str) -> str | None:
    """What the user needs to know about a refused class; None if the message is not about a class.

    Args:
        key: The setting.
        hint: The type of the setting.
        message: The parser's message.
    """
    bases = list(_bases(hint))
    if not bases:
        return None
    kind = " or ".join(base.__name__ for base in bases)
    if found := re.search(r"Import path (\S+) does not correspond to a subclass of", message):
        if found[1].startswith(OTHER_PACKAGE):
            right = "lightning.pytorch." + found[1].removeprefix(OTHER_PACKAGE)
            return f"found {found[1]}, which is from another package than the one in use; write {right}"
        return f"expected a {kind}, found {found[1]}, which is not one"
    if re.search("unknown key [^;]*; there are no keys", message):
        if "class_path" not in message.partition("Given value:")[2]:
            return f"found settings without a class; name it first: --{key}=NAME, or in a file {FORM}"
        return f"the settings of a class go below init_args: {FORM}"
    if found := re.search("Expected a dot import path string: (.+)", message):
        return f"there is no {kind} {found[1]!r}; {_advice(found[1], bases)}"
    if found := re.search(r"Problem with given class_path '([^']+)':\s*(.+)", message):
        name = found[1] if "No module named" in found[2] else found[1].rpartition(".")[2]
        return f"{name}: {found[2]}"
    return None


def _bases(hint: Any) -> Iterator[type]:
    """Lightning's base classes that a type names, also inside lists."""
    if isinstance(hint, type) and hint.__module__.startswith("lightning."):
        yield hint
    found: list[type] = []
    for member in get_args(hint):
        found += [base for base in _bases(member) if base not in found]
    yield from found


def _advice(name: str, bases: list[type]) -> str:
    classes = {c.__name__: c for base in bases for c in _below(base)}
    if name in classes and classes[name].__module__.startswith("lit_ft."):
        return "fit adds it itself: leave it out"
    theirs = [known for known, c in classes.items() if c.__module__.startswith("lightning.")]
    small = {known.lower(): known for known in theirs}
    if close := difflib.get_close_matches(name.rpartition(".")[2].lower(), small, n=1, cutoff=0.75):
        return f"did you mean {small[close[0]]}?"
    example = next((known for known in EXAMPLES if known in theirs), theirs[0])
    return f"write the name of one of Lightning's, such as {example}, or the path of a class, module.Name"


def _below(base: type) -> Iterator[type]:
    inner: type
    for inner in base.__subclasses__():
        yield inner
        yield from _below(inner)
