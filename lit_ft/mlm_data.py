"""The rows that a masked LM learns from: texts read, a part held out, all of it as token ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lit_ft.console import say, warn
from lit_ft.corpus import select_texts
from lit_ft.encoding import content_hash, row_lengths
from lit_ft.errors import UserError
from lit_ft.holdout import shown_share, stratified_split
from lit_ft.packing import lay_out
from lit_ft.sft_settings import SAMPLE_CONFIG, DataSettings
from lit_ft.splits import SplitName, asks_hub, origin, read_split
from lit_ft.text_keys import normalised_keys


@dataclass
class MaskedLMRows:
    """Rows of `input_ids`.

    Attributes:
        train: To train on.
        validation: To evaluate on.
        facts: What a report says of each split.
        notes: What was said of them on the console.
    """

    train: Dataset
    validation: Dataset
    facts: dict[str, dict[str, Any]]
    notes: list[str]


def prepare_rows(data: DataSettings, tokenizer: PreTrainedTokenizerBase) -> MaskedLMRows:
    """The texts as rows; says what the user should know about them.

    Raises:
        UserError: A mistake in the data or its settings, in one line.
    """
    train = _read_texts(data, "train")
    if origin(vars(data), "validation") is not None:
        held_out = _read_texts(data, "validation")
    else:
        texts = train
        train, held_out = hold_out(texts, data.validation_share, data.split_seed)
        share = shown_share(np.zeros(len(texts)), np.zeros(len(held_out)), data.validation_share)
        say(f"validation: {len(held_out):,} texts held out of train ({share})")
    rows, facts, notes = {}, {}, []
    for split, texts in (("train", train), ("validation", held_out)):
        rows[split], lost = lay_out(
            texts, tokenizer, data.layout, data.max_tokens, f"tokenising {split}", where=split
        )
        notes.append(f"{split}: {lost}")
        say(notes[-1])
        facts[split] = _facts(data, split, texts, row_lengths(rows[split]))
    return MaskedLMRows(rows["train"], rows["validation"], facts, notes)


def _facts(data: DataSettings, split: Any, texts: Dataset, lengths: np.ndarray) -> dict[str, Any]:
    named = origin(vars(data), split) is not None
    where = vars(data)[f"{split}_path"] or data.source if named else "held out of train"
    tokens = int(lengths.sum())
    counts = {"texts": len(texts), "rows": len(lengths), "tokens": tokens, "mean": tokens / len(lengths)}
    from_hub = asks_hub(vars(data), split if named else "train")
    return {**counts, "where": where, "from_hub": from_hub, "fingerprint": content_hash(texts)}


def _read_texts(data: DataSettings, split: SplitName) -> Dataset:
    table, where = read_split(vars(data), split, SAMPLE_CONFIG)
    texts, num_dropped = select_texts(
        table,
        text_column=data.text_column,
        label_column=None,
        on_empty=data.on_empty,
        unescape=data.unescape,
        strip_html_breaks=data.strip_html_breaks,
        where=where,
    )
    if num_dropped:
        warn(f"{num_dropped:,} of {len(table):,} rows of {where} have no text and are left out")
    say(f"{split}: {len(texts):,} texts of {where}")
    return texts


def hold_out(texts: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """The texts without a random share of them, and that share; both in the texts' order, no text in both."""
    keys = normalised_keys(texts.data.column("text"), "comparing texts")
    if len(texts) < 2:
        raise UserError(
            f"expected two texts or more, to hold one out for evaluation, found {len(texts)}; "
            "give more texts or set --data.validation_path"
        )
    if len(np.unique(keys)) == 1:
        warn("all texts are equal: those held out are copies of those trained on")
    kept, held_out = stratified_split(np.zeros(len(texts), np.int64), share, seed, keys)
    return texts.select(kept), texts.select(held_out)
