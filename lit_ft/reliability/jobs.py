"""Runs in processes of their own, some at a time: each is forked from one that has imported the libraries.

Importing torch and Lightning takes seconds of a core. A server process does it once; what it forks begins
within a tenth of a second, and is as fresh as a command that was typed. Windows has no such server: there
each process imports for itself.
"""

import atexit
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from lit_ft.errors import MISTAKE, UserError, exit_code_of, one_line
from lit_ft.progress import is_live

POLL_SECONDS = 0.5
PRELOADED = ("lit_ft.commands.fit", "tensorboard.compat")  # by name: what the forked processes need
MOST_TAIL = 1 << 16  # bytes of a log that are searched for its last line
SHOWN_LETTERS = 20  # of a terminal's line that are left beside the status


@dataclass(frozen=True)
class Job:
    """A function to call in a process of its own.

    Attributes:
        name: What it is called in lines, such as `seed 42, fold 2`.
        function: Stands at the top of a module. What it returns is the exit code.
        args: Its arguments.
        log: The file to which its output is appended.
    """

    name: str
    function: Callable[..., int]
    args: tuple[Any, ...]
    log: Path


class Ended(NamedTuple):
    """How a job ended.

    Attributes:
        job: The job.
        code: Its exit code, minus the signal's number where one ended it.
        seconds: How long it took.
        error: Its last error in one line, empty if the code is 0.
    """

    job: Job
    code: int
    seconds: float
    error: str


@dataclass
class _Running:
    job: Job
    slot: int
    process: Any
    begun: float
    logged: int  # bytes of an earlier attempt in its log


class Stopped(Exception):
    """A signal stopped this process, and so all of its jobs.

    Attributes:
        number: The signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_jobs(
    jobs: Iterable[Job],
    at_once: int = 1,
    threads: int | None = None,
    environment: Callable[[int], dict[str, str]] = lambda slot: {},
    may_start: Callable[[int], bool] = lambda running: True,
) -> Iterator[Ended]:
    """Run jobs, and hand out each as it ends.

    SIGTERM and SIGINT are passed on to the jobs, which save and end; a second one kills them.

    Args:
        jobs: The next one is taken when there is a place for it, so that it can depend on those that ended.
        at_once: The number of places.
        threads: Of each job; None for torch's own choice.
        environment: Place -> variables of a job that runs there, such as the device that it sees.
        may_start: The number of jobs that run, at least one -> whether there is memory for another.

    Raises:
        Stopped: By a signal, when the jobs have ended.
    """
    waiting, running, free = iter(jobs), list[_Running](), list(range(at_once))
    signals = _Forwarded(running)
    nothing_left, others = False, set(multiprocessing.active_children())
    with signals:
        try:
            while True:
                while free and not nothing_left and not signals.number:
                    if running and not may_start(len(running)):
                        break
                    if (job := next(waiting, None)) is None:
                        nothing_left = True
                        break
                    slot = free.pop(0)
                    with signals.interruptible():
                        running.append(_start(job, slot, threads, environment(slot)))
                if not running:
                    break
                multiprocessing.connection.wait([one.process.sentinel for one in running], POLL_SECONDS)
                _show_status(running)
                for one in [one for one in running if one.process.exitcode is not None]:
                    running.remove(one)
                    free.append(one.slot)
                    free.sort()
                    one.process.join()
                    if not signals.number:
                        _clear_status()
                        yield _ended(one)
        finally:
            _clear_status()
            told = {one.process for one in running} if signals.number else set()
            left = set(multiprocessing.active_children()) - others  # also one that was just being started
            for process in left - told:  # whoever asked for it is gone; a second signal would not let it save
                process.terminate()
            for process in left:
                process.join()
    if signals.number:
        raise Stopped(signals.number)


def _start(job: Job, slot: int, threads: int | None, environment: dict[str, str]) -> _Running:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(PRELOADED))
        _serve_despite_ctrl_c()
    call = job.function, job.args, os.getcwd(), {**os.environ, **environment}, job.log, threads
    process = context.Process(target=_enter, args=call, daemon=False)
    logged = job.log.stat().st_size if job.log.is_file() else 0
    try:
        process.start()
    except (EOFError, ConnectionError) as error:
        raise UserError(
            "the process from which the runs are forked has ended, as when memory runs out; give the same "
            "command again"
        ) from error
    return _Running(job, slot, process, time.monotonic(), logged)


def _serve_despite_ctrl_c() -> None:
    """Start the server process, if none runs, so that Ctrl-C, which it gets as well, does not end it.

    It ignores SIGINT, but not before it has imported the libraries, which takes seconds. So it, and what it
    forks, begins with SIGINT blocked. One that comes meanwhile is kept for this process, not lost.
    """
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # on its start it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enter(
    function: Callable[..., int],
    args: tuple[Any, ...],
    folder: str,
    environment: dict[str, str],
    log: Path,
    threads: int | None,
) -> None:
    """In the new process: a group, folder, environment and streams of its own; then the call."""
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # it was stopped while the server imported
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # else Ctrl-C would reach it twice: from the terminal, and from who waits for it
        multiprocessing.set_start_method("fork", force=True)  # for a loader's workers, as in any process
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores and blocks it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        mode = "w" if number else "r"
        setattr(sys, name, os.fdopen(number, mode, closefd=False, errors="backslashreplace"))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    try:
        sys.exit(exit_code_of(lambda: function(*args)))
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them


def _end_with_parent() -> None:
    """Stop as by SIGTERM if the process that waits for this one is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _ended(one: _Running) -> Ended:
    code = one.process.exitcode
    took = time.monotonic() - one.begun
    return Ended(one.job, code, took, "" if code == 0 else error_in(one.job.log, code, one.logged))


