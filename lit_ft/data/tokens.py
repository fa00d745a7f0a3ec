"""Texts -> token ids, once: in batches, cut to `max_tokens`, cached on disk by content and settings.

N texts, of which each may have a second one beside it, its pair. Their tokens are one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import xxhash
from datasets import Dataset
from datasets.features import Features, List, Value
from transformers import PreTrainedTokenizerBase

from lit_ft.console import quiet_datasets
from lit_ft.data.text_columns import PAIR, SPANS, TEXT, longest_first, part_of_tokens
from lit_ft.errors import UserError
from lit_ft.runs import cache_dir, make_cache

Truncation = Literal["head", "tail", "head_tail"]

# The head's share of the tokens that `head_tail` keeps: 128 of 510, the best split in Sun et al. 2019
# ("How to Fine-Tune BERT for Text Classification?", section 5.3.1).
HEAD_SHARE = 128 / 510

IDS = pa.list_(pa.int32())  # the type of `input_ids`
BAR_ROWS = 10_000  # with fewer, no progress bar: it would be gone at once
ENCODED = Features({"input_ids": List(Value("int32")), "full_length": Value("int32")})
FIRST = "first_tokens"  # column: how many own tokens of a pair's row are of its first text
ENCODING_VERSION = 2  # part of the cache key: raise it when the result for the same input changes


def cut(ids: list[int], room: int, truncation: Truncation) -> list[int]:
    """At most `room` ids of a text: its head, its tail, or some of both."""
    if len(ids) <= room:
        return ids
    if truncation == "head":
        return ids[:room]
    if truncation == "tail":
        return ids[len(ids) - room :]
    head = min(round(room * HEAD_SHARE), room - 1)
    return ids[:head] + ids[len(ids) - (room - head) :]


@dataclass(frozen=True)
class Template:
    """The special tokens around a text, and between it and its pair, and the token types.

    Attributes:
        before: Ids before the text, such as [CLS].
        after: Ids after it, such as [SEP]; XLNet's <sep> and <cls>. After the second text of a pair.
        types: Token types of `before`, of the text's own tokens, and of `after`: all 0 except in XLNet and
            Funnel, and in pairs.
        between: Ids between the texts of a pair, such as [SEP]; RoBERTa's </s></s>. Empty for single texts.
        second_types: Token types of `between` and of the second text's own tokens.
    """

    before: list[int]
    after: list[int]
    types: tuple[list[int], int, list[int]]
    between: list[int] = field(default_factory=list)
    second_types: tuple[list[int], int] = ([], 0)

    @property
    def size(self) -> int:
        """Number of special tokens in a row."""
        return len(self.before) + len(self.between) + len(self.after)

    @property
    def most_type(self) -> int:
        """The highest token type."""
        (before, own, after), (between, second) = self.types, self.second_types
        return max([*before, own, *between, second, *after])

    def around(self, first: Sequence[int], second: Sequence[int] = ()) -> list[int]:
        """The ids of a row with these own tokens."""
        return [*self.before, *first, *self.between, *second, *self.after]

    def room(self, max_tokens: int) -> int:
        """Tokens of a row that are left for the text; raises if none are."""
        if max_tokens <= self.size:
            raise UserError(
                f"expected data.max_tokens of at least {self.size + 1}, found {max_tokens}; set "
                "--data.max_tokens=256"
            )
        return max_tokens - self.size


def fast_backend(tokenizer: PreTrainedTokenizerBase) -> Any:
    """The `tokenizers.Tokenizer` inside, set to encode as the tokenizer itself does in a `pipeline`.

    A tokenizer file may have its own truncation and padding. Ours come later and count what is lost.
    """
    backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend


def template_of(tokenizer: PreTrainedTokenizerBase, pairs: bool = False) -> Template:
    """The special tokens that the tokenizer puts around a single text, or around and between two.

    A tokenizer that puts nothing between two texts has no template for pairs, and `between` is empty.
    """
    backend = fast_backend(tokenizer)
    # Any text with a token will do. "a" has none if it is unknown and there is no unknown token.
    texts = chain(["a"], tokenizer.all_special_tokens, tokenizer.get_vocab())
    tried = (backend.encode(text, add_special_tokens=False) for text in texts)
    plain = next(encoded for encoded in tried if encoded.ids)
    whole = backend.post_process(plain, plain if pairs else None, True)
    own = [i for i, added in enumerate(whole.special_tokens_mask) if not added]
    ids, types, size = whole.ids, whole.type_ids, len(plain.ids)
    first, end = own[0], own[-1] + 1
    before, after = ids[:first], ids[end:]
    around = types[:first], types[first], types[end:]
    if not pairs:
        assert ids[first:end] == plain.ids, f"{ids} does not hold {plain.ids}"
        return Template(before, after, around)
    stop, again = first + size, end - size  # where the first text ends, and the second begins
    assert ids[first:stop] == ids[again:end] == plain.ids, f"{ids} does not hold {plain.ids} twice"
    return Template(before, after, around, ids[stop:again], (types[stop:again], types[again]))


def content_hash(table: Dataset) -> str:
    """A hash of what is read: equal texts in equal order have equal hashes, wherever they come from.

    Of the column `text`, and of `pair` and `spans` if there are any.
    """
    digest = xxhash.xxh3_128()
    more = [name for name in (PAIR, SPANS) if name in table.column_names]
    for batch in table.select_columns([TEXT, *more]).with_format("arrow").iter(batch_size=10_000):
        for name in (TEXT, *more):
            digest.update(b"" if name == TEXT else name.encode())
            for chunk in batch[name].chunks:
                if name == SPANS:
                    lengths, values = chunk.value_lengths(), chunk.flatten()
                    digest.update(lengths.to_numpy().tobytes() + values.to_numpy().tobytes())
                    continue
                chunk = chunk.cast(pa.large_string())
                digest.update(pc.binary_length(chunk).to_numpy(zero_copy_only=False).tobytes())
                digest.update("".join(chunk.to_pylist()).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def tokenise(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of each text: uncut, unpadded, without special tokens."""
    # A third faster than encode_batch, as it computes no offsets.
    return [e.ids for e in fast_backend(tokenizer).encode_batch_fast(texts, add_special_tokens=False)]


