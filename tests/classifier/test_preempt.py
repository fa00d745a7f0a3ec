"""A fit that a signal stops saves a checkpoint, says so, and is resumed as if it had never stopped."""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import slurm
import torch
from conftest import lasting, one_line
from fresh import Fresh, command
from lightning import Callback
from test_resume import Killed, curves, history, state

from lit_ft.reliability import run_owner


class SignalAt(Callback):
    """The process gets a signal: in a training batch, or in a validation."""

    def __init__(self, batch: int = -1, validation: int = -1, number: int = 15, rank: int = 0) -> None:
        self.batch, self.validation, self.number, self.rank = batch, validation, number, rank
        self.batches = self.validations = 0

    def on_train_start(self, trainer, pl_module) -> None:
        if self.batch == 0:  # Lightning's own handler still stands
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.batches += 1
        if self.batches == self.batch and trainer.global_rank == self.rank:
            if self.number == signal.SIGKILL:
                Path("killed").touch()  # notes the time
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer, pl_module) -> None:
        self.validations += 1
        if self.validations == self.validation:
            os.kill(os.getpid(), self.number)


def signal_at(**place: int) -> str:
    callback = {"class_path": "test_preempt.SignalAt", "init_args": place}
    return f"--trainer.callbacks={json.dumps([callback])}"


# Ten batches an epoch, two epochs, a validation after the 4th and the 8th batch.
CASES = {  # where the signal comes -> other settings, the step that the run stops after
    "before the first step": ({"batch": 0}, [], 1),
    "between validations": ({"batch": 6}, [], 6),
    "before a validation": ({"batch": 4}, [], 4),
    "in a validation": ({"validation": 2}, [], 8),
    "at the end of an epoch": ({"batch": 10}, [], 11),
    "at the very end": ({"batch": 20}, [], 20),
    "in an accumulation": ({"batch": 6}, ["--trainer.accumulate_grad_batches", "3"], 2),
    "validation in an accumulation": ({"validation": 1}, ["--trainer.accumulate_grad_batches", "3"], 2),
    "last batch is a validation's": ({"batch": 10}, ["--trainer.val_check_interval", "5"], 10),
    "workers": ({"batch": 6}, ["--data.num_workers", "1"], 6),
    "max_steps": ({"batch": 14}, ["--trainer.max_steps", "14"], 14),
}


class Whole(NamedTuple):
    """What a run that nothing stopped has left."""

    weights: dict[str, torch.Tensor]
    history: Any
    figures: dict[str, Any]
    curves: Any

    @classmethod
    def of(cls, name: str) -> "Whole":
        last = state(name)
        figures = json.loads(Path(f"runs/{name}/version_0/metrics.json").read_text())
        return cls(last["state_dict"], history(last), lasting(figures), curves(name))

    def equals(self, other: "Whole") -> bool:
        for key, value in self.weights.items():
            assert torch.equal(value, other.weights[key]), key
        return (self.history, self.figures, self.curves) == (other.history, other.figures, other.curves)


@pytest.fixture(scope="module")
def wholes() -> dict[tuple[str, ...], Whole]:
    """By its settings: several tests stop the same run at different places."""
    return {}


def whole_of(settings: list[str], wholes: dict, lit_ft, fit_args: list[str]) -> Whole:
    """The run of these settings that nothing stops, made once in this file."""
    if (key := tuple(settings)) not in wholes:
        assert lit_ft("fit", *fit_args, *settings, "--name", "whole")[0] == 0
        wholes[key] = Whole.of("whole")
    return wholes[key]


