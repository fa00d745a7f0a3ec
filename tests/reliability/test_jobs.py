"""Runs in processes of their own: their order, output, failures, and what a signal does."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import forkserver
from pathlib import Path

import pytest
from fresh import Fresh

from lit_ft.errors import UserError
from lit_ft.reliability import jobs
from lit_ft.reliability.jobs import Job, Stopped, error_in, places, run_jobs


def work(path: str, code: int = 0) -> int:
    Path(path).write_text(f"{os.environ.get('PLACE', '')} {os.getpid()}")
    print("begun")
    if code:
        raise UserError("expected a text, found none;\nset --data.text_column")
    return 0


def wait_for_sigterm(path: str) -> int:
    def receive(number, frame):
        Path(path).write_text("saved")
        sys.exit(143)

    signal.signal(signal.SIGTERM, receive)
    print("waiting", flush=True)
    time.sleep(60)
    return 0


def save_slowly(path: str) -> int:
    """As a run: the first signal lets it save, a second one ends it at once."""

    def receive(number, frame):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(1.0)
        Path(path).write_text("saved")
        sys.exit(143)

    signal.signal(signal.SIGTERM, receive)
    print("waiting", flush=True)
    time.sleep(60)
    return 0


def killed(path: str) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def broken(path: str) -> int:
    raise RuntimeError("broken")


def job(name: str, function=work, *more) -> Job:
    return Job(name, function, (name, *more), Path("logs", f"{name}.txt"))


def test_each_runs_in_a_process_of_its_own():
    taken = []

    def jobs():
        for name in ("a", "b", "c"):
            taken.append(name)
            yield job(name)

    ended = run_jobs(jobs(), environment=lambda place: {"PLACE": f"place {place}"})
    first = next(ended)
    assert taken == ["a"]  # the next one is asked for when this one has ended: it may depend on it
    assert [first, *ended] and taken == ["a", "b", "c"]
    processes = {Path(name).read_text().split()[-1] for name in taken}
    assert len(processes) == 3 and str(os.getpid()) not in processes
    assert Path("a").read_text().startswith("place 0 ")
    assert Path("logs/a.txt").read_text() == "begun\n"


def test_a_failure_is_told_in_its_own_words():
    jobs = [job("a", work, 1), job("b"), job("c", killed)]
    ended = {one.job.name: one for one in run_jobs(jobs, at_once=2)}
    assert {name: one.code for name, one in ended.items()} == {"a": 2, "b": 0, "c": -signal.SIGKILL}
    assert ended["a"].error == "expected a text, found none; set --data.text_column"
    assert ended["b"].error == "" and "memory" in ended["c"].error


def test_a_signal_is_passed_on():
    """The job saves; nobody else begins; the process that waits says which signal it was."""

    def stop_when_it_waits():
        while not (Path("logs/a.txt").is_file() and Path("logs/a.txt").read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_when_it_waits)
    thread.start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop:
        list(run_jobs([job("a", wait_for_sigterm), job("b")]))
    thread.join()
    assert stop.value.number == signal.SIGTERM and signal.getsignal(signal.SIGTERM) == before
    assert Path("a").read_text() == "saved" and not Path("b").exists()


def test_a_signal_ends_the_wait_for_the_server(monkeypatch):
    """It imports for seconds before it forks the first process; the second signal is for who stops."""

    def imports(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(jobs, "_start", imports)
    begun = time.monotonic()
    with pytest.raises(Stopped):
        list(run_jobs([job("a")]))
    assert time.monotonic() - begun < 30


def test_a_signal_that_comes_while_a_job_starts(monkeypatch):
    start = jobs._start

    def interrupted(*args):
        running = start(*args)
        os.kill(os.getpid(), signal.SIGTERM)  # the handler knows nothing of this job
        return running

    monkeypatch.setattr(jobs, "_start", interrupted)
    begun = time.monotonic()
    with pytest.raises(Stopped):
        list(run_jobs([job("a", wait_for_sigterm)]))
    assert time.monotonic() - begun < 30


def test_a_job_that_was_told_is_not_told_again(monkeypatch):
    """The signal comes while another is started: the one that runs has it already, and is saving."""
    start = jobs._start

    def interrupted(one, *args):
        if one.name == "b":
            while not (Path("logs/a.txt").is_file() and Path("logs/a.txt").read_text()):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)
        return start(one, *args)

    monkeypatch.setattr(jobs, "_start", interrupted)
    with pytest.raises(Stopped):
        list(run_jobs([job("a", save_slowly), job("b")], at_once=2))
    assert Path("a").read_text() == "saved" and not Path("b").exists()


def mask() -> set:
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_spares_the_server(monkeypatch):
    """Else it ends while it imports, and no process can be forked; this process gets it all the same."""
    masks, received = [], []

    def starts():
        masks.append(mask())
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(forkserver, "ensure_running", starts)
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        jobs._serve_despite_ctrl_c()
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.SIGINT in masks[0] and signal.SIGINT not in mask() and received == [signal.SIGINT]


def sigint(path: str) -> int:
    Path(path).write_text(f"{mask()} {signal.getsignal(signal.SIGINT) is signal.default_int_handler}")
    return 0


def test_a_job_takes_sigint_as_any_process():
    (ended,) = run_jobs([job("a", sigint)])
    assert ended.code == 0, ended
    assert Path("a").read_text() == "set() True"


def test_a_server_that_ended_is_told(monkeypatch):
    def ended(process):
        raise EOFError("unexpected EOF")

    monkeypatch.setattr(multiprocessing.context.ForkServerProcess, "start", ended)
    with pytest.raises(UserError, match="from which the runs are forked has ended"):
        list(run_jobs([job("a")]))


def test_who_stops_asking_stops_the_jobs():
    ended = run_jobs([job("a"), job("b", wait_for_sigterm)], at_once=2)
    assert next(ended).job.name == "a"
    while not (Path("logs/b.txt").is_file() and Path("logs/b.txt").read_text()):
        time.sleep(0.05)
    ended.close()
    assert Path("b").read_text() == "saved"


def wait_beside(path: str) -> int:
    """A process that starts a job and waits for it, without the imports of the real ones."""
    jobs.PRELOADED = ()
    list(run_jobs([job(path, wait_for_sigterm)]))
    return 0


def test_a_job_saves_when_its_parent_is_killed():
    with_log = Path("logs/a.txt")
    parent = Fresh(wait_beside, "a")
    until = time.monotonic() + 60
    while not (with_log.is_file() and with_log.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    parent.process.kill()
    parent.process.join()
    while not Path("a").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    assert Path("a").read_text() == "saved"


def test_a_job_waits_for_memory():
    asked = []
    list(run_jobs([job("a"), job("b")], at_once=2, may_start=lambda running: bool(asked.append(running))))
    assert set(asked) == {1} and Path("b").exists()


def test_the_last_error_of_a_log(tmp_path):
    log = tmp_path / "log.txt"
    assert error_in(log, 1) == "exit code 1"
    log.write_text("lit_ft: error: first\nlit_ft: error: second\nbye\n")
    assert error_in(log, 2) == "second"
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("Traceback\nValueError: \x1b[31mno\n")
    assert error_in(log, 1, start) == "ValueError: \\x1b[31mno"  # not the error of an earlier attempt


def test_an_earlier_error_is_not_told_again():
    Path("logs").mkdir()
    Path("logs/a.txt").write_text("lit_ft: error: earlier\n")
    (ended,) = run_jobs([job("a", broken)])
    assert ended.code == 1 and ended.error == "RuntimeError: broken"
    assert Path("logs/a.txt").read_text().startswith("lit_ft: error: earlier\n")


@pytest.mark.parametrize(
    "given, expected",
    [
        ((1, 0, 8, None), (8, [[]])),
        ((2, 0, 8, None), (4, [[], []])),
        ((2, 0, 8, 1), (1, [[], []])),
        ((2, 8, 16, None), (8, [[0, 1, 2, 3], [4, 5, 6, 7]])),
        ((3, 8, 16, 9), (5, [[0, 1], [2, 3], [4, 5]])),
    ],
)
def test_the_machine_is_divided(given, expected):
    assert places(*given) == expected


def test_more_jobs_than_devices_are_refused():
    with pytest.raises(UserError, match="at most the 2 GPUs here, found 3; set --jobs=2"):
        places(3, 2, 16, None)
    with pytest.raises(UserError, match="at most the 2 cores here, found 3; set --jobs=2"):
        places(3, 0, 2, None)
