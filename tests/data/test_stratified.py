"""Batches with all lengths: the same rows, within the budget, the same number in every epoch."""

import numpy as np
import pytest

from lit_ft.data.batching import LEAST_ROWS, StratifiedBatchSampler

LENGTHS = np.clip(np.exp(np.random.default_rng(0).normal(4.5, 0.9, 1_003)).astype(int) + 3, 3, 512)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(("budget", "most_rows"), [(2_048, 512), (8_192, 512), (8_192, 10), (10**6, 2_000)])
def test_every_row_once_and_no_batch_above_budget_or_rows(budget, most_rows, world_size):
    ranks = [
        StratifiedBatchSampler(LENGTHS, most_rows, budget, seed=1, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for epoch in range(3):
        shares = []
        for sampler in ranks:
            sampler.set_epoch(epoch)
            shares.append(list(sampler))
            assert len(shares[-1]) == len(sampler) == len(ranks[0])
        rows = [row for share in shares for batch in share for row in batch]
        assert sorted(rows) == list(range(len(LENGTHS)))
        sizes = [len(batch) for share in shares for batch in share]
        tokens = [int(LENGTHS[batch].sum()) for share in shares for batch in share]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= ranks[0].most_rows <= most_rows
        assert max(tokens) <= ranks[0].tokens_per_batch <= budget
        assert max(tokens) - min(tokens) <= 512  # the longest row


def test_a_budget_is_filled():
    sampler = StratifiedBatchSampler(LENGTHS, 512, 8_192)
    tokens = [LENGTHS[batch].sum() for batch in sampler]
    assert np.mean(tokens) / sampler.tokens_per_batch > 0.96
    assert len(sampler) <= LENGTHS.sum() / 8_192 * 1.1


def test_epochs_differ_and_seeds_repeat_them():
    first, second = (StratifiedBatchSampler(LENGTHS, 64, 8_192, seed=seed) for seed in (1, 1))
    plans = [
        [batch.tolist() for batch in sampler.plan(epoch)] for sampler in (first, second) for epoch in (0, 1)
    ]
    assert plans[0] == plans[2] and plans[1] == plans[3] and plans[0] != plans[1]
    assert plans[0] != [batch.tolist() for batch in StratifiedBatchSampler(LENGTHS, 64, 8_192).plan(0)]


def test_who_shares_a_batch_is_drawn_anew_where_no_two_rows_are_equally_long():
    sampler = StratifiedBatchSampler(np.arange(1, 101), 10, 1_000)
    first, second = ({frozenset(batch) for batch in sampler.plan(epoch)} for epoch in (0, 1))
    assert len(first & second) <= 1


def test_a_resumed_epoch_passes_over_what_was_done():
    whole, resumed = (StratifiedBatchSampler(LENGTHS, 64, 8_192) for _ in range(2))
    resumed.start = 3
    assert list(resumed) == list(whole)[3:]
    assert list(resumed) == list(whole)  # the next epoch begins at its start


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 8, 21])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_few_rows_of_the_longest(num_rows, world_size):
    """Every rank gets a row, and no budget of `LEAST_ROWS` is exceeded."""
    if num_rows < world_size:
        return
    lengths = np.full(num_rows, 64)
    batches = []
    for rank in range(world_size):
        sampler = StratifiedBatchSampler(lengths, 512, LEAST_ROWS * 64, rank=rank, world_size=world_size)
        batches += list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(num_rows))
    assert all(1 <= len(batch) <= LEAST_ROWS for batch in batches)


def test_equal_weights():
    """Batches differ by at most one row; every step divides by the mean."""
    sampler = StratifiedBatchSampler(LENGTHS, 512, 8_192, world_size=2)
    assert sampler.rows_per_batch == len(LENGTHS) / len(sampler)
