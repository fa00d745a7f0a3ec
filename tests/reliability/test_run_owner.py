"""One process owns a run for as long as it lives."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.reliability import run_owner

HOLD = """
import os, sys, time
from pathlib import Path
from lit_ft.reliability import run_owner
run_owner.own(Path(sys.argv[1]))
forked = os.fork() if "fork" in sys.argv else None  # as a loader's worker
if not forked:  # the worker itself, so that it has let go of the lock by then
    print(os.getpid() if forked == 0 else 0, flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_owner, "PATIENCE_SECONDS", 0.0)
    yield
    run_owner.release()


@pytest.fixture
def holder():
    """Another process that owns a run: (run, how) -> it, and its child."""
    started = []

    def hold(run: Path, *how: str) -> tuple[subprocess.Popen[str], int]:
        call = [sys.executable, "-c", HOLD, str(run), *how]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        started.append(subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=environment))
        return started[-1], int(started[-1].stdout.readline())

    yield hold
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_another_process_is_refused_by_its_name(holder):
    run = runs.new_run("a")
    other, _ = holder(run)
    with pytest.raises(UserError, match=rf"^{run} is being written by process {other.pid} on .* since 20"):
        run_owner.own(run)
    assert f"process {other.pid} on " in run_owner.owner(run)
    run_owner.own(runs.new_run("a"))  # another folder


@pytest.mark.parametrize("how", [(), ("fork",)], ids=["alone", "with a worker that lives on"])
def test_a_killed_process_owns_nothing(how, holder):
    run = runs.new_run("a")
    other, child = holder(run, *how)
    other.kill()
    other.wait()
    try:
        assert run_owner.owner(run) is None
        run_owner.own(run)  # at once
        assert (run / run_owner.LOCK).read_text().startswith(f"process {os.getpid()} on ")
    finally:
        if child:
            os.kill(child, signal.SIGKILL)


def test_it_waits_for_a_process_that_is_ending(holder, monkeypatch):
    run = runs.new_run("a")
    other, _ = holder(run)
    monkeypatch.setattr(run_owner, "PATIENCE_SECONDS", 20.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: other.kill())
    run_owner.own(run)


def test_a_release_removes_the_lock_file_and_the_run_can_be_owned_again():
    run = runs.new_run("a")
    for _ in range(2):
        run_owner.own(run)
        assert run_owner.owner(run) is None  # it is ours
        run_owner.release()
        assert list(run.iterdir()) == []


def test_two_runs_of_one_process_are_kept_apart():
    run = runs.new_run("a")
    run_owner.own(run)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        run_owner.own(run)


def test_a_worker_does_not_release_it():
    run = runs.new_run("a")
    run_owner.own(run)
    worker = multiprocessing.get_context("fork").Process(target=run_owner.release)
    worker.start()
    worker.join()
    with pytest.raises(UserError):
        run_owner.own(run)


def test_a_lock_file_that_its_owner_has_just_removed_does_not_count(monkeypatch):
    """Otherwise two would own the run: one by the old file, one by a new one."""
    run, unharmed = runs.new_run("a"), fcntl.flock

    def removed_before(file: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", unharmed)
        (run / run_owner.LOCK).unlink()
        unharmed(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_before)
    run_owner.own(run)
    with pytest.raises(UserError):
        run_owner.own(run)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, None])
def test_without_locks_it_warns_and_continues(number, monkeypatch, capsys):
    run = runs.new_run("a")
    if number is None:
        monkeypatch.setattr(run_owner, "fcntl", None)  # Windows
    else:

        def refused(file: int, how: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refused)
    run_owner.own(run)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {run}: this file system has no locks (") and said.count("\n") == 1
    assert number is None or os.strerror(number) in said
    assert run_owner.owner(run) is None
    run_owner.release()
    assert list(run.iterdir()) == []


def test_jobs(monkeypatch):
    made = runs.new_run("a")
    run_owner.note_job(made, "x")
    assert list(made.iterdir()) == [] and not run_owner.is_requeued()  # no SLURM
    variables = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "3"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run_owner.note_job(made, "x")
    other, newest = runs.new_run("a"), runs.new_run("a")
    run_owner.note_job(other, "y")
    run_owner.note_job(newest, "x")
    assert run_owner.runs_of_job("a", "x") == [newest, made]
    monkeypatch.setenv("SLURM_JOB_ID", "13")  # of an array the index counts
    assert run_owner.runs_of_job("a", "x") == [newest, made]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    assert run_owner.runs_of_job("a", "x") == []
    (newest / run_owner.JOB).write_text("[")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert run_owner.runs_of_job("a", "x") == [made]
    assert json.loads((made / run_owner.JOB).read_text()) == {"job": "10_3", "settings": "x"}
    for count, expected in {"": False, "0": False, "1": True, "x": False}.items():
        monkeypatch.setenv("SLURM_RESTART_COUNT", count)
        assert run_owner.is_requeued() is expected
