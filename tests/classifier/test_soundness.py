"""A non-finite loss or gradient: the optimizer never uses it, and a line names its rows."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import one_line
from lightning import Callback
from lightning.pytorch.strategies import FSDPStrategy

from lit_ft.classifier import nonfinite as soundness
from lit_ft.classifier.nonfinite import FiniteSteps
from lit_ft.errors import UserError
from lit_ft.reliability.nonfinite import MOST_IN_A_ROW, MOST_IN_A_SHORT_RUN, NonFiniteSteps


class Poison(Callback):
    """Makes a weight NaN before a step, and with it the loss."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            next(pl_module.parameters()).data.fill_(float("nan"))


class PoisonGradient(Callback):
    """Makes a gradient infinite in some steps, and writes down the labels of the batches that had it."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.labels = (batch["labels"] + 1).tolist()
        self.lengths = batch["attention_mask"].sum(1).tolist()

    def on_after_backward(self, trainer, pl_module) -> None:
        if trainer.global_step in self.steps:
            next(p for p in pl_module.parameters() if p.grad is not None).grad.fill_(float("inf"))
            with Path("poisoned.jsonl").open("a") as file:
                file.write(json.dumps(sorted(zip(self.labels, self.lengths, strict=True))) + "\n")


class Weights(Callback):
    """Writes down the sum of the weights and AdamW's step count after each step."""

    sums: list[float]

    def on_train_start(self, trainer, pl_module) -> None:
        Weights.sums = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        Weights.sums.append(sum(float(p.detach().double().sum()) for p in pl_module.parameters()))


def callbacks(name: str, *others: str, **arguments) -> list[str]:
    given = [{"class_path": f"test_soundness.{name}", "init_args": arguments}]
    return [
        "--trainer.callbacks",
        json.dumps(given + [{"class_path": f"test_soundness.{o}"} for o in others]),
    ]


@pytest.fixture(params=["at once", "later"])
def when(request, monkeypatch):
    """On a GPU the optimizer itself skips a step, and the host checks it one step later."""
    if request.param == "later":  # AdamW's fused kernel for CPUs reads the same flag
        monkeypatch.setattr(soundness, "later", lambda optimizer, device: optimizer.defaults["fused"])


@pytest.mark.parametrize("step, what", [(7, "the loss is nan at step 7"), (2, "the loss is nan at step 2")])
def test_non_finite_loss_names_step_and_last_good_checkpoint(step, what, when, lit_ft, fit_args):
    flags = [*callbacks("Poison", step=step), "--trainer.val_check_interval", "5"]
    line = one_line(lit_ft("fit", *fit_args, *flags))
    assert what in line and "--model.learning_rate" in line and "--on_nonfinite=skip" in line
    if step < 5:
        assert "no earlier checkpoint was saved" in line
        return
    named = line.split("the last good checkpoint is ")[1].split(";")[0]
    weights = torch.load(named, weights_only=True)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_weights_ruined_by_the_last_step_are_not_saved(lit_ft, fit_args):
    flags = [
        "--model.learning_rate",
        "1e30",
        "--model.warmup_share",
        "0",
        "--trainer.val_check_interval",
        "1",
    ]
    line = one_line(lit_ft("fit", *fit_args, *flags))
    assert "the validation loss is nan at step 1" in line and "no earlier checkpoint was saved" in line
    assert not list(Path("runs").rglob("*.ckpt"))


def labels_and_tokens(rows: list[int]) -> list[tuple[int, int]]:
    """Of these rows of train.csv, counted from 1: the label, and the tokens with [CLS] and [SEP]."""
    from mlm_tiny import word_tokenizer

    tokenizer = word_tokenizer()
    with Path("train.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    return sorted(
        (int(lines[row - 1]["label"]), min(len(tokenizer(lines[row - 1]["text"])["input_ids"]), 64))
        for row in rows
    )


