"""Texts -> rows for masked-LM training: one cut text per row, or all joined and cut into full blocks."""

from typing import Literal

import numpy as np
import pyarrow as pa
from datasets import Dataset
from datasets.features import Features, List, Value
from datasets.fingerprint import Hasher
from transformers import PreTrainedTokenizerBase

from lit_ft.console import quiet_datasets, warn
from lit_ft.data.text_columns import SPANS, TEXT
from lit_ft.data.token_facts import TokenFacts, lines_about, token_facts
from lit_ft.data.tokens import (
    BAR_ROWS,
    IDS,
    Template,
    describe_cut,
    encode,
    fast_backend,
    row_lengths,
    template_of,
    tokenise,
)
from lit_ft.errors import UserError

Layout = Literal["pack", "truncate"]

PACKING_VERSION = 1  # part of the cache key: raise it when the result for the same input changes

# A last block shorter than this share of a full one is dropped: its row would be mostly padding.
SHORTEST_TAIL = 1 / 4

# Texts joined at a time. Each batch ends in a short block, so batches are large: 10,000 reviews have 10 MB of
# ids.
JOINED_TEXTS = 10_000

FEATURES = Features({"input_ids": List(Value("int32"))})


def lay_out(
    table: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    layout: Layout,
    max_tokens: int,
    where: str = "the texts",
) -> tuple[Dataset, str]:
    """Token ids of the texts, as rows for training.

    Args:
        table: Has the column `text`, and perhaps `row`, the text's row in the source, and `spans`.
        tokenizer: A fast one.
        layout: `pack` joins the texts with the separator and cuts them into blocks of `max_tokens`, so that
            nothing is padded; `truncate` keeps one text per row and cuts it to `max_tokens`.
        max_tokens: Longest row in tokens, special tokens included.
        where: The texts, in warnings and on the progress bar.

    Returns:
        Rows of `input_ids` (int32 list, special tokens included, unpadded), memory-mapped and cached by
        content and settings; and one line that says what was lost.
    """
    texts = table.select_columns([name for name in (TEXT, SPANS) if name in table.column_names])
    if layout == "pack":
        with quiet_datasets(bars=len(texts) > BAR_ROWS):
            return _pack(table, tokenizer, max_tokens, where)
    encoded, _ = encode(texts, tokenizer, max_tokens, "head", f"tokenising {where}")
    facts = _look_at_tokens(encoded, table, tokenizer, template_of(tokenizer), where)
    rows = encoded.select_columns(["input_ids"])
    if len(facts.without_token):  # nothing to guess; without special tokens a model would fail
        kept = np.setdiff1d(np.arange(len(rows)), facts.without_token)
        if not len(kept):
            raise UserError(f"expected texts with a token, found none in {where}; set another model")
        with quiet_datasets():
            rows = rows.select(kept).flatten_indices()
    return rows, describe_cut(encoded, max_tokens)


def _pack(table: Dataset, tokenizer: PreTrainedTokenizerBase, block: int, where: str) -> tuple[Dataset, str]:
    template = template_of(tokenizer)
    before, after = (np.array(ids, np.int32) for ids in (template.before, template.after))
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    if separator is None:
        raise UserError(
            "expected a tokenizer with a separator token to join texts with, found none in "
            f"{type(tokenizer).__name__}; set --data.layout=truncate"
        )
    room = template.room(block)
    tokens = _ids_of(table.select_columns(["text"]), tokenizer, f"tokenising {where}")
    _look_at_tokens(tokens, table, tokenizer, None, where)

    def join(batch: pa.Table) -> pa.Table:
        column = batch.column("input_ids").combine_chunks()
        lengths = column.value_lengths().to_numpy()
        body, tail = blocks_of(column.flatten().to_numpy(), lengths, separator, room)
        rows = [*body] + ([tail] if len(tail) > SHORTEST_TAIL * room else [])
        return pa.table({"input_ids": pa.array([np.concatenate([before, row, after]) for row in rows], IDS)})

    packed = tokens.with_format("arrow").map(
        join,
        batched=True,
        batch_size=JOINED_TEXTS,
        features=FEATURES,
        new_fingerprint=Hasher.hash(
            (PACKING_VERSION, tokens._fingerprint, block, separator, template.before, template.after)
        ),
        desc="packing",
    )
    if len(packed) == 0:
        found = int(row_lengths(tokens).sum())
        raise UserError(
            f"expected texts for at least one block of {block} tokens, found {found} tokens "
            f"in {len(tokens)} texts; set --data.max_tokens lower or --data.layout=truncate"
        )
    return packed.with_format(None), _describe(tokens, packed, block, template.size)


def blocks_of(
    flat: np.ndarray, lengths: np.ndarray, separator: int, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Join texts with a separator between them, then cut.

    Args:
        flat: The ids of all texts, concatenated.
        lengths: Tokens of each text, (texts,).
        separator: The id between two texts.
        room: Tokens per block.

    Returns:
        The full blocks, (blocks, room), and the remaining tokens, fewer than `room`.
    """
    lengths = lengths[lengths > 0].astype(np.int64)  # an empty text would give two separators in a row
    if not len(lengths):
        return np.empty((0, room), np.int32), np.empty(0, np.int32)
    # Text k is shifted right by the k separators before it.
    position = np.arange(len(flat)) + np.repeat(np.arange(len(lengths)), lengths)
    joined = np.full(len(flat) + len(lengths) - 1, separator, dtype=np.int32)
    joined[position] = flat
    num_full = len(joined) // room * room
    return joined[:num_full].reshape(-1, room), joined[num_full:]


def _ids_of(texts: Dataset, tokenizer: PreTrainedTokenizerBase, description: str) -> Dataset:
    """The ids of every text, uncut, without special tokens: cached separately, for any block size."""
    backend = fast_backend(tokenizer)
    reading = Hasher.hash(backend.to_str()), backend.encode_special_tokens
    fingerprint = Hasher.hash((PACKING_VERSION, texts._fingerprint, *reading))

    return texts.map(
        lambda batch: pa.table({"input_ids": pa.array(tokenise(batch["text"], tokenizer), IDS)}),
        batched=True,
        batch_size=1000,
        remove_columns=["text"],
        features=FEATURES,
        new_fingerprint=fingerprint,
        desc=description,
    )


def _look_at_tokens(
    tokens: Dataset, table: Dataset, tokenizer: PreTrainedTokenizerBase, template: Template | None, where: str
) -> TokenFacts:
    """Warn of what the tokenizer does not know, or reads as special tokens."""
    facts = token_facts(tokens, table, tokenizer, template)
    source_rows = table["row"][:] if "row" in table.column_names else range(1, len(table) + 1)
    for line in lines_about(facts, tokenizer, table, np.asarray(source_rows), where):
        warn(line)
    return facts


def _describe(tokens: Dataset, packed: Dataset, block: int, specials: int) -> str:
    """One line for the console: rows made and tokens dropped."""
    num_texts = int((row_lengths(tokens) > 0).sum())
    num_batches = -(-len(tokens) // JOINED_TEXTS)
    total = int(row_lengths(tokens).sum()) + num_texts - num_batches  # with the separators between texts
    kept = int(row_lengths(packed).sum()) - specials * len(packed)
    dropped = max(total - kept, 0)
    line = f"{num_texts:,} texts packed into {len(packed):,} rows of {block} tokens"
    return f"{line}; {dropped:,} tokens, too few for a row, were dropped" if dropped else line
