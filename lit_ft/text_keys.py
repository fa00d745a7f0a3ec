"""Leaf: texts as 64-bit hashes, so that 650,000 rows are compared in 10 MB and no text is kept.

That any two of n different texts share a hash has a probability of n^2 / 2^65, here 1e-8. N rows of a column.
"""

import functools
import sys
import unicodedata
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import xxhash
from tqdm import tqdm


def normalise(text: str) -> str:
    """The text without what a copy often loses: case, width and ligatures (NFKC), punctuation, spacing.

    Punctuation counts as a space, so that "good,fast" is "good fast"; symbols such as $, + and emoji stay.
    A text of nothing but punctuation keeps it.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_punctuation()).split() or folded.split())


@functools.cache
def _punctuation() -> dict[int, str]:
    codes = range(sys.maxunicode + 1)
    return {code: " " for code in codes if unicodedata.category(chr(code)).startswith("P")}


def exact_keys(texts: pa.ChunkedArray) -> np.ndarray:
    """A hash of each text, (N,) uint64."""
    return _joined(_hashes(chunk.cast(pa.large_binary()).to_pylist()) for chunk in texts.chunks)


def normalised_keys(texts: pa.ChunkedArray, description: str) -> np.ndarray:
    """A hash of each text after `normalise`, (N,) uint64.

    Args:
        texts: A column of strings.
        description: Label of the progress bar.
    """
    with tqdm(total=len(texts), desc=description, unit=" rows", delay=2, leave=False) as bar:

        def keys_of(chunk: pa.Array) -> np.ndarray:
            bar.update(len(chunk))
            return _hashes([normalise(text).encode() for text in chunk.to_pylist()])

        return _joined(map(keys_of, texts.chunks))


def _hashes(texts: list[bytes]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.uint64), *parts])
