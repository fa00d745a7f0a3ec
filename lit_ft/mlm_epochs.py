"""What changes from epoch to epoch: the order of the rows and their masks. N rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.batching import GroupedBatchSampler
from lit_ft.masking import MaskingCollator


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
