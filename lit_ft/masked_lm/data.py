"""The rows that a masked LM trains on, and what changes from epoch to epoch. N rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
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
from lit_ft.data.column_names import listed_columns, named
from lit_ft.data.columns import GROUPS, Values, check_apart
from lit_ft.data.facts import row_facts
from lit_ft.data.groups import line_of, read_groups, shared
from lit_ft.data.packing import lay_out
from lit_ft.data.source import SplitName, TextSource
from lit_ft.data.splits import hold_out
from lit_ft.masked_lm.masking import MaskingCollator
from lit_ft.masked_lm.settings import SAMPLE_CONFIG, DataSettings


@dataclass
class MaskedLMRows:
    """Rows of `input_ids`.

    Attributes:
        train: Training rows.
        validation: Evaluation rows.
        facts: The facts of each split, for reports.
        notes: The lines about them on the console.
    """

    train: Dataset
    validation: Dataset
    facts: dict[str, dict[str, Any]]
    notes: list[str]


def prepare_rows(data: DataSettings, tokenizer: PreTrainedTokenizerBase) -> MaskedLMRows:
    """Read the texts, make rows from them, and report on them.

    Raises:
        UserError: A mistake in the data or its settings, in one line.
    """
    settings = vars(data)
    if data.pair_column is not None:
        columns = [*listed_columns(data.text_column), data.pair_column]
        settings = {**settings, "text_column": columns, "pair_column": None}
        say(f"{named(columns)} are joined: a masked language model reads one text a row, and no pairs")
    source = TextSource.of(settings, SAMPLE_CONFIG)
    if data.group_column is not None:
        check_apart(data.group_column, GROUPS, data.text_column, data.pair_column)
    train, table, where = source.read_texts("train")
    groups = None
    if data.group_column is not None:
        source_rows = np.asarray(train.with_format("numpy")["row"][:])
        groups = read_groups(table, data.group_column, source_rows, where)
    origins = {"train": f"of {where}"}
    if source.origin("validation") is not None:
        validation, table, where = source.read_texts("validation")
        if groups is not None:
            _warn_of_groups(groups, train, validation, table, where)
        origins["validation"] = f"of {where}"
    else:
        kept, held_out, share = hold_out(train, None, data.validation_share, data.split_seed, groups, where)
        train, validation = train.select(kept), train.select(held_out)
        origins["validation"] = f"held out of train ({share})"
    rows, facts, notes = {}, {}, []
    texts_of: dict[SplitName, Dataset] = {"train": train, "validation": validation}
    for split, texts in texts_of.items():
        rows[split], lost = lay_out(texts, tokenizer, data.layout, data.max_tokens, split)
        notes.append(f"{split}: {lost}")
        # Of texts held out as many are cut as of the others: that is left to the report.
        told = data.layout == "pack" or origins[split].startswith("of ")
        count = f"{len(texts):,} texts "
        say(f"{split}: {count}{origins[split]}{f', {lost.removeprefix(count)}' * told}")
        facts[str(split)] = {**row_facts(texts, rows[split]), **source.facts(split)}
    return MaskedLMRows(rows["train"], rows["validation"], facts, notes)


def _warn_of_groups(groups: Values, train: Dataset, validation: Dataset, table: Dataset, where: str) -> None:
    """Warn if texts to evaluate on are of groups that train has."""
    rows = [np.asarray(texts.with_format("numpy")["row"][:]) for texts in (train, validation)]
    if (theirs := read_groups(table, groups.column, rows[1], where, needed=False)) is not None:
        (leak,) = shared([("train", groups, rows[0]), ("validation", theirs, rows[1])])
        if line := line_of(leak, groups.column):
            warn(line)


class EpochSampler(Sampler[int]):
    """The rows' order as a function of the seed and the epoch alone, so that a resumed run repeats it.

    transformers' LengthGroupedSampler draws from the global random state, and accelerate 1.15
    (data_loader.py, DataLoaderShard.set_epoch) does not reach the sampler if a run on several devices is
    resumed.
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
        # The short batch comes last: the loader cuts this flat order into batches again.
        return iter(np.concatenate(sorted(self.batches.plan(self.epoch), key=len, reverse=True)).tolist())


class SharedBatches(Sampler[list[int]]):
    """This process's share of each batch of W x B rows, for W processes.

    accelerate 1.15 (data_loader.py, BatchSamplerShard) would fill up an epoch's short last batch with rows
    from its beginning, which would be trained on twice, or leave a process without a batch, for whose
    gradients the others would wait. If fewer than W rows are left, some shares are empty.

    Args:
        rows: The epoch's order, over all processes.
        batch_size: Rows per batch and process.
        rank: This process among `world_size`.
        world_size: Number of processes.
    """

    def __init__(self, rows: EpochSampler, batch_size: int, rank: int, world_size: int) -> None:
        self.sampler = rows  # accelerate sets the epoch on this attribute
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
    """A MaskingCollator that turns an empty share into an empty batch, (0, 1)."""

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
    """Sets the epoch of the collator and the sampler before the loader's workers start."""

    def __init__(self, collator: MaskingCollator) -> None:
        self.collator = collator
        self.sampler: EpochSampler | None = None

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """`state.epoch` is whole at the start of an epoch, and a fraction above after a resume within one."""
        epoch = int(state.epoch or 0)
        self.collator.set_epoch(epoch)
        if self.sampler is not None:
            self.sampler.set_epoch(epoch)

    def rows_of_step(self, step: int) -> list[int]:
        """The rows of an optimizer step of this epoch, from 0, over all processes; [] if unknown."""
        if self.sampler is None:
            return []
        total = self.sampler.batches.batch_size
        first = step % -(-len(self.sampler) // total) * total
        return list(self.sampler)[first : first + total]
