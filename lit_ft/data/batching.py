"""Rows of token ids to batches: which rows go together, in which order, and how far they are padded."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from lit_ft.errors import UserError

# Batches whose reviews are sorted together. Fewer would pad more, more would make neighbours in time
# too alike in length; 50 is what Hugging Face's LengthGroupedSampler takes.
GROUP_BATCHES = 50


class GroupedBatchSampler(Sampler[list[int]]):
    """Shuffled batches of reviews of like length; the same plan for the same seed and epoch.

    Each epoch draws a new permutation, sorts stretches of `GROUP_BATCHES` batches by length, cuts them
    into batches and shuffles the batches. Every row comes exactly once an epoch; every epoch has equally
    many batches, so that the learning-rate schedule and a resumed run can rely on the count. Every batch
    but one is full, so every sample weighs the same in the gradient.

    W processes of batch size B follow the plan of one process of batch size W x B and share each of its
    batches, so that they take the same steps. Only where fewer than W rows are left for an epoch's last
    batch, the batch before it gives it some: no process is ever without a row.

    With a `token_budget` all rows are sorted, those of equal width in an order of the epoch's own, and cut
    where the budget ends. Batches differ in rows then: who divides each one's loss by `rows_per_batch`, not
    by its own rows, has every sample weigh the same.

    Attributes:
        repeats: Whether every epoch follows the first one's plan, for `overfit_batches`.
        told_length: What `len` says, where the rows are a part of a split: Lightning takes the share of it
            that its limit asks for.

    Args:
        lengths: Tokens of each row, (N,).
        batch_size: Rows a batch, on each rank; with a budget, the most.
        seed: Together with the epoch it fixes the plan; alone it fixes `random_rows`.
        group_by_length: False gives plain random batches.
        shuffle: False starts from the rows' own order and leaves the batches in theirs.
        rank: This process among `world_size`.
        world_size: Number of processes that share an epoch.
        token_budget: The most tokens a batch, padding included, on each rank.
        width_multiple: A batch's padded length is a multiple of this.
        most_tokens: A batch's padded length is at most this.
        near: With a budget and without `shuffle`: sort stretches as without a budget, not all rows, so that a
            row comes near its place.
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
        self._stretch = GROUP_BATCHES * batch_size * world_size  # rows that are sorted together
        self._starts: np.ndarray | None = None  # of a budget's batches, the same in every epoch
        if token_budget is not None:
            check_rows(len(self.lengths), world_size)
            self._stretch = self._stretch if near and not shuffle else max(len(self.lengths), 1)
            stretches = range(0, len(self.lengths), self._stretch)
            starts = [i + self._budget_starts(self._widths[i : i + self._stretch]) for i in stretches]
            self._starts = np.concatenate([np.empty(0, np.int64), *starts])
        self.repeats = False
        self.told_length: int | None = None
        self.epoch = 0
        self.start = 0  # batches of this rank to pass over: set by a resume, used once

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
        """What an epoch's plan is drawn with."""
        return np.random.default_rng((self.seed, 0 if self.repeats else epoch))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """One epoch's batches in order, each of all ranks' rows."""
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
        batches = np.split(order, starts[1:])[: len(starts)]  # without a row there is no batch
        if self.shuffle and grouped:
            batches = [batches[i] for i in rng.permutation(len(batches))]
        return batches

    def random_rows(self, count: int) -> np.ndarray:
        """Rows drawn at random that make up so many batches, fewer than all: (M,) int64, ascending.

        Whoever takes only some batches takes these rows', not the first batches of all rows: those hold the
        longest texts.
        """
        order = np.random.default_rng(self.seed).permutation(len(self.lengths))
        if self._starts is None:
            return np.sort(order[: count * self.batch_size * self.world_size])
        low, high = self.world_size, len(order)  # the most rows that fit: `low` do, `high` do not
        while high - low > 1:
            middle = (low + high) // 2
            fits = len(self._budget_starts(self._widths[order[:middle]])) <= count
            low, high = (middle, high) if fits else (low, middle)
        return np.sort(order[:low])

    def _budget_starts(self, widths: np.ndarray) -> np.ndarray:
        """Where the batches of rows of these widths begin, once they are sorted."""
        assert self.token_budget is not None
        falling = np.sort(widths)[::-1]
        return starts_of_batches(falling, self.token_budget, self.batch_size, self.world_size)

    def __len__(self) -> int:
        # The full length also when resuming: Lightning counts the passed-over batches as done.
        if self.told_length is not None:
            return self.told_length
        if self._starts is not None:
            return len(self._starts)
        return num_batches(len(self.lengths), self.batch_size, self.world_size)

    @property
    def rows_per_batch(self) -> float | None:
        """The mean over a budget's batches, each of all ranks' rows; None where all but one are equal."""
        return None if self._starts is None else len(self.lengths) / max(len(self), 1)

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        for batch in self.plan(self.epoch)[start:]:  # the shares' sizes differ by one row at most
            yield np.array_split(batch, self.world_size)[self.rank].tolist()


