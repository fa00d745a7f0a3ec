"""Who owns a run: the one process that writes its folder, and the SLURM job that it belongs to."""

import contextlib
import hashlib
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from lit_ft import runs
from lit_ft.console import warn
from lit_ft.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK, JOB = ".lock", "slurm_job.json"
OF_A_FIT = ", or leave out --ckpt_path to start a new run"
PATIENCE_SECONDS = 2.0  # a process that was killed a moment ago may still be ending
_held: dict[int, Path] = {}  # this process's open lock files -> their paths

# ---- the process -----------------------------------------------------------------------------------------


def own(run: Path, else_: str = OF_A_FIT) -> None:
    """Lock a run folder for this process, until `release` or the process's end, however it ends.

    `flock`, not POSIX's `lockf`: the latter is lost as soon as anything in the process closes the file, and
    does not keep two runs of one process apart. The system drops either when a process dies. On NFS, Linux
    turns both into locks of the server, which all machines see. A forked child, such as a DataLoader worker,
    shares a flock: it closes the file at once (`_close_in_child`), so that the lock cannot outlive the run.

    Args:
        run: The folder.
        else_: What there is to do beside waiting for the other process, at the end of the error.

    Raises:
        UserError: Another process has locked it.
    """
    path, until = run / LOCK, time.monotonic() + PATIENCE_SECONDS
    while (file := _try(path)) is None:
        if time.monotonic() > until:
            raise UserError(f"{run} is being written by {_who(path)}; wait until it ends or stop it{else_}")
        time.sleep(0.1)
    _held[file] = path.absolute()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())


def release() -> None:
    """Unlock all run folders of this process and remove the lock files."""
    for file, path in list(_held.items()):
        path.unlink(missing_ok=True)  # first: `_try` notices if it has opened the file in between
        del _held[file]
        os.close(file)


def give_up(run: Path) -> None:
    """Release a run that failed, and remove its folder if nothing was written yet."""
    release()
    if not run.is_dir():
        return
    if {path.name for path in run.iterdir()} <= {JOB, runs.BASELINE}:
        (run / JOB).unlink(missing_ok=True)
        shutil.rmtree(run / runs.BASELINE, ignore_errors=True)
    runs.discard_if_empty(run)


def owner(run: Path) -> str | None:
    """The other process that is writing a run, in words; None if there is none or it cannot be known."""
    path = run / LOCK
    if fcntl is None or path.absolute() in _held.values():
        return None
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _who(path)
        finally:
            os.close(file)
    return None


def _try(path: Path) -> int | None:
    """The lock file, open and locked; None if another process has it."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if fcntl is None:
                raise OSError("not on this system")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return None
        except OSError as error:  # ENOLCK, ENOTSUP, ENOSYS ...: each file system has its own
            reason = error.strerror or error
            warn(
                f"{path.parent}: this file system has no locks ({reason}), so nothing keeps a second run "
                "from writing this folder; make sure that none is started"
            )
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)  # its owner has just ended and removed it: there may be a new one by now


def _who(path: Path) -> str:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if written := path.read_text(encoding="utf-8").strip():
            return written
    return "another process"


def _close_in_child() -> None:
    for file in _held:
        with contextlib.suppress(OSError):
            os.close(file)  # not LOCK_UN, which would unlock it for the parent, too
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)

# ---- the SLURM job ---------------------------------------------------------------------------------------


def job() -> str | None:
    """The SLURM job of this process: the same after a requeue, different for each array index."""
    array, index = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID") or None


def is_requeued() -> bool:
    """Whether SLURM runs this job again."""
    count = os.environ.get("SLURM_RESTART_COUNT", "")
    return count.isdecimal() and int(count) > 0 and job() is not None


def fingerprint(settings: dict[str, Any]) -> str:
    """A hash of the settings that must not change when a run is resumed."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def note_job(run: Path, settings: str) -> None:
    """Note the SLURM job, if there is one, that a run belongs to from now on.

    Args:
        run: The run folder.
        settings: The settings' fingerprint: a job may make several runs of one name.
    """
    if (number := job()) is not None:
        runs.write(run / JOB, json.dumps({"job": number, "settings": settings}, indent=2) + "\n")


def runs_of_job(name: str, settings: str) -> list[Path]:
    """The runs of a name that this job made with these settings, newest first."""
    found = []
    for run in runs.versions(name):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if json.loads((run / JOB).read_text(encoding="utf-8")) == {"job": job(), "settings": settings}:
                found.append(run)
    return found


def nothing_to_resume(name: str) -> str:
    """The line of a requeued job that starts fresh."""
    return f"no checkpoint of SLURM job {job()} with these settings in {runs.RUNS / name}: starting fresh"
