"""What a fit shows while it runs: a line per epoch or validation, and the bar."""

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lit_ft.classifier import progress
from lit_ft.classifier.progress import EpochLines, RunBar
from lit_ft.classifier.tracking import LossHistory
from lit_ft.report.scores import CLASSIFIER
from lit_ft.tasks import SINGLE_LABEL

HEAD = "epoch  train loss  val loss                accuracy  macro F1  elapsed"
NO_VALIDATION = "epoch  train loss  val loss  accuracy  macro F1  elapsed"


def table(out: str, head: str) -> list[list[str]]:
    """The cells of the lines below a head."""
    lines = out.splitlines()
    below = lines[lines.index(next(line for line in lines if line.strip() == head)) + 1 :]
    below = below[: below.index("")] if "" in below else below  # the verdict stands after an empty line
    return [re.split(r"\s{2,}", line.strip()) for line in below if re.match(r"\s+\d", line)]


def test_a_line_an_epoch(lit_ft, fit_args):
    code, out, err = lit_ft("fit", *fit_args)
    assert code == 0, err
    rows = table(out, HEAD)
    found = json.loads(Path("runs/small/version_0/metrics.json").read_text())
    assert [row[0] for row in rows] == ["1", "2"]
    assert rows[-1][1] == f"{found['train/epoch_loss']:.3f}"
    best = next(row for row in reversed(rows) if row[-1] == "best")
    ends = [f"{found[f'val/accuracy_{end}']:.3f}" for end in ("low", "high")]
    accuracy = f"{found['val/accuracy']:.3f} ({ends[0]} to {ends[1]})"
    assert best[2:5] == [f"{found['val/loss']:.3f}", accuracy, f"{found['val/macro_f1']:.3f}"]
    assert re.fullmatch(r"\d+:\d\d", best[5])
    lines = out.splitlines()
    run = next(i for i, line in enumerate(lines) if line.startswith("run: "))
    assert lines[run] == "run: runs/small/version_0 (watch it: tensorboard --logdir runs)"
    assert lines[run + 1].startswith("baselines: ")
    assert lines[run + 2].strip() == HEAD and lines[run - 1].startswith("validation: ")
    assert lines[-1] == "next:   python -m lit_ft test --name small" and max(map(len, lines[run + 2 :])) <= 80
    assert err == ""  # no bar was asked for, and no run is silent without one


def test_a_line_a_validation_and_the_monitored_figure(lit_ft, fit_args):
    """After 5, 10 and 15 of 10 batches an epoch; the second epoch ends with `max_steps`, within 2 more."""
    flags = [
        "--trainer.val_check_interval=5",
        "--monitor=val/kappa",
        "--trainer.max_steps=17",
        "--data.ordered=true",
    ]
    code, out, err = lit_ft("fit", *fit_args, *flags, "--trainer.logger=false", "--data.test_path=null")
    assert code == 0, err
    rows = table(out, HEAD.replace("  elapsed", "   kappa  elapsed"))
    assert [row[0] for row in rows] == ["0.5", "1", "1.5"]
    assert all(len(row) in (7, 8) for row in rows)
    kappas, best = [float(row[5]) for row in rows], [row[-1] == "best" for row in rows]
    assert best == [all(value > other for other in kappas[:i]) for i, value in enumerate(kappas)]
    assert "run: runs/small/version_0\n" in out  # without a logger there is nothing to watch
    assert out.endswith("next:   python -m lit_ft predict --name small --data.predict_path FILE\n")


def test_an_epoch_without_a_validation(lit_ft, fit_args):
    code, out, err = lit_ft("fit", *fit_args, "--trainer.check_val_every_n_epoch=2", "--trainer.max_steps=17")
    assert code == 0, err
    rows = table(out, NO_VALIDATION)
    assert [row[0] for row in rows] == ["1", "1.7"] and all(row[2:5] == ["\u2013"] * 3 for row in rows)
    assert float(rows[1][1]) < float(rows[0][1])  # the training loss


def told(capsys, *validations: dict[str, float]) -> list[str]:
    """The lines of epochs with these metrics."""
    history = LossHistory()
    lines = EpochLines(history, "val/loss", best_is_high=False)
    place = SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(ready=4)))
    trainer = SimpleNamespace(
        sanity_checking=False, state=SimpleNamespace(fn="fit"), num_training_batches=4,
        fit_loop=SimpleNamespace(epoch_loop=place),
        lightning_module=SimpleNamespace(task=SINGLE_LABEL, scores=CLASSIFIER),
    )  # fmt: skip
    lines.on_train_start(trainer, trainer.lightning_module)
    for epoch, metrics in enumerate(validations):
        trainer.current_epoch, trainer.global_step = epoch, 4 * epoch + 4
        trainer.callback_metrics = {tag: torch.tensor(value) for tag, value in metrics.items()}
        history.validation.append({"epoch": epoch + 1, "step": trainer.global_step, **metrics})
        lines.on_validation_end(trainer, None)
        history.train.append({"epoch": epoch + 1, "loss": 1.25})
        lines.on_train_epoch_end(trainer, None)
    return capsys.readouterr().out.splitlines()


