"""Rows of token ids -> batches: which rows go together, in which order, padded to which length."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from lit_ft.errors import UserError

# Batches' worth of rows that are sorted together. Fewer would pad more; more would make consecutive batches
# too similar in length. 50 is the value of Hugging Face's LengthGroupedSampler.
GROUP_BATCHES = 50


class GroupedBatchSampler(Sampler[list[int]]):
    """Shuffled batches of rows of similar length. The plan is a function of the seed and the epoch.

    Each epoch draws a new permutation, sorts stretches of `GROUP_BATCHES` batches by length, cuts them into
    batches and shuffles the batches. Every row comes exactly once per epoch. Every epoch has the same number
    of batches, which the learning-rate schedule and a resumed run rely on. All batches but one are full, so
    every sample has the same weight in the gradient.

    W processes with batch size B follow the plan of one process with batch size W x B and split each of its
    batches, so that they take the same steps. If fewer than W rows are left for the last batch, the batch
    before it gives some up: no process is ever without a row.

    With a `token_budget` all rows are sorted, rows of equal width in random order, and cut where the budget
    ends. Batches then differ in rows: divide each one's loss by `rows_per_batch`, not by its own rows, to
    give every sample the same weight.

    Attributes:
        repeats: Whether every epoch follows the first one's plan, for `overfit_batches`.
        told_length: The value of `len` if the rows are a part of a split: Lightning applies its limit to it.

    Args:
        lengths: Tokens of each row, (N,).
        batch_size: Rows per batch on each rank; with a budget, the maximum.
        seed: Together with the epoch it fixes the plan; alone it fixes `random_rows`.
        group_by_length: False gives plain random batches.
        shuffle: False keeps the given order of the rows and batches.
        rank: This process among `world_size`.
        world_size: Number of processes that share an epoch.
        token_budget: Maximum tokens per batch on each rank, padding included.
        width_multiple: A batch's padded length is a multiple of this.
        most_tokens: Maximum padded length of a batch.
        near: With a budget and without `shuffle`: sort stretches instead of all rows, so that rows stay near
            their place.
    """

    def __init__(
        self,
        lengths: Sequence[int] | np.ndarray,
        batch_size: int,
        *,
        seed: int = 0,
        group_by_length: bool = True,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        token_budget: int | None = None,
        width_multiple: int = 1,
        most_tokens: int | None = None,
        near: bool = False,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.token_budget = token_budget
        self._widths = widths_of(self.lengths, width_multiple, most_tokens)
        self._stretch = GROUP_BATCHES * batch_size * world_size  # rows sorted together
        self._starts: np.ndarray | None = None  # starts of a budget's batches, equal in every epoch
        if token_budget is not None:
            check_rows(len(self.lengths), world_size)
            self._stretch = self._stretch if near and not shuffle else max(len(self.lengths), 1)
            stretches = range(0, len(self.lengths), self._stretch)
            starts = [i + self._budget_starts(self._widths[i : i + self._stretch]) for i in stretches]
            self._starts = np.concatenate([np.empty(0, np.int64), *starts])
        self.repeats = False
        self.told_length: int | None = None
        self.epoch = 0
        self.start = 0  # batches to skip: set by a resume, used once

    @property
    def sampler(self) -> "GroupedBatchSampler":
        # Lightning 2.6.6 calls set_epoch only on `.sampler` and `.batch_sampler.sampler`
        # (fabric/utilities/data.py, _set_sampler_epoch).
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose plan the next iteration follows."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def rng(self, epoch: int) -> np.random.Generator:
        """The generator of an epoch's plan."""
        return np.random.default_rng((self.seed, 0 if self.repeats else epoch))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """One epoch's batches in order, each with the rows of all ranks."""
        num_rows, rng = len(self.lengths), self.rng(epoch)
        order = rng.permutation(num_rows) if self.shuffle else np.arange(num_rows)
        grouped = self.group_by_length or self._starts is not None
        if grouped:
            sorted_by = self.lengths if self._starts is None else self._widths
            for i in range(0, num_rows, self._stretch):
                part = order[i : i + self._stretch]
                order[i : i + self._stretch] = part[np.argsort(-sorted_by[part], kind="stable")]
        starts = self._starts
        if starts is None:
            count = num_batches(num_rows, self.batch_size, self.world_size)
            starts = np.arange(count) * self.batch_size * self.world_size
            starts[-1:] = np.minimum(starts[-1:], num_rows - self.world_size)
        batches = np.split(order, starts[1:])[: len(starts)]  # no rows, no batches
        if self.shuffle and grouped:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches

    def random_rows(self, count: int) -> np.ndarray:
        """Random rows that fill `count` batches, fewer than all: (M,) int64, ascending.

        For evaluations on a part of the rows: the first batches of all rows hold the longest texts.
        """
        order = np.random.default_rng(self.seed).permutation(len(self.lengths))
        if self._starts is None:
            return np.sort(order[: count * self.batch_size * self.world_size])
        low, high = self.world_size, len(order)  # bisection: `low` rows fit, `high` do not
        while high - low > 1:
            middle = (low + high) // 2
            fits = len(self._budget_starts(self._widths[order[:middle]])) <= count
            low, high = (middle, high) if fits else (low, middle)
        return np.sort(order[:low])

    def _budget_starts(self, widths: np.ndarray) -> np.ndarray:
        """Starts of the batches of rows of these widths, once sorted."""
        assert self.token_budget is not None
        falling = np.sort(widths)[::-1]
        return starts_of_batches(falling, self.token_budget, self.batch_size, self.world_size)

    def __len__(self) -> int:
        # The full length also when resuming: Lightning counts the skipped batches as done.
        if self.told_length is not None:
            return self.told_length
        if self._starts is not None:
            return len(self._starts)
        return num_batches(len(self.lengths), self.batch_size, self.world_size)

    def computed_tokens(self, batch: np.ndarray) -> int:
        """Tokens that a rank computes of a batch of the plan, padding included."""
        return -(-len(batch) // self.world_size) * self.width(batch)

    def width(self, batch: np.ndarray) -> int:
        """Length to which a batch of the plan is padded."""
        return int(self._widths[batch].max())

    @property
    def rows_per_batch(self) -> float | None:
        """Mean rows per batch over all ranks, with a budget; None if all batches but one are equal."""
        return None if self._starts is None else len(self.lengths) / max(len(self), 1)

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        for batch in self.plan(self.epoch)[start:]:  # shares differ by at most one row
            yield np.array_split(batch, self.world_size)[self.rank].tolist()


class ChosenBatches(GroupedBatchSampler):
    """Batches of a plan in the given order, in place of an epoch, for an estimate of its time.

    Args:
        batches: The rows of each batch, of all ranks.
        rank: This process among `world_size`.
        world_size: Number of processes that share a batch.
    """

    def __init__(self, batches: Sequence[np.ndarray], rank: int, world_size: int) -> None:
        super().__init__([], 1, rank=rank, world_size=world_size)
        self._batches = list(batches)

    def plan(self, epoch: int) -> list[np.ndarray]:
        """The given batches, in any epoch."""
        return self._batches

    def __len__(self) -> int:
        return len(self._batches)


def num_batches(num_rows: int, batch_size: int, world_size: int) -> int:
    """Batches per epoch on each of `world_size` processes, each of which needs a row in every batch."""
    check_rows(num_rows, world_size)
    return min(-(-num_rows // (batch_size * world_size)), num_rows // world_size)


def check_rows(num_rows: int, world_size: int) -> None:
    """Refuse fewer rows than processes."""
    if num_rows < world_size > 1:
        raise UserError(f"{num_rows} rows are too few for {world_size} processes: lower --trainer.devices")


class ResumableLoader(DataLoader):
    """A DataLoader over a GroupedBatchSampler that can save and restore its position.

    It counts the batches handed out, not those that workers have prefetched. Pass it a generator of its own:
    a DataLoader otherwise draws its base seed from the global random state, and a resumed run would draw once
    more than an uninterrupted one.
    """

    batch_sampler: GroupedBatchSampler
    _handed_out = 0

    def __iter__(self) -> Any:  # Iterator[dict[str, torch.Tensor]]
        self._handed_out = self.batch_sampler.start
        batches = super().__iter__()

        def counted() -> Iterator[Any]:
            for batch in batches:
                self._handed_out += 1
                yield batch

        return counted()

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches handed out so far."""
        return {"epoch": self.batch_sampler.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume after the batches handed out; after an epoch's last one, with the next epoch."""
        sampler = self.batch_sampler
        sampler.epoch, sampler.start = state["epoch"], state["batches"]
        if sampler.start >= len(sampler):
            sampler.epoch, sampler.start = sampler.epoch + 1, 0
        self._handed_out = sampler.start


def pad(
    rows: Sequence[np.ndarray],
    value: int,
    *,
    multiple: int = 1,
    most: int | None = None,
    width: int | None = None,
    side: str = "right",
) -> tuple[np.ndarray, np.ndarray]:
    """Pad B rows to one length T.

    Args:
        rows: Ids or labels.
        value: The padding.
        multiple: Round T up to a multiple of this.
        most: Maximum T.
        width: T itself, instead of the longest row's.
        side: Side of the padding, `right` or `left`.

    Returns:
        The rows, (B, T) int64, and which values are not padding, (B, T) bool.
    """
    lengths = np.array([len(row) for row in rows])
    width = width or int(widths_of(lengths, multiple, most).max())
    places = np.arange(width)[:: -1 if side == "left" else 1]
    mask = places[None, :] < lengths[:, None]
    padded = np.full(mask.shape, value, dtype=np.int64)
    padded[mask] = np.concatenate(rows)
    return padded, mask


class PaddingCollator:
    """Rows of unpadded ids -> one batch with Hugging Face's keys.

    Args:
        pad_token_id: The padding of `input_ids`.
        pad_multiple: T is rounded up to a multiple of this, up to `max_tokens`.
        max_tokens: Maximum tokens per row.
        pad_length: Pad to exactly this many tokens instead of to the longest row.
        token_type_ids: Whether the model takes token types.
        types: The tokenizer's token types: of the tokens before the text, of its own, and after it.
        second_types: Those of the tokens between the texts of a pair, and of the second one's own; None for
            single texts. Rows of pairs have `first_tokens`, the own tokens of the first text.
        pad_type: The token type of padding.
        padding_side: Side of the padding.
    """

    def __init__(
        self,
        pad_token_id: int,
        pad_multiple: int,
        max_tokens: int,
        pad_length: int | None,
        token_type_ids: bool,
        types: tuple[Sequence[int], int, Sequence[int]] = ((), 0, ()),
        pad_type: int = 0,
        padding_side: str = "right",
        second_types: tuple[Sequence[int], int] | None = None,
    ) -> None:
        self.pad_token_id = pad_token_id
        self.max_tokens = max_tokens
        self.pad_multiple = pad_multiple
        self.pad_length = pad_length
        self.token_type_ids = token_type_ids
        self.types = types
        self.second_types = second_types
        self.pad_type = pad_type
        self.padding_side = padding_side

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """B rows of `input_ids`, perhaps `labels` and `index` -> tensors (B, T) int64, labels (B, ...)."""
        ids, mask = pad(
            [row["input_ids"] for row in rows],
            self.pad_token_id,
            multiple=self.pad_multiple,
            most=self.max_tokens,
            width=self.pad_length,
            side=self.padding_side,
        )
        batch = {"input_ids": torch.from_numpy(ids)}
        if self.token_type_ids:
            batch["token_type_ids"] = torch.from_numpy(self._types_of(mask, rows))
        batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        for key in ("labels", "index"):
            if key in rows[0]:
                batch[key] = torch.from_numpy(np.asarray([row[key] for row in rows]))
        return batch

    def _types_of(self, mask: np.ndarray, rows: list[dict[str, Any]]) -> np.ndarray:
        """Mask of tokens, (B, T) bool -> token types, (B, T) int64."""
        before, own, after = self.types
        between, second = self.second_types or ((), 0)
        types = np.full(mask.shape, self.pad_type, dtype=np.int64)
        if any([self.pad_type, own, second, *before, *between, *after]):  # BERT's are 0, but of pairs
            inside = mask.sum(1) - len(before) - len(between) - len(after)  # own tokens of each row
            firsts = [row["first_tokens"] for row in rows] if self.second_types else inside
            types[mask] = np.concatenate(
                [
                    [*before, *[own] * first, *between, *[second] * (n - first), *after]
                    for n, first in zip(inside, firsts, strict=True)
                ]
            )
        return types


def widths_of(lengths: np.ndarray, multiple: int, most: int | None = None) -> np.ndarray:
    """Padded length of each row in a batch of equally long ones, (N,): a multiple, up to `most`."""
    widths = -(-lengths // multiple) * multiple
    return widths if most is None else np.minimum(widths, most)


def starts_of_batches(
    widths: np.ndarray, token_budget: int, most_rows: int, world_size: int = 1
) -> np.ndarray:
    """Start of each batch among rows sorted by width, longest first, (K,).

    It depends on the widths alone: a new order of the rows of equal width gives the same number of batches,
    which the learning-rate schedule and a resumed run rely on.

    Args:
        widths: Widths of the sorted rows, (N,), descending.
        token_budget: Maximum tokens per batch and process, padding included; a longer row gets a batch of
            its own.
        most_rows: Maximum rows per batch and process.
        world_size: Processes that share each batch.
    """
    starts, i = [], 0
    while i < len(widths):
        starts.append(i)
        i += world_size * max(min(token_budget // int(widths[i]), most_rows), 1)
    # Every process needs a row: a last batch with too few takes some from the one before, or joins it.
    last = len(widths) - world_size
    if len(starts) > 1 and starts[-1] > last:
        starts[-1] = last
        if last - starts[-2] < world_size:
            starts.pop()
    return np.array(starts, dtype=np.int64)


# A token budget must hold at least this many rows of maximum length; otherwise a rank could get an empty
# batch.
LEAST_ROWS = 4


class StratifiedBatchSampler(GroupedBatchSampler):
    """A GroupedBatchSampler whose batches take one row from each stratum of K rows of similar length.

    Every batch then has about the epoch's distribution of lengths: the tokens of two batches differ by less
    than the longest row. Each epoch draws which row of a stratum a batch takes. K is the smallest number with
    which no batch can exceed the budget, the same in every epoch.

    Args:
        lengths: Tokens of each row, (N,).
        batch_size: Maximum rows per batch on each rank.
        token_budget: Maximum tokens per batch on each rank; at least `LEAST_ROWS` times the longest row.
        seed: Together with the epoch it fixes the plan.
        rank: This process among `world_size`.
        world_size: Number of processes that share an epoch.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        batch_size: int,
        token_budget: int,
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(lengths, batch_size, seed=seed, rank=rank, world_size=world_size)
        check_rows(len(self.lengths), world_size)
        falling = np.sort(self.lengths)[::-1]
        steps = -(-max(-(-int(falling.sum()) // token_budget), -(-len(falling) // batch_size)) // world_size)
        while _most_tokens(falling, steps * world_size) > token_budget:
            steps += 1
        self._num_batches = steps * world_size  # over all ranks
        self.tokens_per_batch = _most_tokens(falling, self._num_batches)  # maximum, on each rank
        self.most_rows = -(-len(falling) // max(self._num_batches, 1))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """One epoch's batches in order, each with the rows of all ranks."""
        num_rows = len(self.lengths)
        rng = self.rng(epoch)
        order = rng.permutation(num_rows)
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        strata = np.full((self.most_rows, self._num_batches), -1)
        strata.ravel()[:num_rows] = order
        batches = [column[column >= 0] for column in rng.permuted(strata, axis=1).T]
        # The ranks' shares of a step, larger ones first: np.array_split cuts them apart there.
        steps = (batches[i : i + self.world_size] for i in range(0, len(batches), self.world_size))
        return [np.concatenate(sorted(step, key=len, reverse=True)) for step in steps]

    def __len__(self) -> int:
        return self._num_batches // self.world_size

    def computed_tokens(self, batch: np.ndarray) -> int:
        """Tokens that a rank computes of a batch of the plan: the same of each."""
        return self.tokens_per_batch

    @property
    def rows_per_batch(self) -> float:
        """Mean rows per batch, over all ranks."""
        return len(self.lengths) / max(len(self), 1)


def _most_tokens(falling: np.ndarray, num_batches: int) -> int:
    """Tokens of a batch with the longest row of each stratum."""
    return int(falling[::num_batches].sum()) if num_batches else 0
