"""Duplicates, leakage between splits and conflicting labels, which training does not notice. N rows.

Texts are compared as 64-bit hashes: 650,000 rows take 10 MB, and no text is kept.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from tqdm import tqdm

from lit_ft.data.text_columns import PAIR, TEXT, shown_texts
from lit_ft.data.unspaced import INVISIBLE, SPACE_WITHIN
from lit_ft.progress import bar_settings

MAX_EXAMPLES = 100  # of each finding, exact and normalised
SHOWN_CHARACTERS = 80  # of an example's text


@dataclass(frozen=True)
class AuditSplit:
    """One split to check."""

    name: str
    exact: np.ndarray  # (N,) uint64, of the texts as they are
    normalised: np.ndarray  # (N,) uint64, of the normalised texts
    source_rows: np.ndarray  # (N,) int64: 1-based row in the file or Hub split
    texts: pa.ChunkedArray  # of the table that contains the rows
    positions: np.ndarray  # (N,) int64: the rows in `texts`, ascending
    labels: np.ndarray | None  # (N,) int64
    pairs: pa.ChunkedArray | None = None  # their second texts

    def columns(self) -> dict[str, pa.ChunkedArray]:
        """The texts, and their second ones if there are any."""
        return {TEXT: self.texts} | ({} if self.pairs is None else {PAIR: self.pairs})

    def take(self, positions: np.ndarray, name: str) -> "AuditSplit":
        """The rows at these positions, as a split of their own."""
        return AuditSplit(
            name,
            self.exact[positions],
            self.normalised[positions],
            self.source_rows[positions],
            self.texts,
            self.positions[positions],
            None if self.labels is None else self.labels[positions],
            self.pairs,
        )


@dataclass(frozen=True)
class Duplicates:
    """Texts that occur more than once in a split."""

    texts: int
    surplus_rows: int  # rows beyond the first of each text


@dataclass(frozen=True)
class Occurrence:
    """A row that contains a text."""

    split: str
    row: int
    label: str | None


@dataclass(frozen=True)
class Example:
    """A text that occurs several times, shortened."""

    exact: bool  # equal as it is, not only normalised
    occurrences: list[Occurrence]
    text: str


@dataclass(frozen=True)
class Leak:
    """Rows of the split `second` whose text is also in `first`."""

    first: str
    second: str
    exact_rows: int
    normalised_rows: int  # including the exact ones
    share: float  # `normalised_rows` of the rows of `second`
    examples: list[Example]  # one per text, at most MAX_EXAMPLES of either kind


@dataclass(frozen=True)
class Conflicts:
    """Equal texts that have different labels."""

    exact_texts: int
    normalised_texts: int  # including the exact ones
    rows: int  # with one of these texts
    within: dict[str, int]  # texts with different labels in this split alone
    across: int  # texts whose labels differ only between splits
    examples: list[Example]  # one per text, with one occurrence per label


def duplicates(keys: np.ndarray) -> Duplicates:
    """Count the keys, (N,), that occur more than once."""
    counts = np.unique(keys, return_counts=True)[1]
    return Duplicates(int((counts > 1).sum()), int(len(keys) - len(counts)))


def leakage(splits: Sequence[AuditSplit], named: Callable[[Any], str]) -> list[Leak]:
    """The texts that each pair of splits shares, in the order of the splits; training comes first."""
    return [_leak(first, second, named) for first, second in combinations(splits, 2)]


def _leak(first: AuditSplit, second: AuditSplit, named: Callable[[Any], str]) -> Leak:
    exact = np.isin(second.exact, first.exact)  # (N,) of `second`
    normalised = np.isin(second.normalised, first.normalised)
    found = [(True, i) for i in _first_of_each(second.exact, exact)]
    only = normalised & ~np.isin(second.normalised, second.normalised[exact])
    found += [(False, i) for i in _first_of_each(second.normalised, only)]
    examples = []
    for same, i in found:
        theirs, own = (first.exact, second.exact) if same else (first.normalised, second.normalised)
        places = [(first, int(np.argmax(theirs == own[i]))), (second, i)]
        examples.append(_example(same, places, named))
    rows = int(normalised.sum())
    return Leak(first.name, second.name, int(exact.sum()), rows, rows / max(len(exact), 1), examples)


def conflicts(splits: Sequence[AuditSplit], named: Callable[[Any], str]) -> Conflicts:
    """Equal texts with different labels, within the labelled splits and between them."""
    labelled = [split for split in splits if split.labels is not None]
    all_exact = np.concatenate([split.exact for split in labelled])
    all_normalised = np.concatenate([split.normalised for split in labelled])
    labels = np.concatenate([split.labels for split in labelled])  # type: ignore[misc]
    exact, normalised = conflicting(all_exact, labels), conflicting(all_normalised, labels)
    within = {s.name: np.unique(s.normalised[conflicting(s.normalised, s.labels)]) for s in labelled}
    texts = np.unique(all_normalised[normalised])
    in_one_split = np.unique(np.concatenate(list(within.values())))

    starts = np.cumsum([0, *(len(split.exact) for split in labelled)])
    found = [(all_exact, i) for i in _first_of_each(all_exact, exact)]
    only = normalised & ~np.isin(all_normalised, all_normalised[exact])
    found += [(all_normalised, i) for i in _first_of_each(all_normalised, only)]
    examples = []
    for keys, i in found:
        rows = np.flatnonzero(keys == keys[i])
        rows = rows[
            np.sort(np.unique(labels[rows], axis=0, return_index=True)[1])
        ]  # the first row of each label
        owners = np.searchsorted(starts, rows, side="right") - 1
        places = [(labelled[k], int(row - starts[k])) for k, row in zip(owners, rows, strict=True)]
        examples.append(_example(keys is all_exact, places, named))
    return Conflicts(
        exact_texts=len(np.unique(all_exact[exact])),
        normalised_texts=len(texts),
        rows=int(normalised.sum()),
        within={name: len(keys) for name, keys in within.items()},
        across=len(texts) - len(in_one_split),
        examples=examples,
    )


def conflicting(keys: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """Which rows' texts have another label elsewhere: keys and labels (N,), or (N, C), -> bool (N,)."""
    assert labels is not None
    if not len(keys):
        return np.zeros(0, bool)
    if labels.ndim == 2:  # a set of labels is one kind
        labels = np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(keys[order]) != 0])  # (G,)
    ordered = labels[order]
    differ = np.minimum.reduceat(ordered, starts) != np.maximum.reduceat(ordered, starts)  # (G,)
    found = np.empty(len(keys), bool)
    found[order] = np.repeat(differ, np.diff(np.r_[starts, len(keys)]))
    return found


