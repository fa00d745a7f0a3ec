"""A new process without its price: forked from one that has imported the libraries and done nothing else.

Importing Lightning, transformers and TRL takes seconds of a core, most of what a short run takes. A test of
a process that is killed, stopped, or resumes another's run needs a new process, not new imports. What starts
a command by its real command line (`run_cli` of conftest.py, the launchers) pays them.
"""

import atexit
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from conftest import TEST_PATHS, free_port

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lit_ft.commands.fit", "lit_ft.masked_lm.run", "tensorboard.compat"])


class Ended(NamedTuple):
    """What a process left: its exit code (minus the signal's number where one ended it), what it wrote."""

    code: int
    out: str
    err: str


class Fresh:
    """A running process; a context that kills it."""

    def __init__(self, function: Callable[..., Any], *args: Any, env: dict[str, str] | None = None) -> None:
        """Call `function(*args)`, defined at the top of a module, here, with `env` beside this environment.

        What it returns, or the code of a SystemExit, is the exit code.
        """
        self.folder = TemporaryDirectory()
        self.streams = [Path(self.folder.name, name) for name in ("out", "err")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        call = (function, args, os.getcwd(), environment, self.streams)
        self.process = SERVER.Process(target=enter, args=call, daemon=False)
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = TEST_PATHS  # of the server, which the first call starts
        self.process.start()
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before

    def end(self, timeout: float = 240) -> Ended:
        """Wait for its end."""
        self.process.join(timeout)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
        words = [path.read_text() if path.exists() else "" for path in self.streams]
        assert code is not None, f"no end within {timeout} s: {words[1][-3000:]}"
        self.folder.cleanup()
        return Ended(code, *words)


def enter(
    function: Callable[..., Any], args: tuple, cwd: str, env: dict[str, str], streams: list[Path]
) -> None:
    """In the new process: its folder, environment and streams; then the call."""
    multiprocessing.set_start_method("fork", force=True)  # for a loader's workers, as in any process
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    try:
        sys.exit(function(*args))
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends a process without them


def command(args: list[str]) -> int:
    """`python -m lit_ft ARGS`."""
    from lit_ft.__main__ import main

    sys.argv = ["lit_ft", *args]
    return main(args)


def run_fresh(*args: str, **env: str) -> Ended:
    """`python -m lit_ft ARGS` in a new process, in this folder."""
    return Fresh(command, list(args), env=env).end()


def ranks(count: int) -> list[dict[str, str]]:
    """The environment of each of `count` processes of one run, as torchrun sets it."""
    if count == 1:
        return [{}]
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    shared |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