@pytest.mark.parametrize("place, settings, step", CASES.values(), ids=CASES)
def test_stops_at_a_step_and_resumes_exactly(place, settings, step, lit_ft, fit_args, wholes):
    settings = ["--trainer.val_check_interval", "4", *settings]
    args = [*fit_args, *settings]
    whole = whole_of(settings, wholes, lit_ft, fit_args)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    code, _, err = lit_ft("fit", *args, "--name", "parts", signal_at(**place))
    assert {number: signal.getsignal(number) for number in before} == before
    assert code == 143, err
    path = "runs/parts/version_0/checkpoints/last.ckpt"
    said = f"warning: stopped by SIGTERM at step {step}, saved in {path}; "
    assert err.endswith(said + "resume with the same command and --ckpt_path last\n")
    assert err.count("\n") == 1
    assert state("parts")["global_step"] == step
    left = {p.name for p in Path("runs/parts/version_0").iterdir()}
    assert not left & {"metrics.json", "report.html", "model", "loss.png"}
    torch.rand(3)
    code, out, err = lit_ft("fit", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0, err
    assert out.startswith(f"resuming at step {step} of ")
    assert whole.equals(Whole.of("parts"))


def test_ctrl_c_has_its_own_exit_code(lit_ft, fit_args):
    code, _, err = lit_ft("fit", *fit_args, signal_at(batch=3, number=int(signal.SIGINT)))
    assert code == 130 and "warning: stopped by SIGINT at step 3, saved in runs/small/" in err


def test_slurm_runs_the_job_again_and_it_resumes(lit_ft, fit_args, work, monkeypatch, wholes):
    """By Lightning's plugin: the same command, without a word of a checkpoint."""
    settings = ["--trainer.val_check_interval", "4"]
    args = [*fit_args, *settings]
    whole = whole_of(settings, wholes, lit_ft, fit_args)
    monkeypatch.setenv("PATH", slurm.scontrol(work))
    for name, value in slurm.variables().items():
        monkeypatch.setenv(name, value)
    number = int(signal.SIGUSR1)
    code, _, err = lit_ft("fit", *args, "--name", "parts", signal_at(batch=6, number=number))
    assert code == 128 + number, err
    path = "runs/parts/version_0/checkpoints/last.ckpt"
    assert f"warning: stopped by SIGUSR1 at step 6, saved in {path}; SLURM is asked to run the job" in err
    assert (work / "scontrol.txt").read_text().splitlines() == slurm.REQUEUED
    assert not list(work.rglob("hpc_ckpt*"))  # Lightning would begin any later fit of its folder with it
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    code, out, err = lit_ft("fit", *args, "--name", "parts")
    assert code == 0 and out.startswith(f"resuming at step 6 of 20 from {path}\n"), err
    assert whole.equals(Whole.of("parts"))


def test_a_requeued_job_resumes_its_own_run(lit_ft, fit_args, monkeypatch):
    """Not with the newest of the name, which is another job's, or the same job's of other settings."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    for job, seed in ((1, "1"), (2, "2"), (1, "3")):
        monkeypatch.setenv("SLURM_JOB_ID", str(job))
        assert lit_ft("fit", *fit_args, "--seed_everything", seed, signal_at(batch=6))[0] == 143
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    own = "runs/small/version_0/checkpoints/last.ckpt"
    for flags in ([], ["--ckpt_path", "last"]):
        code, out, err = lit_ft("fit", *fit_args, "--seed_everything", "1", *flags)
        assert code == 0 and out.startswith("resuming at step ") and f" from {own}\n" in out, err
    fourth = "no checkpoint of SLURM job 1 with these settings in runs/small: starting fresh\n"
    code, out, err = lit_ft("fit", *fit_args, "--seed_everything", "4")
    assert code == 0 and out.startswith(fourth), err
    monkeypatch.setenv("SLURM_JOB_ID", "7")  # takes the run over: it is then its own
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert lit_ft("fit", *fit_args, "--seed_everything", "3", "--ckpt_path", own.replace("0", "2"))[0] == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    code, out, _ = lit_ft("fit", *fit_args, "--seed_everything", "3")
    assert code == 0 and "runs/small/version_2/" in out.splitlines()[0]


def test_a_run_that_is_being_written_is_left_alone(lit_ft, fit_args, monkeypatch):
    """By a second `fit` altogether, and by `test` as far as it would write."""
    assert lit_ft("fit", *fit_args, signal_at(batch=6))[0] == 143
    run = Path("runs/small/version_0")
    monkeypatch.setattr(run_owner, "PATIENCE_SECONDS", 0.0)
    with (run / run_owner.LOCK).open("w") as file:  # as another process: a lock belongs to an open file
        file.write("process 99 on node7 since 2026-11-28 12:00:00\n")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        before = sorted(run.rglob("*"))
        line = one_line(lit_ft("fit", *fit_args, "--ckpt_path", "last"))
        assert line == (
            f"{run} is being written by process 99 on node7 since 2026-11-28 12:00:00; wait until it ends or "
            "stop it, or leave out --ckpt_path to start a new run"
        )
        code, out, err = lit_ft("test", *fit_args, "--ckpt_path", "last")
        assert code == 0 and "test/accuracy" in out, err
        assert f"warning: {run} is being written by process 99" in err and "not saved there" in err
        assert sorted(run.rglob("*")) == before
        assert lit_ft("fit", *fit_args)[0] == 0  # a folder of its own
    assert Path("runs/small/version_1/metrics.json").exists()
    assert lit_ft("fit", *fit_args, "--ckpt_path", str(run / "checkpoints/last.ckpt"))[0] == 0
    assert not (run / run_owner.LOCK).exists()


class SignalTwice(Callback):
    """The second Ctrl-C, while the step that the first one waits for is running."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)


def test_second_signal_ends_at_once(lit_ft, fit_args):
    callback = json.dumps([{"class_path": "test_preempt.SignalTwice"}])
    code, _, err = lit_ft("fit", *fit_args, f"--trainer.callbacks={callback}")
    assert code == 130 and err.endswith("warning: interrupted at step 2; no checkpoint was saved yet\n")
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.mark.parametrize("clock", [1, 3])
def test_last_is_saved_every_few_minutes(clock, lit_ft, fit_args, monkeypatch, wholes):
    """A kill without a signal, long before the first validation; the run then ends as the whole one."""
    from lit_ft.classifier import checkpoints as run_checkpoints
    from lit_ft.reliability import checkpoints as save_clock

    class Clock:
        """Five minutes go by in every `clock` batches."""

        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            return cls.now

    class Tick(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            Clock.now += save_clock.INTERVAL_SECONDS / clock

    settings = ["--trainer.val_check_interval", "10"]
    args = [*fit_args, *settings]
    whole = whole_of(settings, wholes, lit_ft, fit_args)
    monkeypatch.setattr(run_checkpoints, "time", Clock)
    monkeypatch.setattr(save_clock, "time", Clock)
    monkeypatch.setattr(sys.modules[__name__], "Tick", Tick, raising=False)
    stop = {"class_path": "test_resume.StopAt", "init_args": {"step": 8}}
    callbacks = json.dumps([{"class_path": "test_preempt.Tick"}, stop])
    with pytest.raises(Killed):
        lit_ft("fit", *args, "--name", "parts", f"--trainer.callbacks={callbacks}")
    assert state("parts")["global_step"] == {1: 8, 3: 6}[clock]
    assert lit_ft("fit", *args, "--name", "parts", "--ckpt_path", "last")[0] == 0
    assert whole.equals(Whole.of("parts"))


def test_saving_takes_little_of_the_time(tmp_path, monkeypatch):
    """A save of 30 s: the next one comes after 1000 s, which is 3 % of the time."""
    from lit_ft.classifier.checkpoints import LastCheckpoint

    last = LastCheckpoint(tmp_path)
    times = iter([0.0, 30.0])
    monkeypatch.setattr("lit_ft.classifier.checkpoints.time.monotonic", lambda: next(times))
    monkeypatch.setattr(last, "_monitor_candidates", lambda trainer: {})
    monkeypatch.setattr(last, "_save_topk_checkpoint", lambda trainer, candidates: None)
    last.save(SimpleNamespace(global_step=7))
    assert last.clock.interval == pytest.approx(1000)


def test_a_timed_save_is_not_training_time():
    from lit_ft.classifier.tracking import Throughput

    throughput = Throughput()
    throughput._since = 1.0
    throughput.on_save_checkpoint(None, None, {})
    assert throughput._since is None  # the next batch starts the clock


@pytest.mark.slow
def test_a_process_ends_with_143(fit_args, work):
    """SIGTERM to a process of its own, as a cluster sends it."""
    args = ["--trainer.max_epochs", "2000", "--trainer.val_check_interval", "5"]
    fit = Fresh(command, ["fit", *fit_args, *args])
    last = work / "runs/small/version_0/checkpoints/last.ckpt"
    while not last.exists() and fit.process.is_alive():
        time.sleep(0.2)
    fit.process.terminate()
    code, _, err = fit.end(timeout=60)
    assert code == 143, err
    assert "warning: stopped by SIGTERM at step" in err and err.count("\n") == 1