def warning_line(train: np.ndarray, labels: np.ndarray, validation: np.ndarray) -> str | None:
    """The warning of `fit` about exact copies, the cheap part of `check`; None without any.

    Args:
        train: `exact_keys` of the training texts, (N,).
        labels: Their classes, (N,), or labels, (N, C).
        validation: `exact_keys` of the validation texts.
    """
    leaked = int(np.isin(validation, train).sum())
    texts = len(np.unique(train[conflicting(train, labels)]))
    copies = "are copies of training rows" if leaked > 1 else "is a copy of a training row"
    found = [f"{leaked:,} of {len(validation):,} validation rows {copies}"] * (leaked > 0)
    found += [f"{texts:,} training text{'s have' if texts > 1 else ' has'} different labels"] * (texts > 0)
    return " and ".join(found) + "; python -m lit_ft check with these settings shows them" if found else None


def _first_of_each(keys: np.ndarray, mask: np.ndarray) -> list[int]:
    """The first row of each key in the mask, ascending; at most MAX_EXAMPLES."""
    rows = np.flatnonzero(mask)
    firsts = np.sort(np.unique(keys[rows], return_index=True)[1])
    return rows[firsts[:MAX_EXAMPLES]].tolist()


def _example(exact: bool, places: list[tuple[AuditSplit, int]], named: Callable[[Any], str]) -> Example:
    occurrences = []
    for split, i in places:
        label = None if split.labels is None else named(split.labels[i])
        occurrences.append(Occurrence(split.name, int(split.source_rows[i]), label))
    split, i = places[-1]
    place = int(split.positions[i])
    row = {name: " ".join(column[place].as_py().split()) for name, column in split.columns().items()}
    return Example(exact, occurrences, shown_texts(row, SHOWN_CHARACTERS))


def normalise(text: str) -> str:
    """The text without what often differs between copies: case, NFKC forms, punctuation, spacing.

    Punctuation counts as a space, so that "good,fast" equals "good fast"; between two characters of Chinese,
    Thai and other scripts without spaces a space counts for nothing. Symbols such as $, + and emoji stay, and
    so does the punctuation of a text that has nothing else.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(folded.translate(_SPACED).split() or folded.split())
    return words if words.isascii() else SPACE_WITHIN.sub("", words)


class _Spaced(dict[int, str]):
    """What stands in place of a character, found when it is first met: all of Unicode takes 0.2 s."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        is_space = unicodedata.category(letter).startswith("P")
        self[code] = "" if letter in INVISIBLE else " " if is_space else letter
        return self[code]


_SPACED = _Spaced()


def exact_keys(texts: pa.ChunkedArray, pairs: pa.ChunkedArray | None = None) -> np.ndarray:
    """A hash of each text and, with `pairs`, its second one, (N,) uint64."""
    keys = _joined(_hashes(chunk.cast(pa.large_binary()).to_pylist()) for chunk in texts.chunks)
    return keys if pairs is None else _of_both(keys, exact_keys(pairs))


def normalised_keys(
    texts: pa.ChunkedArray, description: str, pairs: pa.ChunkedArray | None = None
) -> np.ndarray:
    """A hash of each text after `normalise`, (N,) uint64.

    Args:
        texts: A column of strings.
        description: Label of the progress bar.
        pairs: Their second texts: the hash is then of both.
    """
    with tqdm(total=len(texts), desc=description, unit=" rows", **bar_settings()) as bar:

        def keys_of(chunk: pa.Array) -> np.ndarray:
            bar.update(len(chunk))
            return _hashes([normalise(text).encode() for text in chunk.to_pylist()])

        keys = _joined(map(keys_of, texts.chunks))
    return keys if pairs is None else _of_both(keys, normalised_keys(pairs, description))


def _of_both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A hash of two, (N,) uint64: texts that are divided otherwise are other pairs."""
    return _hashes([row.tobytes() for row in np.stack([first, second], 1)])


def _hashes(texts: list[bytes]) -> np.ndarray:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts), np.uint64, len(texts))


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, np.uint64), *parts])
