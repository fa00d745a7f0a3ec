"""Masked-LM training in fresh processes: killed and resumed, stopped by a signal, on two processes."""

import json
import os
import signal

import pytest
import torch
from conftest import lasting
from fresh import Fresh, ranks
from mlm_tiny import make_trainer
from safetensors.torch import load_file
from transformers import TrainerCallback

from lit_ft.masked_lm import checkpoints as mlm_save_clock
from lit_ft.masked_lm.stopping import StopOnSignal
from lit_ft.masked_lm.tracking import FiguresFirst


class Kill(TrainerCallback):
    """A signal to the first process after a step."""

    def __init__(self, step, number):
        self.step, self.number = step, number

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step and args.process_index == 0:
            os.kill(os.getpid(), self.number)


def train(folder, settings, kill_at, number, resume):
    """One training; gives its exit code."""
    stop = StopOnSignal()
    callbacks = [FiguresFirst(), Kill(kill_at, number), stop]
    trainer = make_trainer(folder, callbacks=callbacks, settings=settings)
    trainer.train(resume_from_checkpoint=resume)
    if stop.signals.agreed:
        return stop.signals.exit_code
    if trainer.is_world_process_zero():
        trainer.save_model(folder / "final")
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history))
        (folder / "words.json").write_text(json.dumps(trainer.words.state()))
    return 0


def run_training(folder, settings, kill_at=0, number=0, resume=None, processes=1):
    """One training in fresh processes; gives the exit code of the first."""
    started = [Fresh(train, folder, settings, kill_at, number, resume, env=env) for env in ranks(processes)]
    ended = [process.end() for process in started]
    assert all(code <= 0 or code >= 128 for code, *_ in ended), ended
    return ended[0].code


RESUMED = {  # dropout is on; 24 rows, 3 epochs; the checkpoint lies within the second epoch, or at its end
    "plain": {"per_device_train_batch_size": 4, "save_steps": 8},
    "epoch-end": {"per_device_train_batch_size": 4, "save_steps": 6, "eval_strategy": "epoch"},
    "workers-accumulation-grouped": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "dataloader_num_workers": 2,
        "train_sampling_strategy": "group_by_length",
        "save_steps": 8,
    },
}


def weights_of(folder):
    return load_file(str(folder / "model.safetensors"))


def words_of(folder):
    """The newest evaluation of each token."""
    return json.loads((folder / "words.json").read_text())["attributes"]["evaluations"][-1]


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def log(folder):
    """All figures of all steps that come out the same each time; of the others the names."""
    entries = json.loads((folder / "log.json").read_text())
    return [(sorted(entry), lasting(entry)) for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_resume_after_kill_9_is_bit_identical(case, tmp_path):
    settings = {**RESUMED[case], "num_train_epochs": 3, "save_strategy": "steps"}
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert run_training(straight, settings) == 0
    assert run_training(killed, settings, kill_at=11, number=signal.SIGKILL) == -signal.SIGKILL
    newest = killed / f"checkpoint-{settings['save_steps']}"
    assert checkpoints(killed) == [newest.name]
    assert run_training(killed, settings, resume=newest) == 0
    assert_same_weights(weights_of(straight / "final"), weights_of(killed / "final"))
    moved = (
        weights_of(straight / "final")["cls.predictions.bias"] - weights_of(newest)["cls.predictions.bias"]
    )
    assert moved.abs().max() > 1e-4  # or "identical" means nothing
    assert log(killed) == log(straight)


@pytest.mark.slow
def test_sigterm_saves_and_the_resume_is_bit_identical(tmp_path):
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 3, "save_strategy": "epoch"}
    settings |= {"eval_strategy": "epoch", "logging_steps": 5}
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert run_training(straight, settings) == 0
    # Neither a log nor an evaluation is due at the step that it stops after.
    assert run_training(stopped, settings, kill_at=8, number=signal.SIGTERM) == 143
    assert checkpoints(stopped) == ["checkpoint-6", "checkpoint-8"]
    assert run_training(stopped, settings, resume=stopped / "checkpoint-8") == 0
    assert_same_weights(weights_of(straight / "final"), weights_of(stopped / "final"))
    assert log(stopped) == log(straight)


@pytest.mark.slow
def test_two_processes_equal_one_and_resume_exactly(tmp_path):
    """SGD without dropout: one process of 8 against two of 4; then a two-process resume, with dropout.

    From a checkpoint at an epoch's last step, within a logging window.
    """
    settings = {
        "optim": "sgd",
        "learning_rate": 0.5,
        "max_grad_norm": 0.0,
        "max_steps": 7,
        "save_strategy": "steps",
    }
    settings |= {"save_steps": 5, "eval_strategy": "epoch", "logging_steps": 7}
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    assert run_training(one, {**settings, "per_device_train_batch_size": 8, "no_dropout": True}) == 0
    parts = {**settings, "per_device_train_batch_size": 4}
    assert run_training(two, {**parts, "no_dropout": True}, processes=2) == 0
    single, double = weights_of(one / "final"), weights_of(two / "final")
    for name, value in single.items():
        torch.testing.assert_close(value, double[name], atol=1e-5, rtol=1e-4)
    logs = [json.loads((folder / "log.json").read_text()) for folder in (one, two)]
    for tag in (
        "train/loss",
        "train/masked_accuracy",
        "train/tokens_seen",
        "val/loss",
        "val/masked_accuracy",
    ):
        figures = [[entry[tag] for entry in entries if tag in entry] for entries in logs]
        assert figures[0] == pytest.approx(figures[1], rel=1e-5), tag
    single, double = words_of(one), words_of(two)  # 13 rows: the second process repeats one, not counted
    for key in ("step", "masked", "ids", "counts"):
        assert single[key] == double[key] and single[key], key
    assert single["losses"] == pytest.approx(double["losses"], rel=1e-4)
    assert run_training(two, parts, processes=2) == 0  # with dropout
    assert run_training(again, parts, kill_at=6, number=signal.SIGTERM, processes=2) == 143
    assert run_training(again, parts, resume=again / "checkpoint-6", processes=2) == 0
    assert_same_weights(weights_of(two / "final"), weights_of(again / "final"))
    assert log(again) == log(two) and words_of(again) == words_of(two)
    assert [entry["step"] for _, entry in log(two) if "val/loss" in entry] == [3, 6, 7]


def test_a_timed_checkpoint(tmp_path, monkeypatch):
    """100 s per step: one is due after 300 s, or after 1,000 s if saving takes 30 s."""
    now = [0.0]
    monkeypatch.setattr(mlm_save_clock.time, "monotonic", lambda: now[0])

    class Step(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            now[0] += 100.0

    settings = {"save_strategy": "steps", "save_steps": 5, "max_steps": 9, "per_device_train_batch_size": 4}
    clock = mlm_save_clock.SaveByClock()
    make_trainer(tmp_path, callbacks=[Step(), clock], settings=settings).train()
    assert {path.name for path in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in (3, 5, 8, 9)}
    now[0] += 30.0
    clock.on_save(None, None, None)
    assert clock.clock.interval == pytest.approx(1000)
