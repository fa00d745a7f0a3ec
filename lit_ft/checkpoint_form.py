"""Leaf: whether what a checkpoint holds has the form in which it was saved.

A zip archive's checksums find flipped bits; they do not find a key that somebody's script left out, or
weights of another shape.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash

from lit_ft.errors import UserError

FORM = "form"  # the key of the fingerprint
PLAIN = (bool, int, float, str)
ADVICE = "set --ckpt_path to another one"
LIGHTNING = "pytorch-lightning_version"  # what it compares to see whether a checkpoint is an old one
VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc|\.post|\.dev)\d+)*(\+[\w.]+)?")
# Keys that every command reads, and what they hold.
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
    "YelpDataModule.labels.values": (list,),
    "YelpDataModule.labels.names": (list,),
    "YelpDataModule.labels.declared": (list,),
    "YelpDataModule.tokenizer": (dict,),
    "callbacks": (dict,),
    "loops": (dict,),
}
MISSING = object()


def form_of(checkpoint: Mapping[str, Any]) -> str:
    """A fingerprint of keys, plain values, and the types and shapes of tensors, not of their values."""
    digest = xxhash.xxh3_128()
    _add(digest, {key: value for key, value in checkpoint.items() if key != FORM})
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        digest.update(b"{")
        for key, inner in value.items():
            digest.update(f"{key!r}:".encode())
            _add(digest, inner)
        digest.update(b"}")
    elif isinstance(value, (list, tuple)):
        digest.update(b"[")
        for inner in value:
            _add(digest, inner)
        digest.update(b"]")
    elif isinstance(value, torch.Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)} {value.layout} {value.is_meta},".encode())
    else:
        shown = repr(value) if value is None or isinstance(value, PLAIN) else type(value).__name__
        digest.update(f"{shown},".encode("utf-8", "surrogatepass"))


def check_form(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse a checkpoint that lacks what every command reads.

    Raises:
        UserError: Names the key, what was expected and what was found.
    """
    for key, types in KEYS.items():
        value: Any = checkpoint
        for name in key.split("."):
            value = value.get(name, MISSING) if isinstance(value, Mapping) else MISSING
        if not isinstance(value, types) or isinstance(value, bool):
            found = "nothing" if value is MISSING else type(value).__name__
            expected = types[0].__name__
            raise UserError(f"{path} is damaged: expected {key} ({expected}), found {found}; {ADVICE}")
    version = checkpoint.get(LIGHTNING)
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise UserError(f"{path} is damaged: expected {LIGHTNING}, found {version!r:.40}; {ADVICE}")
    temperature = checkpoint.get("temperature")
    if temperature is not None and not (isinstance(temperature, float) and 0 < temperature < math.inf):
        raise UserError(
            f"{path} is damaged: expected a temperature above 0, found {temperature!r:.40}; {ADVICE}"
        )
    labels = checkpoint["YelpDataModule"]["labels"]
    if len(labels["values"]) != len(labels["names"]):
        found = f"{len(labels['values'])} labels and {len(labels['names'])} names of them"
        raise UserError(f"{path} is damaged: expected as many names as labels, found {found}; {ADVICE}")


def check_unchanged(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on from a state that is not the one that was saved; older checkpoints do not tell."""
    if FORM in checkpoint and checkpoint[FORM] != form_of(checkpoint):
        raise UserError(
            f"{path} was changed after it was saved: its keys, values or shapes are not those of then; "
            f"{ADVICE}, or start anew without it"
        )


def check_weights(expected: Mapping[str, torch.Tensor], found: Mapping[str, Any], path: Path) -> None:
    """Refuse weights that do not fit the model.

    Args:
        expected: The model's `state_dict`.
        found: The checkpoint's.
        path: Of the checkpoint.
    """
    for name, weight in expected.items():
        value = found.get(name)
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
            what = "none" if value is None else f"a {type(value).__name__} that is none"
            raise UserError(f"{path} is damaged: expected the weight {name}, found {what}; {ADVICE}")
        kinds = [f"{tuple(w.shape)} {'real' if w.is_floating_point() else w.dtype}" for w in (weight, value)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{path} is damaged: expected the weight {name} of {kinds[0]}, found {kinds[1]}; {ADVICE}"
            )
    if more := found.keys() - expected.keys():
        raise UserError(f"{path} is damaged: expected no weight {min(map(str, more))}, found one; {ADVICE}")
