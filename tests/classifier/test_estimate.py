"""`fit --estimate`: which batches it trains, what it makes of their times, and that it leaves nothing."""

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import one_line

from lit_ft.classifier import estimate
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.estimate import (
    STEPS,
    Cost,
    Estimate,
    Rehearsal,
    chosen_steps,
    num_validations,
    span,
)
from lit_ft.data.batching import ChosenBatches, GroupedBatchSampler, StratifiedBatchSampler

# ---- the batches ---------------------------------------------------------------------------------


def test_ten_steps_from_short_to_long_and_the_longest_twice():
    costs = [(tokens, tokens // 8) for tokens in np.random.default_rng(0).permutation(np.arange(8, 8008, 8))]
    steps = chosen_steps(costs, 1)
    assert len(steps) == STEPS and steps == chosen_steps(costs, 1)
    tokens = [costs[step[0]][0] for step in steps]
    assert tokens[:2] == [8000, 8000]
    shares = np.sort(tokens[2:]) / 8000
    assert np.allclose(shares, np.arange(1, 16, 2) / 16, atol=0.001)
    assert tokens[2:] != sorted(tokens[2:])  # a machine that slows down is no long batch


def test_of_batches_with_equally_many_tokens_the_widest_is_the_longest():
    assert chosen_steps([(4096, 32), (4096, 256), (4096, 64)], 1)[0] == [1]


def test_a_step_is_all_batches_of_an_accumulation_and_a_short_plan_is_repeated():
    steps = chosen_steps([(n, n) for n in range(100)], 4)
    assert steps[0] == steps[1] == [96, 97, 98, 99] and {len(step) for step in steps} == {4}
    assert chosen_steps([(7, 7)], 1) == [[0]] * STEPS
    assert {tuple(sorted(step)) for step in chosen_steps([(1, 1), (2, 2)], 2)} == {(0, 1)}


def test_chosen_batches_are_split_among_processes():
    plan = [np.array([4, 2, 7]), np.array([1, 3])]
    ranks = [ChosenBatches(plan, rank, 2) for rank in (0, 1)]
    assert [list(sampler) for sampler in ranks] == [[[4, 2], [1]], [[7], [3]]]
    assert len(ranks[0]) == 2 and ranks[0].plan(0) == ranks[0].plan(5) == plan


def test_computed_tokens_of_a_batch():
    lengths = np.array([3, 9, 17, 30, 5])
    sampler = GroupedBatchSampler(lengths, 2, width_multiple=8, most_tokens=28, world_size=2)
    assert [sampler.computed_tokens(np.array(rows)) for rows in ([0, 4], [0, 1, 2], [3, 0])] == [8, 48, 28]
    assert sampler.width(np.array([0, 1, 2])) == 24
    unpadded = StratifiedBatchSampler(lengths, 5, 120)
    assert {unpadded.computed_tokens(batch) for batch in unpadded.plan(0)} == {unpadded.tokens_per_batch}


# ---- the figures ---------------------------------------------------------------------------------


def test_cost_of_a_step_and_of_a_token():
    tokens = [100, 400, 200, 300]
    cost = Cost.fitted(tokens, [0.5 + 0.01 * n for n in tokens])
    assert (cost.fixed, cost.per_token) == pytest.approx((0.5, 0.01)) and cost.error < 1e-9
    assert cost.of(10, 2500) == pytest.approx(30)
    noisy = Cost.fitted(tokens, [1.2, 4.9, 2.1, 4.0])
    assert 0.01 < noisy.error < 0.2


def test_no_part_of_a_cost_is_below_0():
    falling = Cost.fitted([100, 200, 300], [3.0, 2.0, 1.0])  # the machine became faster meanwhile
    assert (falling.fixed, falling.per_token) == (2.0, 0.0)
    steep = Cost.fitted([100, 200], [0.5, 2.5])
    assert steep.fixed == 0 and steep.per_token > 0
    equal = Cost.fitted([64, 64, 64], [1.0, 2.0, 3.0])  # every batch has the same tokens
    assert (equal.fixed, equal.per_token) == (2.0, 0.0)


def trainer(**settings) -> SimpleNamespace:
    defaults = {"limit_val_batches": 1.0, "val_check_interval": 1.0, "check_val_every_n_epoch": 1}
    return SimpleNamespace(**{**defaults, "accumulate_grad_batches": 1, **settings})


@pytest.mark.parametrize(
    "settings, steps, expected",
    [
        ({}, 30, 3),
        ({}, 25, 2),  # max_steps ends the third epoch before its validation
        ({"val_check_interval": 0.25}, 30, 15),  # every 2 of 10 batches
        ({"val_check_interval": 4}, 29, 6),  # twice an epoch, at batches 4 and 8
        ({"val_check_interval": 4, "check_val_every_n_epoch": None}, 30, 7),  # counted over epochs
        ({"check_val_every_n_epoch": 2}, 30, 1),
        ({"accumulate_grad_batches": 4}, 9, 3),  # 3 steps an epoch
        ({"accumulate_grad_batches": 4, "val_check_interval": 0.5}, 4, 2),  # the fourth step ends at batch 4
        ({"limit_val_batches": 0}, 30, 0),
    ],
)
def test_number_of_validations(settings, steps, expected):
    assert num_validations(trainer(**settings), 10, steps) == expected


def example(**changes) -> Estimate:
    values = {"steps": 447, "training": 650.0, "validations": 3, "validation": 40.0, "start": 10.0}
    rest = {"error": 0.01, "weights": 22_000_000, "memory": 1.94, "of_memory": 8.3, "processes": 1}
    return Estimate(**{**values, **rest, **changes})


def test_the_range_is_wider_on_a_noisy_machine():
    assert example().seconds == pytest.approx((630, 770 + 3 * (2 + 2 * 12 * 0.22) + 5))
    assert example(error=0.15).seconds == pytest.approx((490, 910 + 3 * (2 + 2 * 12 * 0.22) + 5))


def test_lines():
    assert example().lines() == [
        "estimate: 10 to 14 min; memory: 1.9 of 8.3 GB",
        "  training 11 min (447 steps of 1.5 s), 3 validations 40 s, start 10 s",
    ]
    assert "validation" not in example(validations=0).lines()[1]
    assert example(processes=2).lines()[0].endswith("1.9 of 8.3 GB, each of 2 processes")
    assert all(len(line) <= 80 for line in example(training=40000.0, steps=123456).lines())


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (1.24, 4.01, "1.2 to 4.1 s"),
        (31.9, 48.2, "31 to 49 s"),
        (80, 130, "1.3 to 2.2 min"),
        (3700, 5000, "61 to 84 min"),
        (5200, 7300, "1.4 to 2.1 h"),
    ],
)
def test_a_span_is_rounded_outwards(low, high, expected):
    assert span(low, high) == expected