def encode(
    table: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    truncation: Truncation,
    description: str,
    content: str | None = None,
) -> tuple[Dataset, bool]:
    """Token ids of every text, with special tokens, without padding.

    Args:
        table: Has the column `text`; `spans`, if it is joined of columns; and `pair`, if there are pairs. Of
            a longer row the longest of these texts and columns is cut first, and separators are kept.
        tokenizer: A fast one.
        max_tokens: Longest row in tokens, special tokens included.
        truncation: Which part of a longer text is kept; of each text and column of a row.
        description: Label of the progress bar.
        content: The table's `content_hash`, if it is known already.

    Returns:
        A memory-mapped table with a row per text: `input_ids` (int32 list), `full_length` (tokens before
        the cut) and, of pairs, `first_tokens`; and whether it was found in the cache.

    Raises:
        UserError: `max_tokens` leaves no room for text beside the special tokens.
    """
    pairs, spans = PAIR in table.column_names, SPANS in table.column_names
    template = template_of(tokenizer, pairs)
    room = template.room(max_tokens)
    backend = fast_backend(tokenizer)
    reading = (backend.to_str(), backend.encode_special_tokens)
    settings = (ENCODING_VERSION, content or content_hash(table), *reading, max_tokens, truncation)
    key = xxhash.xxh3_128(repr(settings).encode()).hexdigest()
    cache_file = cache_dir() / "encoded" / f"{key}.arrow"
    cached = cache_file.is_file()
    make_cache(cache_file.parent)

    def encode_batch(batch: pa.Table) -> pa.Table:
        texts = batch[TEXT].to_pylist()
        rows = tokenise(texts, tokenizer)
        second = tokenise(batch[PAIR].to_pylist(), tokenizer) if pairs else [[]] * len(rows)
        full = np.array(
            [len(a) + len(b) + template.size for a, b in zip(rows, second, strict=True)], np.int32
        )
        long = np.flatnonzero(full > room + template.size).tolist()
        parts = {i: [[*range(len(rows[i]))]] for i in long}  # of each long row: the places of each column
        if spans and long:
            encoded = backend.encode_batch([texts[i] for i in long], add_special_tokens=False)
            of_rows = batch[SPANS].take(pa.array(long)).to_pylist()
            parts = {
                i: _parts(part_of_tokens(found.offsets, of_row), len(of_row) // 2)
                for i, found, of_row in zip(long, encoded, of_rows, strict=True)
            }
        for i in long:
            least = len(parts[i]) + bool(second[i])  # a token of each, and the separators
            least += len(parts[i][-1]) - 1 if spans else 0
            if room < least:
                raise UserError(
                    f"expected data.max_tokens of at least {least + template.size}, for a token of each text "
                    f"and column beside separators and names, found {max_tokens}; set --data.max_tokens=256"
                )
            rows[i], second[i] = _cut_row(rows[i], parts[i], second[i], room, truncation)
        kept = [template.around(a, b) for a, b in zip(rows, second, strict=True)]
        found = {"input_ids": pa.array(kept, IDS), "full_length": full}
        return pa.table(found | ({FIRST: np.array([*map(len, rows)], np.int32)} if pairs else {}))

    texts = table.select_columns([TEXT] + [SPANS] * spans + [PAIR] * pairs).with_format("arrow")
    with quiet_datasets(bars=len(table) > BAR_ROWS):
        encoded = texts.map(
            encode_batch,
            batched=True,
            features=Features(ENCODED | ({FIRST: Value("int32")} if pairs else {})),
            new_fingerprint=key,
            cache_file_name=str(cache_file),
            desc=description,
        )
    return encoded.with_format(None), cached


def _parts(column: np.ndarray, count: int) -> list[list[int]]:
    """The places of the tokens of each column, and at the end of those that are of none."""
    return [np.flatnonzero(column == k).tolist() for k in [*range(count), -1]]


def _cut_row(
    ids: list[int], parts: list[list[int]], second: list[int], room: int, truncation: Truncation
) -> tuple[list[int], list[int]]:
    """Cut the longest column of a row first, or its second text.

    Args:
        ids: Of the text.
        parts: The places in them of each column's tokens; if there are several, those of the separators last.
        second: The ids of the second text, or none.
        room: Tokens of all together.
        truncation: What is kept of each.
    """
    if len(parts) == 1 and not second:
        return cut(ids, room, truncation), second
    own, between = (parts[:-1], parts[-1]) if len(parts) > 1 else (parts, [])
    segments = [*own, [*range(len(second))]]
    shares = longest_first([*map(len, segments)], room - len(between))
    cuts = [cut(places, n, truncation) if n else [] for places, n in zip(segments, shares, strict=True)]
    kept = sorted(chain(between, *cuts[:-1]))
    return [ids[i] for i in kept], [second[i] for i in cuts[-1]]


def describe_cut(encoded: Dataset, max_tokens: int) -> str:
    """One line for the console: what `encode` cut off."""
    full = encoded.data.column("full_length").to_numpy().astype(np.int64)
    lost = full - row_lengths(encoded)
    if not lost.any():
        return f"none is cut at {max_tokens} tokens"
    return (
        f"{(lost > 0).sum():,} ({(lost > 0).mean():.1%}) cut at {max_tokens} tokens "
        f"({lost.sum() / full.sum():.1%} of all)"
    )


def row_lengths(rows: Dataset) -> np.ndarray:
    """Tokens of each row, (N,) int64, without reading the ids. A selection of rows is respected."""
    lengths = pc.list_value_length(rows.data.column("input_ids")).to_numpy().astype(np.int64)
    return lengths if rows._indices is None else lengths[rows._indices.column(0).to_numpy()]


class EncodedRows(torch.utils.data.Dataset):
    """Random access to encoded rows as views into the memory-mapped table, without copies.

    Args:
        encoded: From `encode`.
        positions: The rows in it that belong to this split, (N,) int64.
        labels: Their targets, (N, ...); classes are int64 (N,).
        with_index: Whether to add `index`, a row's position in `encoded`.
    """

    def __init__(
        self, encoded: Dataset, positions: np.ndarray, labels: np.ndarray | None, with_index: bool = False
    ) -> None:
        assert encoded._indices is None  # .data ignores a selection
        self.encoded = encoded
        self.positions = positions
        self.labels = labels
        self.with_index = with_index
        self._first = (
            encoded.data.column(FIRST).to_numpy().astype(np.int64) if FIRST in encoded.column_names else None
        )  # (N,) of all rows of `encoded`
        chunks = encoded.data.column("input_ids").chunks
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])
        self._chunks = [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in chunks]
        self.lengths = row_lengths(encoded)[positions]  # (N,) int64

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, i: int) -> dict[str, Any]:
        position = int(self.positions[i])
        chunk = int(np.searchsorted(self._starts, position, side="right")) - 1
        offsets, values = self._chunks[chunk]
        k = position - self._starts[chunk]
        row: dict[str, Any] = {"input_ids": values[offsets[k] : offsets[k + 1]]}
        if self._first is not None:
            row[FIRST] = self._first[position]
        if self.labels is not None:
            row["labels"] = self.labels[i]
        if self.with_index:
            row["index"] = position
        return row

    def were_cut(self, index: np.ndarray) -> np.ndarray:
        """Whether texts lost tokens to `max_tokens`.

        Args:
            index: Positions in `encoded` of rows of this split, whose positions ascend, (M,) int64.

        Returns:
            (M,) bool.
        """
        full = self.encoded.data.column("full_length").take(pa.array(index)).to_numpy()
        return full > self.lengths[np.searchsorted(self.positions, index)]

    def take(self, positions: np.ndarray, with_index: bool = False) -> "EncodedRows":
        """The rows at these positions of this split, in this order."""
        labels = None if self.labels is None else self.labels[positions]
        return EncodedRows(self.encoded, self.positions[positions], labels, with_index)