@pytest.mark.parametrize("accumulated", [1, 2])
def test_non_finite_gradient_names_its_rows(accumulated, when, lit_ft, fit_args):
    flags = [*callbacks("PoisonGradient", steps=[3]), "--data.batch_size", str(8 // accumulated)]
    line = one_line(lit_ft("fit", *fit_args, *flags, "--trainer.accumulate_grad_batches", str(accumulated)))
    assert "the gradient norm is inf at step 3, epoch 0, in rows " in line and " of train.csv;" in line
    rows = [int(number) for number in re.findall(r"\d+", line.split("in rows ")[1].split(" of ")[0])]
    poisoned = [tuple(pair) for line in Path("poisoned.jsonl").open() for pair in json.loads(line)]
    assert len(poisoned) == 8 and labels_and_tokens(rows) == sorted(poisoned)


def test_skipped_steps_leave_weights_alone_and_are_counted(when, lit_ft, fit_args):
    flags = [*callbacks("PoisonGradient", "Weights", steps=[3, 4, 9]), "--on_nonfinite", "skip"]
    code, _, err = lit_ft("fit", *fit_args, *flags, "--trainer.gradient_clip_val", "1.0")
    assert code == 0, err
    sums = Weights.sums
    assert [i for i in range(1, len(sums)) if sums[i] == sums[i - 1]] == [3, 4, 9]
    lines = [line for line in err.splitlines() if "skipped" in line]
    assert [line.split(":")[1] for line in lines] == [f" step {step} is skipped" for step in (3, 4, 9)]
    run = Path("runs/small/version_0")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["train/skipped_steps"] == 3
    assert metrics["val/accuracy"] >= 0.2
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert last["callbacks"]["FiniteSteps"] == {"count": 3, "in_a_row": 0}


def test_the_epochs_mean_skips_a_non_finite_loss(when, lit_ft, fit_args, monkeypatch):
    from lit_ft.classifier.model import BertClassifier

    step = BertClassifier.training_step

    def poisoned(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        return loss * float("nan") if batch_idx == 2 else loss

    monkeypatch.setattr(BertClassifier, "training_step", poisoned)
    code, _, err = lit_ft("fit", *fit_args, "--on_nonfinite", "skip")
    assert code == 0 and err.count("is skipped: the loss is nan in rows ") == 2, err  # one an epoch
    last = torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)
    history = last["callbacks"]["LossHistory"]  # saved before the second epoch's mean is taken
    assert 0 < history["train"][0]["loss"] < 3 and history["num_samples"] == 80 - 8
    assert 0 < history["sum"] / history["num_samples"] < 3


@pytest.mark.parametrize(
    "end",
    [
        [
            "--trainer.max_epochs",
            "1",
            "--trainer.limit_val_batches",
            "0",
        ],  # nothing looks behind the last step
        ["--trainer.max_steps", "4", "--trainer.limit_val_batches", "0"],
    ],
    ids=["last of the epoch", "max_steps"],
)
def test_the_last_step_is_checked(end, when, lit_ft, fit_args):
    step = 3 if "--trainer.max_steps" in end else 9  # of 10 an epoch
    flags = [*callbacks("PoisonGradient", steps=[step]), *end]
    line = one_line(lit_ft("fit", *fit_args, *flags))
    assert f"the gradient norm is inf at step {step}, epoch 0, in rows " in line
    assert "no earlier checkpoint was saved" in line and not list(Path("runs").rglob("*.ckpt"))
    code, _, err = lit_ft("fit", *fit_args, *flags, "--on_nonfinite", "skip")
    assert code == 0 and err.count(f"step {step} is skipped") == 1, err


@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_a_save_right_after_a_step_knows_of_it(policy, when, lit_ft, fit_args, monkeypatch):
    due = iter([False, False, False, True])
    monkeypatch.setattr("lit_ft.reliability.checkpoints.SaveClock.is_due", lambda self: next(due, False))
    seen = []
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda value, *args: (seen.append(value), save(value, *args)))
    flags = [*callbacks("PoisonGradient", steps=[3]), "--on_nonfinite", policy, "--trainer.max_steps", "5"]
    code, _, err = lit_ft("fit", *fit_args, *flags)
    if policy == "skip":
        assert code == 0, err
        first = next(value for value in seen if value.get("global_step") == 4)
        assert first["callbacks"]["FiniteSteps"] == {"count": 1, "in_a_row": 1}
    else:
        line = one_line((code, "", err))
        assert "at step 3" in line and "no earlier checkpoint was saved" in line
        assert not list(Path("runs").rglob("*.ckpt"))


def test_skipping_ends_once_the_weights_are_nan(when, lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, *callbacks("Poison", step=2), "--on_nonfinite", "skip"))
    assert "the loss is nan at step 7" in line  # the sixth in a row
    assert "6 non-finite steps so far, 6 in a row, are too many to skip" in line


def test_processes_with_gradients_of_their_own_decide_together(monkeypatch):
    """Another process's shard of the gradients is non-finite, this one's is finite."""
    asked: list[bool] = []
    monkeypatch.setattr(
        FSDPStrategy, "reduce_boolean_decision", lambda self, decision, all=True: asked.append(decision)
    )
    module = torch.nn.Linear(2, 1)
    module.log = lambda *args: None
    module(torch.ones(1, 2)).sum().backward()
    finite = FiniteSteps("stop")
    finite.on_before_backward(None, module, torch.tensor(1.0))
    monkeypatch.setattr("lit_ft.classifier.nonfinite._rows", lambda *args: [3])
    monkeypatch.setattr("lit_ft.classifier.nonfinite.num_training_steps", lambda trainer: 10)
    trainer = SimpleNamespace(
        precision="bf16-mixed",
        strategy=object.__new__(FSDPStrategy),
        datamodule=SimpleNamespace(hparams={"train_path": "a.csv"}),
        is_global_zero=True,
        checkpoint_callbacks=[],
        global_step=5,
        current_epoch=0,
    )
    with pytest.raises(UserError, match="at step 5, epoch 0, in row 3 of a.csv"):
        finite.on_before_optimizer_step(trainer, module, None)
    assert asked == [True]


def test_bounds_of_skipping():
    run = NonFiniteSteps("skip")
    what = (0, "the loss is nan", "row 1")
    for _ in range(MOST_IN_A_SHORT_RUN):
        assert run.may_skip(*what, num_training_steps=100)
        run.in_a_row = 0
    assert not run.may_skip(*what, num_training_steps=100)
    assert run.may_skip(*what, num_training_steps=2_000)  # 1 % of them are more
    run.in_a_row = MOST_IN_A_ROW
    assert not run.may_skip(*what, num_training_steps=2_000)
