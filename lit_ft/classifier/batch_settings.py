"""The data module's settings that decide its batches: what they may be, and what is made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_ft.data.batching import LEAST_ROWS, GroupedBatchSampler, PaddingCollator, StratifiedBatchSampler
from lit_ft.data.tokens import template_of
from lit_ft.errors import UserError
from lit_ft.settings.bounds import BOUNDS, COUNT, FROM_0, check_bounds

LEAST_TEXTS = 2  # a batch may have one row more than another: of at most 1 some would have none


def check_batch_settings(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that make no batches.

    Args:
        settings: The data module's, by name.

    Raises:
        UserError: With the value and what is expected.
    """
    check_bounds(settings, {**BOUNDS, "data.pad_multiple": COUNT, "data.seed": FROM_0}, "data.")
    budget, most = settings["token_budget"], settings["max_tokens"]
    if budget is None:
        return
    if budget < most:
        raise UserError(
            f"expected data.token_budget of at least {most} (data.max_tokens), found {budget}: the longest "
            f"text would not fit; set --data.token_budget={most}, or null for batches of equal rows"
        )
    if not settings["group_by_length"]:
        raise UserError(
            "data.token_budget fills batches with texts of like length, which data.group_by_length=false "
            "forbids; set --data.group_by_length=true, or --data.token_budget=null"
        )


def check_unpadded(settings: Mapping[str, Any], compiled: bool) -> None:
    """Refuse to train without padding where that does not go together.

    Args:
        settings: The data module's, by name.
        compiled: `model.compile`.
    """
    padding, budget = settings["padding"], settings["token_budget"]
    least = LEAST_ROWS * settings["max_tokens"]
    if compiled != (padding == "none"):
        flags = "--data.padding=none, or --model.compile=false"
        if not compiled:
            flags = "--model.compile=true, or --data.padding=longest"
        raise UserError(
            "model.compile and data.padding none go together, found model.compile "
            f"{str(compiled).lower()} and data.padding {padding}; set {flags}"
        )
    if compiled and (budget is None or budget < least):
        raise UserError(
            f"expected data.token_budget of at least {least} ({LEAST_ROWS} x data.max_tokens) for "
            f"data.padding none, found {'null' if budget is None else budget}; 32768 keeps a GPU busy"
        )
    if compiled and settings["batch_size"] < LEAST_TEXTS:
        raise UserError(
            f"expected data.batch_size of at least {LEAST_TEXTS} for data.padding none, found "
            f"{settings['batch_size']}: it is the most texts of a step"
        )


def batch_sampler(
    settings: Mapping[str, Any],
    lengths: np.ndarray,
    train: bool,
    rank: int,
    world_size: int,
    near: bool = False,
) -> GroupedBatchSampler:
    """The batches of rows of these lengths, (N,): shuffled to train on, else in a fixed order.

    Args:
        settings: The data module's, by name.
        lengths: Tokens of each row, (N,).
        train: Whether they are trained on.
        rank: This process among `world_size`.
        world_size: Number of processes that share the batches.
        near: Whether rows have to come near their place, as those of `predict`, which are written in order.
    """
    if train and settings["padding"] == "none":
        most_rows, budget = settings["batch_size"], settings["token_budget"]
        return StratifiedBatchSampler(
            lengths, most_rows, budget, seed=settings["seed"], rank=rank, world_size=world_size
        )
    padded = settings["padding"] == "max_length"
    return GroupedBatchSampler(
        np.full_like(lengths, settings["max_tokens"]) if padded else lengths,
        settings["batch_size" if train else "eval_batch_size"],
        seed=settings["seed" if train else "split_seed"],  # runs of other seeds are measured on the same part
        group_by_length=settings["group_by_length"],
        shuffle=train,
        rank=rank,
        world_size=world_size,
        token_budget=settings["token_budget"],
        width_multiple=settings["pad_multiple"],
        most_tokens=settings["max_tokens"],
        near=near,
    )


def padding_collator(settings: Mapping[str, Any], tokenizer: Any) -> PaddingCollator:
    """From rows to a batch that this tokenizer's model takes."""
    return PaddingCollator(
        pad_token_id=tokenizer.pad_token_id,
        pad_multiple=settings["pad_multiple"],
        max_tokens=settings["max_tokens"],
        pad_length=settings["max_tokens"] if settings["padding"] == "max_length" else None,
        token_type_ids="token_type_ids" in tokenizer.model_input_names,
        types=template_of(tokenizer).types,
        pad_type=tokenizer.pad_token_type_id,
        padding_side=tokenizer.padding_side,
    )