def num_batches(num_rows: int, batch_size: int, world_size: int) -> int:
    """Batches an epoch, on each of `world_size` processes, none of which may be without a row."""
    check_rows(num_rows, world_size)
    return min(-(-num_rows // (batch_size * world_size)), num_rows // world_size)


def check_rows(num_rows: int, world_size: int) -> None:
    """Refuse fewer rows than processes, none of which may be without one."""
    if num_rows < world_size > 1:
        raise UserError(f"{num_rows} rows are too few for {world_size} processes: lower --trainer.devices")


class ResumableLoader(DataLoader):
    """A DataLoader over a GroupedBatchSampler that can say, and take up again, where it stands.

    Counted are the batches handed out, not those that workers have prefetched. An own generator is
    passed on because a DataLoader otherwise draws its base seed from the global random state, and a
    resumed run would then draw once more than an uninterrupted one.
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
        """The epoch and the batches of it that were handed out."""
        return {"epoch": self.batch_sampler.epoch, "batches": self._handed_out}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that were handed out; after an epoch's last, with the next epoch."""
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
    """Fill B rows up to one width T, and mark what is not padding.

    Args:
        rows: Ids or labels of each row.
        value: The padding.
        multiple: T is the longest row's length, rounded up to a multiple of this,
        most: but not past this.
        width: T itself.
        side: `right` or `left`.

    Returns:
        The rows, (B, T) int64, and a mask, (B, T) bool.
    """
    lengths = np.array([len(row) for row in rows])
    width = width or int(widths_of(lengths, multiple, most).max())
    places = np.arange(width)[:: -1 if side == "left" else 1]
    mask = places[None, :] < lengths[:, None]
    padded = np.full(mask.shape, value, dtype=np.int64)
    padded[mask] = np.concatenate(rows)
    return padded, mask


class PaddingCollator:
    """Rows of unpadded ids -> one batch of Hugging Face's keys.

    Args:
        pad_token_id: The id that fills up `input_ids`.
        pad_multiple: The batch's T is rounded up to a multiple of this, but not past `max_tokens`.
        max_tokens: The most tokens a row has.
        pad_length: Pad to exactly this many tokens instead of to the longest row.
        token_type_ids: Whether the model takes token types.
        types: Token types of a row's first tokens, of its text, of its last ones: the tokenizer's.
        pad_type: The token type of padding.
        padding_side: Where rows are filled up.
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
    ) -> None:
        self.pad_token_id = pad_token_id
        self.max_tokens = max_tokens
        self.pad_multiple = pad_multiple
        self.pad_length = pad_length
        self.token_type_ids = token_type_ids
        self.types = types
        self.pad_type = pad_type
        self.padding_side = padding_side

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """(B rows of `input_ids`, perhaps `labels` and `index`) -> tensors (B, T) and (B,), int64."""
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
            batch["token_type_ids"] = torch.from_numpy(self._types_of(mask))
        batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        for key in ("labels", "index"):
            if key in rows[0]:
                batch[key] = torch.tensor([row[key] for row in rows], dtype=torch.int64)
        return batch

    def _types_of(self, mask: np.ndarray) -> np.ndarray:
        """Where the tokens are, (B, T) bool -> token types (B, T) int64."""
        before, own, after = self.types
        types = np.full(mask.shape, self.pad_type, dtype=np.int64)
        if any([self.pad_type, own, *before, *after]):  # BERT's are 0 everywhere
            inside = (n - len(before) - len(after) for n in mask.sum(1))
            types[mask] = np.concatenate([[*before, *[own] * n, *after] for n in inside])
        return types


def widths_of(lengths: np.ndarray, multiple: int, most: int | None = None) -> np.ndarray:
    """Tokens of each row in a batch of its like, (N,): rounded up to `multiple`, but not past `most`."""
    widths = -(-lengths // multiple) * multiple
    return widths if most is None else np.minimum(widths, most)


def starts_of_batches(
    widths: np.ndarray, token_budget: int, most_rows: int, world_size: int = 1
) -> np.ndarray:
    """Where each batch begins among rows sorted by width, longest first, (K,).

    It depends on the widths alone, not on which row has which: an order drawn anew among rows of equal width
    gives equally many batches, which the learning-rate schedule and a resumed run rely on.

    Args:
        widths: Of the sorted rows, (N,); falling.
        token_budget: The most tokens, padding included, that a process computes for a batch; a row that is
            longer stands alone.
        most_rows: The most rows of a batch, on each process.
        world_size: Processes that share each batch.
    """
    starts, i = [], 0
    while i < len(widths):
        starts.append(i)
        i += world_size * max(min(token_budget // int(widths[i]), most_rows), 1)
    # No process may be without a row: what is too little for all takes some of the batch before, or joins it.
    last = len(widths) - world_size
    if len(starts) > 1 and starts[-1] > last:
        starts[-1] = last
        if last - starts[-2] < world_size:
            starts.pop()
    return np.array(starts, dtype=np.int64)


# Of the longest, that a budget must have room for: with up to so many rows a batch none of them has more, and
# all ranks have some, however few rows there are.
LEAST_ROWS = 4


class StratifiedBatchSampler(GroupedBatchSampler):
    """As GroupedBatchSampler, but a batch has one row of each K rows of like length, drawn anew each epoch.

    So a batch has every length about as often as the whole epoch has: the sums of two batches' tokens differ
    by less than the longest row. K is the fewest with which no batch can have more than the budget, the same
    in every epoch.

    Args:
        lengths: Tokens of each row, (N,).
        batch_size: The most rows a batch, on each rank.
        token_budget: The most tokens a batch, on each rank; at least `LEAST_ROWS` of the longest row.
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
        self._num_batches = steps * world_size  # of all ranks
        self.tokens_per_batch = _most_tokens(falling, self._num_batches)  # the most, on each rank
        self.most_rows = -(-len(falling) // max(self._num_batches, 1))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """One epoch's batches in order, each of all ranks' rows."""
        num_rows = len(self.lengths)
        rng = self.rng(epoch)
        order = rng.permutation(num_rows)
        order = order[np.argsort(-self.lengths[order], kind="stable")]
        strata = np.full((self.most_rows, self._num_batches), -1)
        strata.ravel()[:num_rows] = order
        batches = [column[column >= 0] for column in rng.permuted(strata, axis=1).T]
        # The shares of a step's ranks, larger ones first: there np.array_split cuts them apart again.
        steps = (batches[i : i + self.world_size] for i in range(0, len(batches), self.world_size))
        return [np.concatenate(sorted(step, key=len, reverse=True)) for step in steps]

    def __len__(self) -> int:
        return self._num_batches // self.world_size

    @property
    def rows_per_batch(self) -> float:
        """The mean over batches, each of all ranks' rows."""
        return len(self.lengths) / max(len(self), 1)


def _most_tokens(falling: np.ndarray, num_batches: int) -> int:
    """What a batch with the longest row of each stratum has."""
    return int(falling[::num_batches].sum()) if num_batches else 0
