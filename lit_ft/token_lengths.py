"""How long the texts of a split are in tokens, and what each `max_tokens` would cut and cost.

N texts that are measured.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from lit_ft.console import bar_pace
from lit_ft.encoding import fast_backend, template_of
from lit_ft.token_facts import lost_letters, special_token_ids, spread, unknown_id

LIMITS = (128, 256, 512)  # shown beside the `max_tokens` that is set
SAMPLE_ROWS = 50_000  # a share of 1 % is then known to 0.1 % (two standard errors), 5 % to 0.2 %
SAMPLE_SEED = 0
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Limit:
    """What one `max_tokens` does to a split."""

    max_tokens: int
    cut_texts: float  # share of the texts that are longer
    lost_tokens: float  # share of the tokens that the cut takes away
    cost: float  # tokens computed, relative to the `max_tokens` that is set


@dataclass(frozen=True)
class TokenLengths:
    """The lengths of a split's texts in tokens, special tokens included."""

    measured: int  # texts
    sampled: bool  # whether they are a random sample of the split
    mean: float
    median: float
    p95: float
    max: int
    unknown: float | None  # share of the texts' tokens, None where the tokenizer has no unknown token
    lost_letters: float  # share of the letters and digits that are in no token
    special_texts: int  # texts that hold a special token of the tokenizer
    empty_texts: int  # texts without a token
    limits: list[Limit]


def measure_lengths(
    texts: pa.ChunkedArray,
    positions: np.ndarray,
    tokenizer: Any,
    max_tokens: int,
    limits: Sequence[int],
    padded: bool,
    description: str,
) -> TokenLengths:
    """Tokenise a split, or a random sample of it where it is large, and count.

    Args:
        texts: The column that the rows are from.
        positions: Their places in it, ascending.
        tokenizer: A fast one.
        max_tokens: What is set, to which the cost of the others is relative.
        limits: The `max_tokens` to compare.
        padded: Whether each text is padded to `max_tokens`, so that it costs the same whatever its length.
        description: Label of the progress bar.
    """
    sampled = len(positions) > SAMPLE_ROWS
    if sampled:
        drawn = np.random.default_rng(SAMPLE_SEED).choice(len(positions), SAMPLE_ROWS, replace=False)
        positions = positions[np.sort(drawn)]
    backend, around = fast_backend(tokenizer), template_of(tokenizer).size
    unknown, special = unknown_id(tokenizer), special_token_ids(tokenizer)
    lengths, num_unknown, num_special = [], 0, 0
    with tqdm(
        total=len(positions), desc=description, unit=" rows", delay=2, leave=False, **bar_pace()
    ) as bar:
        for batch in _batches(texts, positions):
            for encoded in backend.encode_batch_fast(batch, add_special_tokens=False):
                ids = encoded.ids
                lengths.append(len(ids) + around)
                num_unknown += ids.count(unknown)
                num_special += not special.isdisjoint(ids)
            bar.update(len(batch))
    full = np.array(lengths, dtype=np.int64)  # (N,)
    num_own = int(full.sum()) - around * len(full)
    return TokenLengths(
        measured=len(full),
        sampled=sampled,
        mean=float(full.mean()),
        median=float(np.median(full)),
        p95=float(np.percentile(full, 95)),
        max=int(full.max()),
        unknown=None if unknown is None else num_unknown / max(num_own, 1),
        lost_letters=lost_letters(texts.take(pa.array(spread(positions))).to_pylist(), tokenizer),
        special_texts=num_special,
        empty_texts=int((full == around).sum()),
        limits=[_limit(full, limit, max_tokens, padded) for limit in limits],
    )


def _limit(full: np.ndarray, limit: int, max_tokens: int, padded: bool) -> Limit:
    kept = np.minimum(full, limit)
    cost = limit / max_tokens if padded else kept.sum() / np.minimum(full, max_tokens).sum()
    return Limit(limit, float((full > limit).mean()), float(1 - kept.sum() / full.sum()), float(cost))


def _batches(texts: pa.ChunkedArray, positions: np.ndarray) -> Iterator[list[str]]:
    """The texts at ascending positions, chunk by chunk: `take` on the whole column would copy it."""
    start = 0
    for chunk in texts.chunks:
        low, high = np.searchsorted(positions, [start, start + len(chunk)])
        for first in range(low, high, BATCH_ROWS):
            yield chunk.take(pa.array(positions[first : min(first + BATCH_ROWS, high)] - start)).to_pylist()
        start += len(chunk)
