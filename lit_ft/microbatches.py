"""A training step on CPUs in micro-batches of like length: the same gradient, less padding, smaller tensors.

The rows of a batch are sorted by length and cut where so many tokens are full; each micro-batch is padded to
its own longest text. One loss and one backward pass follow, so the gradient is that of the whole batch, up to
rounding (tests/test_microbatches.py); only the dropout masks are drawn in another order.

B rows a batch, T tokens after padding, C classes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from lit_ft.soundness import SHARDED
from lit_ft.token_budget import starts_of_batches, widths_of

# Of 512 to 8,192 the fastest on cores with AMX (docs/performance.md); a GPU would have too little to do.
MOST_TOKENS = 2_048
Batch = dict[str, torch.Tensor]
Logits = Callable[[Batch], torch.Tensor]
Counted = Callable[[Batch], tuple[torch.Tensor, int]]  # logits (B, C), and the tokens computed for them


def whole(logits_of: Logits) -> Counted:
    """The whole batch at once."""
    return lambda batch: (logits_of(batch), batch["attention_mask"].numel())


def way_of(logits_of: Logits, trainer: Any) -> Counted:
    """Micro-batches where the trainer computes on CPUs and nobody has set how much is computed at once."""
    settings, strategy = trainer.datamodule.hparams, trainer.strategy
    own_choice = settings["token_budget"] is not None or settings["padding"] != "longest"
    if strategy.root_device.type != "cpu" or isinstance(strategy, SHARDED) or own_choice:
        return whole(logits_of)
    return partial(in_microbatches, logits_of, settings["pad_multiple"], MOST_TOKENS)


def in_microbatches(
    logits_of: Logits, multiple: int, most_tokens: int, batch: Batch
) -> tuple[torch.Tensor, int]:
    """A padded batch, (B, T) -> logits (B, C) in the batch's order, and the tokens computed for them.

    Args:
        logits_of: From a batch to its logits.
        multiple: A micro-batch's width is a multiple of this, but at most T.
        most_tokens: Of a micro-batch, padding included; a longer text stands alone.
        batch: Texts to the left, padding to the right.
    """
    rows, width = batch["input_ids"].shape
    lengths, order = batch["attention_mask"].sum(1).sort(descending=True, stable=True)
    widths = widths_of(lengths.numpy(), multiple, width)
    starts = starts_of_batches(widths, most_tokens, rows).tolist()
    logits, computed = [], 0
    # Lightning casts a weight anew for each of its uses; the cast is kept here for the next micro-batch.
    half, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", dtype, enabled=half, cache_enabled=True):
        for start, end in zip(starts, [*starts[1:], rows], strict=True):
            some, longest = order[start:end], int(widths[start])
            part = {key: x[some] if x.ndim == 1 else x[some, :longest] for key, x in batch.items()}
            logits.append(logits_of(part))
            computed += len(some) * longest
    return torch.cat(logits)[order.argsort()], computed