def test_the_interval_and_equal_values(capsys):
    figures = {"val/loss": 0.5, "val/accuracy": 0.8367, "val/macro_f1": 0.81}
    interval = {"val/accuracy_low": 0.8061, "val/accuracy_high": 0.8662}
    lines = told(capsys, {**figures, **interval}, {**figures, **interval}, {**figures, "val/loss": 0.4})
    assert lines == [
        " epoch  train loss  val loss                accuracy  macro F1  elapsed",
        "     1       1.250     0.500  0.837 (0.806 to 0.866)     0.810     0:00  best",
        "     2       1.250     0.500  0.837 (0.806 to 0.866)     0.810     0:00",  # as good
        "     3       1.250     0.400                   0.837     0.810     0:00  best",
    ]


def test_a_loss_that_is_not_finite_is_never_best(capsys):
    figures = {"val/accuracy": 0.5, "val/macro_f1": 0.5}
    lines = told(capsys, {**figures, "val/loss": float("nan")}, {**figures, "val/loss": 2.0})
    assert [line.endswith("best") for line in lines] == [False, False, True]


def test_the_bar_of_each_command(lit_ft, fit_args, monkeypatch):
    """On standard error, at the step of the run, with what is left of it; a resumed run goes on there."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def run(command: str, *flags: str) -> str:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Terminal())
            code, out, _ = lit_ft(command, *fit_args, *flags, "--trainer.enable_progress_bar=true")
            assert code == 0 and "\r" not in out and "training " not in out
            return sys.stderr.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("lit_ft.progress.TERMINAL_SECONDS", 0.0)
    shown = run("fit", "--trainer.max_epochs=1")
    assert re.search(r"\rtraining  50%\|.+\| 5/10, loss \d\.\d{3}, [\d,.]+ texts/s, 0:0\d left", shown)
    assert re.search(r"\rvalidating (\d)/\1 100%\|", shown)
    assert "\rtesting 100%|" in run("test") and "\rvalidating 100%|" in run("validate")
    assert "\rpredicting 100%|" in run("predict", "--data.predict_path=test.csv")


@pytest.mark.parametrize("is_first", [True, False])
def test_only_process_0_shows_a_bar(is_first):
    bar, trainer = RunBar(), SimpleNamespace(is_global_zero=is_first, num_test_batches=[3])
    bar.setup(trainer, None, "test")
    bar.on_test_start(trainer, None)
    assert (bar._progress is not None) == is_first


def test_the_bar_does_not_wait_for_a_loss(monkeypatch):
    """It shows the newest loss that has come from the device."""

    class Copy:
        """Is there with the third question after it."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.asked = tensor, 0

        def is_here(self) -> bool:
            self.asked += 1
            return self.asked >= 3

        def wait(self) -> torch.Tensor:
            assert self.asked >= 3, "the bar waits"
            return self.tensor

    def shown(loss: float) -> list[str]:
        bar._follow(SimpleNamespace(callback_metrics={"train/loss": torch.tensor(loss)}))
        return bar.figures()

    bar = RunBar()
    bar._follow(SimpleNamespace(callback_metrics={}))
    assert bar.figures() == []
    assert shown(9.0) == ["loss 9.000"]  # on a CPU it is there at once
    monkeypatch.setattr(progress, "OnItsWay", Copy)
    assert [shown(loss)[0][-5:] for loss in (8.0, 7.0, 6.0)] == ["9.000", "9.000", "8.000"]
    assert [shown(loss)[0][-5:] for loss in (5.0, 4.0, 3.0)] == ["8.000", "8.000", "5.000"]


@pytest.mark.parametrize(
    "batches, every, accumulated, steps",
    [(10, 10, 1, 10), (10, 10, 4, 3), (10, 5, 1, 5), (10, float("inf"), 1, None), (10, None, 1, None)],
)
def test_steps_between_validations(batches, every, accumulated, steps):
    trainer = SimpleNamespace(
        num_training_batches=batches, val_check_batch=every, accumulate_grad_batches=accumulated,
        num_val_batches=[2], check_val_every_n_epoch=1,
    )  # fmt: skip
    assert progress._steps_between_validations(trainer) == steps
    trainer.check_val_every_n_epoch = 2
    if every == batches and accumulated == 1:
        assert progress._steps_between_validations(trainer) == 2 * steps
    trainer.num_val_batches = [0]
    assert progress._steps_between_validations(trainer) is None