# ---- the command ---------------------------------------------------------------------------------

FILES = {"train.csv", "test.csv", "small.yaml"}


@pytest.fixture
def trained(monkeypatch):
    """What each `--estimate` trained: (B, T) of each batch, and its optimizer steps."""
    seen = []

    class Spy(Rehearsal):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            seen.append((tuple(batch["input_ids"].shape), trainer.global_step))

    monkeypatch.setattr(estimate, "Rehearsal", Spy)
    return seen


def seconds(words: str) -> float:
    """`2 min 5 s` -> 125."""
    units = {"s": 1, "min": 60, "h": 3600}
    return sum(float(count) * units[unit] for count, unit in re.findall(r"([\d.]+) (s|min|h)\b", words))


def test_it_leaves_nothing_and_is_near_the_run(lit_ft, fit_args, work, trained):
    args = [*fit_args, "--trainer.max_epochs", "12", "--trainer.accumulate_grad_batches", "2"]
    args += ["--trainer.num_sanity_val_steps", "1"]
    before = {path.name: path.read_bytes() for path in work.iterdir()}
    code, out, err = lit_ft("fit", *args, "--estimate")
    assert code == 0, err
    assert {path.name: path.read_bytes() for path in work.iterdir()} == before and before.keys() == FILES
    first, last, parts, following = [line for line in out.splitlines() if not line.endswith("80 texts")][-4:]
    assert re.fullmatch(r"estimate: 10 steps on batches of 8 x \d+ to 8 x \d+ tokens; nothing is kept", first)
    assert re.fullmatch(r"estimate: [\d.]+ to [\d.]+ s; memory: [\d.]+ of [\d.]+ GB", last)
    found = re.fullmatch(
        r"  training (.+) \(60 steps of [\d.e-]+ s\), 12 validations (.+), start (.+)", parts
    )
    assert found, parts
    assert following == f"next: {shlex.join(['python', '-m', 'lit_ft', 'fit', *args])}"
    assert trained[-1][1] == STEPS and len(trained) == 2 * STEPS

    code, _, err = lit_ft("fit", *args)
    assert code == 0, err
    metrics = json.loads(Path("runs/small/version_0/metrics.json").read_text())
    assert (
        metrics["train/seconds"] / 3 < seconds(found[1]) < metrics["train/seconds"] * 3
    )  # of a busy machine
    assert "estimate" not in Path("runs/small/version_0/config.yaml").read_text()


