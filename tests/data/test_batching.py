import numpy as np
import pytest
import torch

from lit_ft.data.batching import GroupedBatchSampler, PaddingCollator, ResumableLoader, starts_of_batches

LENGTHS = np.random.default_rng(0).integers(3, 200, 1001)


def batches_of(**settings) -> list[list[int]]:
    return list(GroupedBatchSampler(LENGTHS, 16, **settings))


def test_every_row_once_an_epoch_and_equal_counts_on_every_rank():
    for world_size in (1, 2, 3, 4):
        for epoch in range(3):
            ranks = []
            for rank in range(world_size):
                sampler = GroupedBatchSampler(LENGTHS, 16, seed=7, rank=rank, world_size=world_size)
                sampler.set_epoch(epoch)
                ranks.append(list(sampler))
                assert len(ranks[-1]) == len(sampler)
            assert len({len(batches) for batches in ranks}) == 1
            assert sorted(i for batches in ranks for batch in batches for i in batch) == list(range(1001))


@pytest.mark.parametrize("group_by_length", [True, False])
def test_processes_share_the_batches_of_one(group_by_length):
    """Three ranks with 16 rows and one with 48: the same rows at every step, in nearly equal shares."""
    settings = {"seed": 5, "group_by_length": group_by_length}
    one = list(GroupedBatchSampler(LENGTHS, 48, **settings))
    ranks = [list(GroupedBatchSampler(LENGTHS, 16, rank=r, world_size=3, **settings)) for r in range(3)]
    assert [sum(shares, []) for shares in zip(*ranks, strict=True)] == one
    sizes = [sorted(map(len, shares)) for shares in zip(*ranks, strict=True)]
    assert [13, 14, 14] in sizes and all(s in ([16] * 3, [13, 14, 14]) for s in sizes)


@pytest.mark.parametrize(
    "rows, batch_size, sizes",
    [  # batches of three ranks, step by step
        (13, 2, [[2, 2, 2], [2, 1, 1], [1, 1, 1]]),  # one row is left: two more from the batch before
        (11, 2, [[2, 2, 2], [2, 2, 1]]),
        (8, 1, [[1, 1, 1], [2, 2, 1]]),  # two rows are left, and no batch has any to spare
        (3, 8, [[1, 1, 1]]),
    ],
)
def test_no_rank_is_without_a_row(rows, batch_size, sizes):
    settings = {"shuffle": False, "world_size": 3}
    ranks = [list(GroupedBatchSampler(LENGTHS[:rows], batch_size, rank=r, **settings)) for r in range(3)]
    assert [[len(batch) for batch in shares] for shares in zip(*ranks, strict=True)] == sizes
    assert len(GroupedBatchSampler(LENGTHS[:rows], batch_size, **settings)) == len(sizes)


def test_all_batches_but_one_are_full():
    sizes = sorted(len(batch) for batch in batches_of())
    assert sizes == [1001 % 16] + [16] * (1001 // 16)


def test_groups_by_length():
    def real_share(batches):
        return sum(LENGTHS[b].sum() for b in batches) / sum(LENGTHS[b].max() * len(b) for b in batches)

    assert real_share(batches_of(group_by_length=True)) > 0.93
    assert real_share(batches_of(group_by_length=False)) < 0.65


def test_plan_depends_on_seed_and_epoch_only():
    sampler = GroupedBatchSampler(LENGTHS, 16, seed=1)
    first = list(sampler)
    assert first == list(sampler) == batches_of(seed=1)
    assert first != batches_of(seed=2)
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_unshuffled_ungrouped_keeps_the_order():
    assert sum(batches_of(shuffle=False, group_by_length=False), []) == list(range(1001))


def test_lengths_of_batches_do_not_fall_over_the_epoch():
    """The batches of a stretch are in random order, not longest first."""
    means = [LENGTHS[batch].mean() for batch in batches_of()]
    assert abs(np.corrcoef(range(len(means)), means)[0, 1]) < 0.4


def test_no_rows_are_no_batches():
    """A process's part of `predict` with fewer rows than processes."""
    assert list(GroupedBatchSampler([], 4)) == []


def test_too_few_rows_for_the_processes():
    with pytest.raises(ValueError, match="1 rows are too few for 2 processes"):
        list(GroupedBatchSampler([5], 4, world_size=2))


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, i):
        return {"input_ids": np.full(i % 7 + 1, i, dtype=np.int32), "labels": i % 5}


def loader(num_workers: int = 0) -> ResumableLoader:
    lengths = [i % 7 + 1 for i in range(50)]
    collate = PaddingCollator(0, 1, 8, None, False)
    sampler = GroupedBatchSampler(lengths, 4, seed=3)
    return ResumableLoader(
        Numbers(),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        generator=torch.Generator(),
    )


