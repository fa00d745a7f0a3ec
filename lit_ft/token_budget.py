"""Leaf: rows of like length to batches of at most so many computed tokens; equally many in every epoch.

N rows, K batches.
"""

import numpy as np


def widths_of(lengths: np.ndarray, multiple: int, most: int | None = None) -> np.ndarray:
    """Tokens of each row in a batch of its like, (N,): rounded up to `multiple`, but not past `most`."""
    widths = -(-lengths // multiple) * multiple
    return widths if most is None else np.minimum(widths, most)


def starts_of_batches(
    widths: np.ndarray, token_budget: int, most_rows: int, world_size: int = 1
) -> np.ndarray:
    """Where each batch begins among rows sorted by width, longest first, (K,).

    It depends on the widths alone, not on which row has which: an order drawn anew among rows of equal width
    gives equally many batches, which the learning-rate schedule and a resumed run rely on.

    Args:
        widths: Of the sorted rows, (N,); falling.
        token_budget: The most tokens, padding included, that a process computes for a batch; a row that is
            longer stands alone.
        most_rows: The most rows of a batch, on each process.
        world_size: Processes that share each batch.
    """
    starts, i = [], 0
    while i < len(widths):
        starts.append(i)
        i += world_size * max(min(token_budget // int(widths[i]), most_rows), 1)
    # No process may be without a row: what is too little for all takes some of the batch before, or joins it.
    last = len(widths) - world_size
    if len(starts) > 1 and starts[-1] > last:
        starts[-1] = last
        if last - starts[-2] < world_size:
            starts.pop()
    return np.array(starts, dtype=np.int64)
