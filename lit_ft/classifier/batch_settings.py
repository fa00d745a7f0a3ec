"""The data module's settings for batches: their checks, and the sampler and collator they define."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_ft.data.batching import LEAST_ROWS, GroupedBatchSampler, PaddingCollator, StratifiedBatchSampler
from lit_ft.data.tokens import template_of
from lit_ft.errors import UserError
from lit_ft.settings.bounds import BOUNDS, COUNT, FROM_0, SHARE, check_bounds

LEAST_TEXTS = 2  # batches may differ by one row: with at most 1, some would be empty


def check_batch_settings(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that cannot make batches; `settings` are the data module's, by name."""
    own = {"data.pad_multiple": COUNT, "data.seed": FROM_0, "data.threshold": SHARE}
    check_bounds(settings, {**BOUNDS, **own}, "data.")
    budget, most = settings["token_budget"], settings["max_tokens"]
    if budget is None:
        return
    if budget < most:
        raise UserError(
            f"expected data.token_budget of at least {most} (data.max_tokens), found {budget}: the longest "
            f"text would not fit; set --data.token_budget={most}, or null for batches of `batch_size` texts"
        )
    if not settings["group_by_length"]:
        raise UserError(
            "data.token_budget fills batches with texts of similar length, which data.group_by_length=false "
            "forbids; set --data.group_by_length=true, or --data.token_budget=null"
        )


def check_unpadded(settings: Mapping[str, Any], compiled: bool) -> None:
    """Check the settings of training without padding; `compiled` is `model.compile`."""
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
            f"{settings['batch_size']}: it is the maximum of texts per step"
        )


def batch_sampler(
    settings: Mapping[str, Any],
    lengths: np.ndarray,
    train: bool,
    rank: int,
    world_size: int,
    near: bool = False,
) -> GroupedBatchSampler:
    """The batches of rows: shuffled for training, else in a fixed order.

    Args:
        settings: The data module's settings, by name.
        lengths: Tokens of each row, (N,).
        train: Whether the rows are trained on.
        rank: This process among `world_size`.
        world_size: Number of processes that share the batches.
        near: Whether rows must stay near their place, as in `predict`, which writes them in order.
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
        seed=settings[
            "seed" if train else "split_seed"
        ],  # runs with other seeds are measured on the same part
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
    """The collator for this tokenizer's model."""
    pairs = settings["pair_column"] is not None
    template = template_of(tokenizer, pairs)
    return PaddingCollator(
        pad_token_id=tokenizer.pad_token_id,
        pad_multiple=settings["pad_multiple"],
        max_tokens=settings["max_tokens"],
        pad_length=settings["max_tokens"] if settings["padding"] == "max_length" else None,
        token_type_ids="token_type_ids" in tokenizer.model_input_names,
        types=template.types,
        pad_type=tokenizer.pad_token_type_id,
        padding_side=tokenizer.padding_side,
        second_types=template.second_types if pairs else None,
    )
