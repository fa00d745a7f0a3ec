"""Lightning's limits with our batches: a fair part is measured, the same rows are overfitted, or one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, review, write_csv
from lightning import Callback, Trainer

from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.data.batching import GroupedBatchSampler

LENGTHS = np.random.default_rng(0).gamma(2.0, 60.0, 5000).astype(np.int64).clip(3, 512)
RUN = Path("runs/small/version_0")


def metrics() -> dict:
    return json.loads((RUN / "metrics.json").read_text())


def confusion(prefix: str) -> list[list[int]]:
    return json.loads((RUN / "report.json").read_text())["evaluations"][prefix]["confusion"]


@pytest.mark.parametrize("budget", [None, 4096])
@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_a_part_is_as_long_as_the_whole(budget, world_size, count):
    """Not so the first batches of all rows, which hold the longest."""
    settings = {"shuffle": False, "world_size": world_size, "token_budget": budget, "width_multiple": 8}
    whole = GroupedBatchSampler(LENGTHS, 16, seed=1, **settings)
    rows = whole.random_rows(count)
    part = GroupedBatchSampler(LENGTHS[rows], 16, seed=1, **settings)
    assert len(part) == count and (np.diff(rows) > 0).all()
    deviation = LENGTHS.std() / np.sqrt(len(rows))
    assert abs(LENGTHS[rows].mean() - LENGTHS.mean()) < 3 * deviation
    if count < 20:
        first = np.concatenate(whole.plan(0)[:count])
        assert LENGTHS[first].mean() > LENGTHS.mean() + 3 * deviation
    assert np.array_equal(GroupedBatchSampler(LENGTHS, 16, seed=1, **settings).random_rows(count), rows)
    assert len(rows) == count * 16 * world_size if budget is None else len(rows) >= count * world_size


def test_predict_under_a_budget_holds_back_one_stretch():
    """Rows are written in order: what comes early has to wait for what comes late."""
    sampler = GroupedBatchSampler(LENGTHS, 8, shuffle=False, token_budget=2048, near=True)
    batches = sampler.plan(0)
    assert sorted(np.concatenate(batches)) == list(range(5000)) and len(sampler) == len(batches)
    assert all(len(batch) * LENGTHS[batch].max() <= 2048 and len(batch) <= 8 for batch in batches)
    waiting, written, most = set(), 0, 0
    for batch in batches:
        waiting |= set(batch.tolist())
        while written in waiting:
            waiting.remove(written)
            written += 1
        most = max(most, len(waiting))
    assert most <= 50 * 8  # all rows sorted together: nearly all 5,000


@pytest.fixture
def fitted(lit_ft, fit_args, work) -> None:
    rows = [(i % 5 + 1, f"{review(i % 5 + 1, i // 5)} {'so ' * (i % 9)}number {i}") for i in range(100)]
    write_csv(work / "train.csv", rows)
    write_csv(work / "test.csv", [(label, f"{text} too") for label, text in rows[:40]])
    assert lit_ft("fit", *fit_args)[0] == 0


@pytest.mark.parametrize("limit, left", [("2", 8), ("0.3", 12), ("10", 40), ("1.0", 40)])
def test_test_measures_a_random_part_and_says_so(limit, left, fitted, lit_ft, fit_args):
    small = ["--data.eval_batch_size", "4"]
    code, out, err = lit_ft("test", *fit_args, *small, "--trainer.limit_test_batches", limit)
    assert code == 0, err
    said = f"test: measured on a random part, {left} of 40 texts (trainer.limit_test_batches={limit})"
    assert (said in out) == (left < 40) and ("random part" in out) == (left < 40)
    matrix = confusion("test")
    assert sum(map(sum, matrix)) == left
    flags = ["--data.predict_path", "test.csv", "--data.predict_output", "p.csv"]
    assert lit_ft("predict", *fit_args, *flags)[0] == 0
    with open("p.csv", newline="") as file:
        right = [row["predicted"] == row["label"] for row in csv.DictReader(file)]
    rows = np.random.default_rng(0).permutation(40)[:left]  # data.split_seed is 0
    assert metrics()["test/accuracy"] == pytest.approx(np.mean([right[i] for i in rows]), abs=1e-6)
    report = (RUN / "report.html").read_text()
    assert (f"{left} test texts, a random part of 40" in report) == (left < 40)


def test_each_validation_of_a_fit_measures_the_same_part(lit_ft, fit_args, monkeypatch):
    seen = []
    monkeypatch.setattr(
        BertClassifier, "on_validation_epoch_end",
        lambda self, end=BertClassifier.on_validation_epoch_end: (
            end(self), seen.append(self.outcomes["val"].index.tolist())
        ),
    )  # fmt: skip
    flags = ["--data.eval_batch_size=5", "--trainer.limit_val_batches=0.5", "--trainer.val_check_interval=5"]
    code, out, err = lit_ft("fit", *fit_args, *flags, "--trainer.num_sanity_val_steps", "1")
    assert code == 0, err
    said = "validation: measured on a random part, 10 of 20 texts (trainer.limit_val_batches=0.5)"
    assert out.count(said) == out.count("random part") == 1
    assert len(seen[0]) == 5 and len(seen) == 5  # the sanity check's, and two an epoch
    assert all(rows == seen[1] for rows in seen[1:]) and len(seen[1]) == 10
    assert sum(map(sum, confusion("val"))) == 10


class Rows(Callback):
    def __init__(self) -> None:
        self.epochs: dict[int, list[list]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.epochs.setdefault(trainer.current_epoch, []).append(batch["input_ids"].tolist())


@pytest.mark.parametrize(
    "overfit, budget, batches", [(2, None, 2), (0.5, None, 5), (1, 256, 1), (99, None, 10)]
)
def test_overfitting_trains_on_the_same_batches_in_each_epoch(overfit, budget, batches, encoder, work):
    rows = Rows()
    trainer = Trainer(
        max_epochs=3, overfit_batches=overfit, callbacks=[rows], accelerator="cpu", logger=False,
        use_distributed_sampler=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    settings = {"train_path": "train.csv", "validation_path": "test.csv", "tokenizer": str(encoder)}
    settings |= {"max_tokens": 64, "batch_size": 10, "token_budget": budget, "eval_batch_size": 8}
    trainer.fit(BertClassifier(str(encoder)), YelpDataModule(**settings))
    assert [len(found) for found in rows.epochs.values()] == [batches] * 3
    assert rows.epochs[0] == rows.epochs[1] == rows.epochs[2]
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert scheduler.get_last_lr() == [0.0, 0.0]  # it ends with the run


REFUSED = [
    ("fit", "overfit_batches=0.5", "overfit_batches that leaves a batch, found 0.5 of the 1 to validate on"),
    ("fit", "overfit_batches=0.01", "a batch, found 0.01 of the 10 to train on"),
    ("fit", "overfit_batches=2.0", "of at most 1.0 as a share, found 2.0; write 2"),
    ("fit", "limit_val_batches=0.3", "_val_batches that leaves a batch, found 0.3 of the 1 to validate on"),
    ("fit", "limit_train_batches=0.01", "--trainer.limit_train_batches that leaves a batch"),
    ("fit", "overfit_batches=2 --trainer.limit_val_batches=3", "leave it out, or --trainer.limit_val_b"),
    ("fit", "val_check_interval=0.0", "found 0.0; to skip validation set --trainer.limit_val_batches=0"),
    ("fit", "check_val_every_n_epoch=0", "check_val_every_n_epoch above 0, found 0"),
    ("fit", "accumulate_grad_batches=-1", "accumulate_grad_batches above 0, found -1"),
    ("fit", "min_epochs=5", "--trainer.min_epochs of at most 2 (trainer.max_epochs), found 5"),
    ("test", "use_distributed_sampler=true", "trainer.use_distributed_sampler true does not work here"),
    ("test", "limit_test_batches=0", "that leaves a batch, found 0 of the 1 to test on"),
    ("test", "limit_test_batches=0.9", "that leaves a batch, found 0.9 of the 1 to test on"),
    ("validate", "limit_val_batches=0.0", "that leaves a batch, found 0.0 of the 1 to validate on"),
]


def test_limits_that_leave_nothing(fitted, lit_ft, fit_args):
    before = metrics()
    for command, flags, message in REFUSED:
        assert message in one_line(lit_ft(command, *fit_args, *f"--trainer.{flags}".split())), flags
    assert metrics() == before and len(list(Path("runs/small").iterdir())) == 1


def test_trying_out_an_evaluation_keeps_no_figures(fitted, lit_ft, fit_args):
    before = metrics()
    for command in ("validate", "test"):
        flags = ["--trainer.fast_dev_run", "true", "--data.eval_batch_size=4"]
        code, out, err = lit_ft(command, *fit_args, *flags)
        assert code == 0 and f"fast_dev_run: {command} works" in out, err
    assert metrics() == before


def test_predict_reads_its_rows_near_their_places(encoder, work):
    settings = {"predict_path": "train.csv", "max_tokens": 64, "eval_batch_size": 1, "token_budget": 64}
    data = YelpDataModule(**settings, tokenizer=str(encoder))
    data.setup("predict")
    order = [i for batch in data.predict_dataloader() for i in batch["index"].tolist()]
    assert sorted(order[:50]) == list(range(50)) and sorted(order) == list(range(100))
