"""Texts -> token ids, once: in batches, cut to `max_tokens`, cached on disk by content and settings.

N texts.
"""

from dataclasses import dataclass
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
from lit_ft.errors import UserError
from lit_ft.runs import cache_dir, make_cache

Truncation = Literal["head", "tail", "head_tail"]

# The head's share of the tokens that `head_tail` keeps: 128 of 510, the best split in Sun et al. 2019
# ("How to Fine-Tune BERT for Text Classification?", section 5.3.1).
HEAD_SHARE = 128 / 510

IDS = pa.list_(pa.int32())  # the type of `input_ids`
BAR_ROWS = 10_000  # with fewer, no progress bar: it would be gone at once
ENCODED = Features({"input_ids": List(Value("int32")), "full_length": Value("int32")})
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
    """The special tokens around a single text, and the token types.

    Attributes:
        before: Ids before the text, such as [CLS].
        after: Ids after it, such as [SEP]; XLNet's <sep> and <cls>.
        types: Token types of `before`, of the text's own tokens, and of `after`: all 0 except in XLNet and
            Funnel.
    """

    before: list[int]
    after: list[int]
    types: tuple[list[int], int, list[int]]

    @property
    def size(self) -> int:
        """Number of special tokens in a row."""
        return len(self.before) + len(self.after)

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


def template_of(tokenizer: PreTrainedTokenizerBase) -> Template:
    """The special tokens that the tokenizer puts around a single text."""
    backend = fast_backend(tokenizer)
    # Any text with a token will do. "a" has none if it is unknown and there is no unknown token.
    texts = chain(["a"], tokenizer.all_special_tokens, tokenizer.get_vocab())
    tried = (backend.encode(text, add_special_tokens=False) for text in texts)
    plain = next(encoded for encoded in tried if encoded.ids)
    whole = backend.post_process(plain, None, True)
    own = [i for i, added in enumerate(whole.special_tokens_mask) if not added]
    first, last = own[0], own[-1] + 1
    assert whole.ids[first:last] == plain.ids, f"{whole.ids} does not hold {plain.ids}"
    types = whole.type_ids
    return Template(whole.ids[:first], whole.ids[last:], (types[:first], types[first], types[last:]))


def content_hash(table: Dataset) -> str:
    """A hash of the column `text`: equal texts in equal order have equal hashes, wherever they come from."""
    digest = xxhash.xxh3_128()
    for batch in table.with_format("arrow").iter(batch_size=10_000):
        for chunk in batch["text"].chunks:
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
        table: Has the column `text`.
        tokenizer: A fast one.
        max_tokens: Longest row in tokens, special tokens included.
        truncation: Which part of a longer text is kept.
        description: Label of the progress bar.
        content: The table's `content_hash`, if it is known already.

    Returns:
        A memory-mapped table with a row per text: `input_ids` (int32 list) and `full_length` (tokens before
        the cut); and whether it was found in the cache.

    Raises:
        UserError: `max_tokens` leaves no room for text beside the special tokens.
    """
    template = template_of(tokenizer)
    before, after = template.before, template.after
    room = template.room(max_tokens)
    backend = fast_backend(tokenizer)
    reading = (backend.to_str(), backend.encode_special_tokens)
    settings = (ENCODING_VERSION, content or content_hash(table), *reading, max_tokens, truncation)
    key = xxhash.xxh3_128(repr(settings).encode()).hexdigest()
    cache_file = cache_dir() / "encoded" / f"{key}.arrow"
    cached = cache_file.is_file()
    make_cache(cache_file.parent)

    def encode_batch(batch: pa.Table) -> pa.Table:
        rows = tokenise(batch["text"].to_pylist(), tokenizer)
        kept = [before + cut(ids, room, truncation) + after for ids in rows]
        full = np.array([len(ids) + template.size for ids in rows], dtype=np.int32)
        return pa.table({"input_ids": pa.array(kept, IDS), "full_length": full})

    texts = table.select_columns("text").with_format("arrow")
    with quiet_datasets(bars=len(table) > BAR_ROWS):
        encoded = texts.map(
            encode_batch,
            batched=True,
            features=ENCODED,
            new_fingerprint=key,
            cache_file_name=str(cache_file),
            desc=description,
        )
    return encoded.with_format(None), cached


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