def test_the_longest_batch_is_among_the_ten(lit_ft, fit_args, trained, encoder):
    flags = [
        "--data.token_budget",
        "256",
        "--trainer.limit_val_batches",
        "0",
        "--trainer.limit_train_batches=5",
    ]
    code, out, err = lit_ft("fit", *fit_args, *flags, "--estimate")
    assert code == 0 and "validation" not in out.splitlines()[-2], err
    settings = {"max_tokens": 64, "batch_size": 8, "token_budget": 256, "tokenizer": str(encoder)}
    data = YelpDataModule(train_path="train.csv", validation_share=0.2, **settings)
    data.setup("fit")
    sampler = data.train_dataloader().batch_sampler
    shapes = [(len(batch), sampler.width(batch)) for batch in sampler.plan(0)[:5]]
    assert len(trained) == STEPS and {shape for shape, _ in trained} <= set(shapes)
    longest = max(shapes, key=lambda shape: (shape[0] * shape[1], shape[1]))
    assert [shape for shape, _ in trained[:2]] == [longest] * 2


def test_a_long_accumulation_is_measured_on_four_batches_a_step(lit_ft, fit_args, trained):
    flags = [
        "--trainer.accumulate_grad_batches",
        "8",
        "--trainer.callbacks=lightning.pytorch.callbacks.Timer",
    ]
    code, out, err = lit_ft("fit", *fit_args, *flags, "--estimate", "true")
    assert code == 0 and "(4 steps of " in out and ", 2 validations " in out, err
    assert len(trained) == STEPS * 4 and trained[-1][1] == STEPS
    assert "\n  without trainer.callbacks, which may take time or end the run sooner\n" in out
    assert "estimate" not in out.splitlines()[-1]


MISTAKES = [
    (["fit", "--estimate", "--ckpt_path", "last"], "--estimate is for a run from its start"),
    (["fit", "--estimate", "--trainer.fast_dev_run", "true"], "leave out one of --estimate and"),
    (["fit", "--estimate", "--monitor", "val/nothing"], "expected --monitor to be one of val/loss"),
    (["fit", "--estimate", "--trainer.max_epochs", "0"], "above 0, found 0"),
    (["test", "--estimate"], "unknown flag --estimate of test: it is one of fit"),
    (["check", "--estimate"], "unknown flag --estimate of check: it is one of fit"),
    (["verify-resume", "--estimate"], "leave out --estimate"),
]


@pytest.mark.parametrize("args, message", MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_it_is_refused_in_one_line(args, message, lit_ft, fit_args, work):
    command, *flags = args
    assert message in one_line(lit_ft(command, *fit_args, *flags))
    assert {path.name for path in work.iterdir()} == FILES
