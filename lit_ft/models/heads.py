"""The head of a folder that already is a classifier: kept, reordered, or initialised at random. C classes."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from lit_ft.console import say, warn
from lit_ft.models.blueprint import output_weights

GENERIC = re.compile(r"LABEL_(\d+)")


@dataclass(frozen=True)
class Head:
    """What to do with the rows of a folder's head.

    Attributes:
        rows: The folder's row of each class, (C,); None for a new output layer.
        words: The reason, for messages.
    """

    rows: list[int] | None
    words: str


def plan(
    config: PretrainedConfig,
    names: Sequence[str],
    can_keep: bool = True,
    problem_type: str = "single_label_classification",
) -> Head:
    """Decide about a folder's head by its class names.

    If both sets of names are equal, exactly or ignoring case, rows follow their names. `LABEL_0`, `LABEL_1`,
    ... are only numbers, and so are the classes of a config without names.

    Args:
        config: The folder's config.
        names: Our class names, lowest label first, (C,).
        can_keep: Whether a head can be kept at all; that of a number is on a scale of its own.
        problem_type: What the new head is for; one for something else is not kept.
    """
    problem, task = getattr(config, "problem_type", None), _other_task(config)
    same_kind = problem in (None, problem_type)
    single = same_kind and not task and can_keep
    by_number: dict[Any, Any] = config.id2label or {}
    theirs = [str(by_number[i]).strip() for i in sorted(by_number)]
    if single and len(theirs) == len(names):
        for alike in (str, str.casefold):
            place = {alike(name): i for i, name in enumerate(theirs)}
            ours = [alike(name.strip()) for name in names]
            if len(place) == len(names) and set(ours) == set(place):
                return Head([place[name] for name in ours], "by its class names")
    numbers = [int(found[1]) for name in theirs if (found := GENERIC.fullmatch(name))]
    if single and len(numbers) == len(theirs):
        # A config without names shows two classes, whatever the head has.
        same = sorted(numbers) == list(range(len(names)))
        rows = [numbers.index(i) for i in range(len(names))] if same else list(range(len(names)))
        return Head(rows, f"by number, as its classes have no names: its class 0 is '{names[0]}'")
    if not can_keep and len(theirs) == 1:
        return Head(None, "on a scale of its own")
    other_task = task or (None if same_kind else problem)
    words = f"of {other_task}" if other_task else f"for {_shown(theirs)}, not {_shown(names)}"
    return Head(None, words)


def settle(net: PreTrainedModel, head: Head, info: Mapping[str, Any], folder: str) -> None:
    """Put the loaded rows into our order, and say where the output layer comes from.

    A folder without a head is the usual case and not mentioned.

    Args:
        net: The loaded model.
        head: From `plan`.
        info: The loading report.
        folder: The model's name, for the message.
    """
    outputs = output_weights(net.config)
    if not outputs or set(outputs) & info["missing_keys"]:
        return
    weights, is_new = dict(net.named_parameters()), False
    if {key for key, *_ in info["mismatched_keys"]} & set(outputs):  # initialised by transformers
        is_new, words = True, head.words if head.rows is None else "for another number of classes"
    elif head.rows is None:
        # from_pretrained cannot skip a weight: initialise a whole model for its output layer.
        is_new, words = True, head.words
        fresh = AutoModelForSequenceClassification.from_config(
            copy.deepcopy(net.config), dtype=torch.float32, trust_remote_code=False
        )
        with torch.no_grad():
            for name in outputs:
                weights[name].copy_(fresh.get_parameter(name))
    if is_new:
        warn(f"the head of {folder} is {words}: the output layer is initialised at random")
        return
    with torch.no_grad():
        for name in outputs:
            weights[name].copy_(weights[name][head.rows])  # (C, ...)
    say(f"head: kept from {folder}, {head.words}")


def _other_task(config: PretrainedConfig) -> str | None:
    """An architecture whose head may have the same names, but labels tokens or choices."""
    alike = ("ForTokenClassification", "ForMultipleChoice")
    return next((name for name in config.architectures or () if str(name).endswith(alike)), None)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" * (len(names) > 3))