def error_in(log: Path, code: int, start: int = 0) -> str:
    """The last error of a job in one line.

    Args:
        log: Its output.
        code: Its exit code.
        start: The byte at which this attempt's output begins.
    """
    lines = _tail(log, start)
    mistakes = [line.removeprefix(MISTAKE) for line in lines if line.startswith(MISTAKE)]
    if code < 0:
        name = signal.Signals(-code).name
        return f"ended by {name}" + (", as when memory runs out" if -code == signal.SIGKILL else "")
    return one_line(mistakes[-1] if mistakes else lines[-1] if lines else f"exit code {code}")


def _tail(log: Path, start: int = 0) -> list[str]:
    """The last lines of a log that are not empty, from a byte on."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(start, os.fstat(file.fileno()).st_size - MOST_TAIL))
        lines = file.read().decode("utf-8", "replace").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return []


class _Forwarded:
    """Passes SIGTERM and SIGINT on to the jobs; the second one kills them.

    Attributes:
        number: The signal that came, 0 before.
    """

    def __init__(self, running: Sequence[_Running]) -> None:
        self.number = 0
        self._starting = False
        self._running = running
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """While a job is started, which waits for seconds if the server imports first: a signal ends that.

        A process that has come about meanwhile is ended by `run_jobs`.
        """
        self._starting = True
        try:
            yield
        finally:
            self._starting = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again, self.number = bool(self.number), number
        for one in list(self._running):
            with contextlib.suppress(OSError, AttributeError):
                one.process.kill() if again else os.kill(one.process.pid, signal.SIGTERM)
        if self._starting:
            self._starting = False
            raise Stopped(number)


def _show_status(running: Sequence[_Running]) -> None:
    """In a terminal: the newest line of what runs, so that one sees that something happens."""
    if not is_live(sys.stderr):
        return
    from shutil import get_terminal_size

    shown = []
    for one in running:
        lines = _tail(one.job.log, one.logged)
        shown.append(f"{one.job.name}: {one_line(lines[-1]) if lines else 'starting'}")
    line = " | ".join(shown)[: max(get_terminal_size().columns - 1, SHOWN_LETTERS)]
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()


def _clear_status() -> None:
    if is_live(sys.stderr):
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def places(jobs: int, devices: int, cores: int, asked: int | None) -> tuple[int, list[list[int]]]:
    """Threads of each job, and the devices that each place sees.

    Args:
        jobs: Jobs at a time.
        devices: The machine's GPUs; 0 on a CPU.
        cores: The machine's cores.
        asked: Threads that the user has set (OMP_NUM_THREADS); None if not.

    Raises:
        UserError: There are fewer devices or cores than jobs.
    """
    if devices and jobs > devices:
        raise UserError(
            f"expected --jobs of at most the {devices} GPUs here, found {jobs}; set --jobs={devices}"
        )
    if jobs > cores:
        raise UserError(
            f"expected --jobs of at most the {cores} cores here, found {jobs}; set --jobs={cores}"
        )
    each = devices // jobs
    seen = [list(range(place * each, (place + 1) * each)) for place in range(jobs)]
    most = max(1, cores // jobs)
    return min(most, asked) if asked else most, seen
