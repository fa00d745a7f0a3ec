"""A trial forward pass before anything is written: what a model cannot do is one line; nothing changes."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lit_ft.errors import UserError, first_line
from lit_ft.reliability.memory import is_out_of_memory

# How far a text's logits without padding may be from those with it: relative to the largest, and at least.
# Rounding is far below, padding on the wrong side far above, even in a head of small random weights.
TOLERANCE, LEAST = 2e-4, 1e-5


@contextlib.contextmanager
def at_rest(net: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode, without gradients; restores modes and random states afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    # BigBird (transformers 5.23, modeling_big_bird.py) seeds numpy's global generator.
    states = random.getstate(), np.random.get_state()
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def in_training_mode(net: PreTrainedModel) -> Iterator[None]:
    """Inside `at_rest`, with dropout; restores the buffers that a forward pass may change."""
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.train()
    try:
        yield
    finally:
        net.eval()
        for name, buffer in net.named_buffers():
            if name in before and buffer.shape == before[name].shape:
                buffer.copy_(before[name])


@contextlib.contextmanager
def one_line(name: str, rows: list[dict[str, Any]]) -> Iterator[None]:
    """Turns whatever the model raises over rows of `input_ids` into one `UserError`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        lengths = " and ".join(str(len(row["input_ids"])) for row in rows)
        raise UserError(
            f"the model {name} fails on texts of {lengths} tokens ({reason}); set --model.pretrained to "
            "another model, or correct its config.json or tokenizer"
        ) from error


def check_finite(logits: torch.Tensor, name: str, row: dict[str, Any]) -> None:
    """Refuse NaN and infinity in the model's logits of a row."""
    if not logits.isfinite().all():
        raise UserError(
            f"the model {name} gives NaN or infinite logits for a text of {len(row['input_ids'])} tokens: "
            "its weights are damaged; download them again, or set --model.pretrained to another model"
        )


def is_close(alone: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether a text's logits alone and in another batch are the same up to rounding."""
    return bool((alone - other).abs().max() <= LEAST + TOLERANCE * alone.abs().max())
