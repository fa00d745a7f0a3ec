"""The rows that a masked LM learns from, and what changes from epoch to epoch. N rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from lit_ft.console import say, warn
from lit_ft.data.batching import GroupedBatchSampler
from lit_ft.data.corpus import select_texts
from lit_ft.data.duplicates import normalised_keys
from lit_ft.data.holdout import shown_share, stratified_split
from lit_ft.data.packing import lay_out
from lit_ft.data.splits import SplitName, asks_hub, origin, read_split
from lit_ft.data.tokens import content_hash
from lit_ft.errors import UserError
from lit_ft.masked_lm.masking import MaskingCollator
from lit_ft.masked_lm.settings import SAMPLE_CONFIG, DataSettings


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


class EpochSampler(Sampler[int]):
    """The rows' order as a function of the seed and the epoch alone, so that a resumed run repeats it.

    transformers' LengthGroupedSampler draws from the global random state, and accelerate 1.15
    (data_loader.py, DataLoaderShard.set_epoch) does not reach the sampler of a run that is resumed on several
    devices.
    """

    def __init__(self, lengths: np.ndarray, total_batch: int, seed: int, group_by_length: bool) -> None:
        self.epoch = 0
        self.batches = GroupedBatchSampler(lengths, total_batch, seed=seed, group_by_length=group_by_length)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.batches.lengths)

    def __iter__(self) -> Iterator[int]:
        # The one short batch comes last: the loader cuts this flat order into batches again.
        return iter(np.concatenate(sorted(self.batches.plan(self.epoch), key=len, reverse=True)).tolist())


class SharedBatches(Sampler[list[int]]):
    """The batches of one process of W x B rows, cut into the shares of W: this process's share of each.

    accelerate 1.15 (data_loader.py, BatchSamplerShard) would fill up an epoch's short last batch with rows of
    its beginning, which would be trained on twice, or leave a process without a batch, for whose gradients
    the others would wait. Where fewer than W rows are left, some shares are empty.

    Args:
        rows: The epoch's order, over all processes.
        batch_size: Rows a batch, on each process.
        rank: This process among `world_size`.
        world_size: Number of processes.
    """

    def __init__(self, rows: EpochSampler, batch_size: int, rank: int, world_size: int) -> None:
        self.sampler = rows  # under the name by which accelerate tells it the epoch
        self.total = batch_size * world_size
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.total)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.sampler)
        for batch in range(len(self)):
            shared = rows[batch * self.total : (batch + 1) * self.total]
            yield [int(row) for row in np.array_split(shared, self.world_size)[self.rank]]


class ShareCollator:
    """Gives a share without rows as a batch of none, (0, 1).

    Args:
        collator: For shares with rows.
    """

    def __init__(self, collator: MaskingCollator) -> None:
        self.collator = collator

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """(B rows of `input_ids`) -> tensors (B, T)."""
        if rows:
            return self.collator(rows)
        return {
            key: torch.zeros(0, 1, dtype=torch.int64) for key in ("input_ids", "attention_mask", "labels")
        }


class EpochStart(TrainerCallback):
    """Tells collator and sampler the epoch, before the loader's workers start.

    Args:
        collator: Masks the training rows.
    """

    def __init__(self, collator: MaskingCollator) -> None:
        self.collator = collator
        self.sampler: EpochSampler | None = None

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Whole at an epoch's begin, `state.epoch` lies a fraction above it after a resume within one."""
        epoch = int(state.epoch or 0)
        self.collator.set_epoch(epoch)
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)

    def rows_of_step(self, step: int) -> list[int]:
        """The rows of one of this epoch's optimizer steps, from 0, over all processes; [] where unknown."""
        if self.sampler is None:
            return []
        total = self.sampler.batches.batch_size
        first = step % -(-len(self.sampler) // total) * total
        return list(self.sampler)[first : first + total]


def row_lengths(dataset: Dataset) -> np.ndarray:
    """Tokens of each row, (N,) int64; follows a selection or shuffle of the rows, unlike the bare table."""
    batches = dataset.select_columns(["input_ids"]).with_format("arrow").iter(10_000)
    lengths = [pc.list_value_length(batch["input_ids"]).to_numpy() for batch in batches]
    return np.concatenate(lengths or [[]]).astype(np.int64)
