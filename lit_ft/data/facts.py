"""Figures of a split for reports: number of texts, classes, lengths, tokens lost by the cut. N texts."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from tqdm import tqdm

from lit_ft.data.source import SplitName, TextSource
from lit_ft.data.splits import Split
from lit_ft.data.targets import Labels
from lit_ft.data.text_columns import both
from lit_ft.data.token_facts import lost_letters, special_token_ids, spread, unknown_id, unknown_letters
from lit_ft.data.tokens import content_hash, row_lengths, template_of, tokenise
from lit_ft.progress import bar_settings

MOST_BARS = 50
ORDER: tuple[SplitName, ...] = ("train", "validation", "fold", "test")


def length_facts(full: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """Facts of token counts, (N,) each, before and after the cut to `max_tokens`."""
    most = int(np.percentile(full, 99.5)) + 1  # a rare outlier would squeeze all others into one bar
    width = -(-most // MOST_BARS)  # whole tokens: with others some bars would hold more lengths than others
    edges = np.arange(-(-most // width) + 1) * width
    counts, _ = np.histogram(np.minimum(full, most), bins=edges)
    return {
        "rows": len(full),
        "tokens": int(full.sum()),
        **_typical(full),
        "cut_rows": int((full > kept).sum()),
        "cut_tokens": int((full - kept).sum()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def _typical(lengths: np.ndarray) -> dict[str, Any]:
    """Summary statistics of lengths, (N,)."""
    return {
        "mean": float(lengths.mean()),
        "median": float(np.median(lengths)),
        "p95": float(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
    }


def corpus_facts(splits: Mapping[SplitName, Split], source: TextSource, labels: Labels) -> dict:
    """The facts of each split that a classifier has read, as plain values."""
    found: dict[str, Any] = {}
    for name in filter(splits.__contains__, ORDER):
        split = splits[name]
        full = split.rows.encoded.data.column("full_length").to_numpy().astype(np.int64)[split.rows.positions]
        facts = {**length_facts(full, split.rows.lengths), **source.facts(name)}
        if split.part:
            facts |= {"part": split.part, "where": f"{split.part}, held out of train"}
        facts |= {"fingerprint": split.fingerprint, "empty_rows": len(split.table) - len(split.texts)}
        if split.labels is not None:
            facts |= labels.facts(split.labels)
        found[name] = facts
    return found


def row_facts(texts: Dataset, rows: Dataset) -> dict[str, Any]:
    """The facts of a masked LM's split: its texts, and the rows made from them."""
    lengths = row_lengths(rows)
    tokens = int(lengths.sum())
    counts = {"texts": len(texts), "rows": len(lengths), "tokens": tokens, "mean": tokens / len(lengths)}
    return {**counts, "fingerprint": content_hash(texts)}


LIMITS = (128, 256, 512)  # shown beside the present `max_tokens`
SAMPLE_ROWS = 50_000  # measures a share of 1 % to 0.1 % (two standard errors), 5 % to 0.2 %
SAMPLE_SEED = 0
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Limit:
    """The effect of one `max_tokens` on a split."""

    max_tokens: int
    cut_texts: float  # share of texts that are longer
    lost_tokens: float  # share of tokens that are cut off
    cost: float  # tokens computed, relative to the present `max_tokens`


@dataclass(frozen=True)
class TokenLengths:
    """Lengths of a split's texts in tokens, special tokens included."""

    measured: int  # texts
    sampled: bool  # whether they are a random sample of the split
    mean: float
    median: float
    p95: float
    max: int
    unknown: float | None  # share of tokens; None if the tokenizer has no unknown token
    lost_letters: float  # share of letters and digits that are in no token
    unknown_letters: float  # share of them that are in an unknown token
    special_texts: int  # texts that contain a special token of the tokenizer
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
    pairs: pa.ChunkedArray | None = None,
) -> TokenLengths:
    """Tokenise a split, or a random sample of a large one, and count.

    Args:
        texts: The column of texts.
        positions: The split's rows in it, ascending.
        tokenizer: A fast one.
        max_tokens: The present setting; costs are relative to it.
        limits: The values of `max_tokens` to compare.
        padded: Whether each text is padded to `max_tokens` and costs the same whatever its length.
        description: Label of the progress bar.
        pairs: The column of second texts.
    """
    sampled = len(positions) > SAMPLE_ROWS
    if sampled:
        drawn = np.random.default_rng(SAMPLE_SEED).choice(len(positions), SAMPLE_ROWS, replace=False)
        positions = positions[np.sort(drawn)]
    around = template_of(tokenizer, pairs is not None).size
    read = text_batches(texts, positions)
    second = itertools.repeat(None) if pairs is None else text_batches(pairs, positions)
    unknown, special = unknown_id(tokenizer), special_token_ids(tokenizer)
    lengths, num_unknown, num_special = [], 0, 0
    with tqdm(total=len(positions), desc=description, unit=" rows", **bar_settings()) as bar:
        for batch, others in zip(read, second, strict=pairs is not None):
            rows = tokenise(batch, tokenizer)
            if others is not None:
                rows = [a + b for a, b in zip(rows, tokenise(others, tokenizer), strict=True)]
            for ids in rows:
                lengths.append(len(ids) + around)
                num_unknown += 0 if unknown is None else ids.count(unknown)
                num_special += not special.isdisjoint(ids)
            bar.update(len(batch))
    full = np.array(lengths, dtype=np.int64)  # (N,)
    num_own = int(full.sum()) - around * len(full)
    sample = _texts_at(texts, pairs, spread(positions))
    return TokenLengths(
        measured=len(full),
        sampled=sampled,
        **_typical(full),
        unknown=None if unknown is None else num_unknown / max(num_own, 1),
        lost_letters=lost_letters(sample, tokenizer),
        unknown_letters=unknown_letters(sample, tokenizer) if num_unknown else 0.0,
        special_texts=num_special,
        empty_texts=int((full == around).sum()),
        limits=[_limit(full, limit, max_tokens, padded) for limit in limits],
    )


def _texts_at(texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None, places: np.ndarray) -> list[str]:
    found = texts.take(pa.array(places)).to_pylist()
    return found if pairs is None else both(found, pairs.take(pa.array(places)).to_pylist())


def _limit(full: np.ndarray, limit: int, max_tokens: int, padded: bool) -> Limit:
    kept = np.minimum(full, limit)
    cost = limit / max_tokens if padded else kept.sum() / np.minimum(full, max_tokens).sum()
    return Limit(limit, float((full > limit).mean()), float(1 - kept.sum() / full.sum()), float(cost))


def text_batches(
    texts: pa.ChunkedArray, positions: np.ndarray, pairs: pa.ChunkedArray | None = None
) -> Iterator[list[str]]:
    """The texts at ascending positions, chunk by chunk: `take` on the whole column would copy it.

    With `pairs`, the second texts, each text has its second one in a line below.
    """
    if pairs is not None:
        yield from map(both, text_batches(texts, positions), text_batches(pairs, positions))
        return
    start = 0
    for chunk in texts.chunks:
        low, high = np.searchsorted(positions, [start, start + len(chunk)])
        for first in range(low, high, BATCH_ROWS):
            yield chunk.take(pa.array(positions[first : min(first + BATCH_ROWS, high)] - start)).to_pylist()
        start += len(chunk)
