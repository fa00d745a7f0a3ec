"""Batches that hold equally many texts, long and short ones alike, and nearly equally many tokens.

For steps without padding (unpadded.py) like lengths need not stand together. N rows, K batches.
"""

import numpy as np

from lit_ft.batching import GroupedBatchSampler, check_rows

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