def ids(batches) -> list[list[list[int]]]:
    return [batch["input_ids"].tolist() for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_goes_on_where_it_stood(num_workers):
    whole = ids(loader())
    interrupted = loader(num_workers)
    iterator = iter(interrupted)
    for _ in range(5):
        next(iterator)
    state = interrupted.state_dict()
    assert state == {"epoch": 0, "batches": 5}  # not those prefetched by workers
    resumed = loader(num_workers)
    resumed.load_state_dict(state)
    assert len(resumed) == len(whole) == 13
    assert ids(resumed) == whole[5:]
    assert ids(resumed) == whole  # the start is used once


def test_loader_at_an_epochs_end_goes_on_with_the_next():
    finished = loader()
    list(finished)
    resumed = loader()
    resumed.load_state_dict(finished.state_dict())
    following = loader()
    following.batch_sampler.set_epoch(1)
    assert resumed.batch_sampler.epoch == 1
    assert ids(resumed) == ids(following)


def test_iterating_leaves_the_global_random_state():
    before = torch.random.get_rng_state()
    list(loader())
    assert torch.equal(before, torch.random.get_rng_state())


ROWS = [
    {"input_ids": np.array([101, 7, 8, 102], np.int32), "labels": 4},
    {"input_ids": np.array([101, 102], np.int32), "labels": 0},
]


def test_collate_pads_to_the_longest_by_hand():
    batch = PaddingCollator(9, 1, 8, None, True)(ROWS)
    assert list(batch) == ["input_ids", "token_type_ids", "attention_mask", "labels"]
    assert batch["input_ids"].tolist() == [[101, 7, 8, 102], [101, 102, 9, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0] * 4] * 2
    assert batch["labels"].tolist() == [4, 0]
    assert {t.dtype for t in batch.values()} == {torch.int64}


@pytest.mark.parametrize(
    "multiple, pad_length, width", [(8, None, 8), (3, None, 6), (8, 12, 12), (16, None, 12)]
)
def test_collate_widths(multiple, pad_length, width):
    batch = PaddingCollator(0, multiple, 12, pad_length, False)(ROWS)
    assert batch["input_ids"].shape == (2, width)
    assert "token_type_ids" not in batch


BUDGET = {"token_budget": 512, "width_multiple": 8, "most_tokens": 200}


def test_a_budget_is_kept_in_equally_many_batches_an_epoch():
    for world_size in (1, 2, 3):
        counts = set()
        for epoch in range(4):
            ranks = []
            for rank in range(world_size):
                settings = {**BUDGET, "rank": rank, "world_size": world_size}
                sampler = GroupedBatchSampler(LENGTHS, 100, seed=7, **settings)
                sampler.set_epoch(epoch)
                ranks.append(list(sampler))
                assert len(ranks[-1]) == len(sampler) and all(ranks[-1])
            counts.add(len(ranks[0]))
            batches = [batch for rank in ranks for batch in rank]
            assert sorted(sum(batches, [])) == list(range(1001))
            computed = [min(-(-LENGTHS[b].max() // 8) * 8, 200) * len(b) for b in batches]
            assert max(computed) <= 512 and max(map(len, batches)) <= 100
            assert LENGTHS.sum() / sum(computed) > 0.9
        assert len(counts) == 1


def test_processes_share_a_budgets_batches():
    """The two shares of each batch differ by at most one row, and every row comes once."""
    ranks = [list(GroupedBatchSampler(LENGTHS, 100, seed=5, rank=r, world_size=2, **BUDGET)) for r in (0, 1)]
    sizes = [[len(a), len(b)] for a, b in zip(*ranks, strict=True)]
    assert all(abs(a - b) <= 1 for a, b in sizes)
    assert sorted(i for rank in ranks for batch in rank for i in batch) == list(range(len(LENGTHS)))


def test_a_budgets_neighbours_change_from_epoch_to_epoch():
    sampler = GroupedBatchSampler(LENGTHS, 100, seed=7, **BUDGET)
    first = {frozenset(batch) for batch in sampler.plan(0)}
    assert len(first & {frozenset(batch) for batch in sampler.plan(1)}) < len(first) / 10
    assert [b.tolist() for b in sampler.plan(1)] == [b.tolist() for b in sampler.plan(1)]
    means = [LENGTHS[batch].mean() for batch in sampler.plan(0)]
    assert abs(np.corrcoef(range(len(means)), means)[0, 1]) < 0.4  # not longest first


def test_a_budget_in_evaluation_begins_with_the_longest():
    """A shortage of memory shows at once."""
    batches = GroupedBatchSampler(LENGTHS, 100, shuffle=False, **BUDGET).plan(0)
    longest = [-(-LENGTHS[batch].max() // 8) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.parametrize(
    "widths, budget, most_rows, world_size, starts",
    [
        ([8, 8, 4, 4, 4, 2], 16, 9, 1, [0, 2]),
        ([8, 8, 4, 4, 4, 2], 16, 2, 1, [0, 2, 4]),
        ([8, 8, 4, 4, 4, 2], 4, 9, 1, [0, 1, 2, 3, 4, 5]),  # longer than the budget: a batch of its own
        ([8, 8, 4, 4, 4, 2, 2], 8, 9, 2, [0, 2, 5]),  # one row left: another from the batch before
        ([8] * 5, 8, 9, 2, [0, 2]),  # the batch before has none to spare
        ([8], 8, 9, 1, [0]),
        ([], 8, 9, 1, []),
    ],
)
def test_where_a_budgets_batches_begin(widths, budget, most_rows, world_size, starts):
    found = starts_of_batches(np.array(widths, dtype=np.int64), budget, most_rows, world_size)
    assert found.tolist() == starts
