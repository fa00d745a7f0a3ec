"""One run of `repeat` or `search`, in a process of its own: `fit` into a given folder, then `test`."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from lightning import Callback

from lit_ft import runs
from lit_ft.commands import fit
from lit_ft.console import say, warn
from lit_ft.errors import UserError
from lit_ft.reliability import run_owner
from lit_ft.report.repeat_facts import HEADLINES
from lit_ft.report.scores import SPLITS, scores_of_run
from lit_ft.report.tables import number
from lit_ft.settings.flags import Kept

PATIENCE_SECONDS = 300.0  # for a process that was asked to stop, and is still saving


def fit_and_test(
    args: list[str], run: Path, measured: Sequence[str], callbacks: Sequence[Callback] = ()
) -> int:
    """Train a run in this folder, from its last checkpoint if it has one, and measure it.

    What was done before is not done again.

    Args:
        args: Flags of `fit`, with every config resolved to a file.
        run: The run folder.
        measured: Prefixes that `test` measures, such as `fold` and `test`; none for no `test`.
        callbacks: Beside those of the settings.
    """
    _wait_for_owner(run)
    if "val" in missing(run, measured):
        checkpoint, damaged = runs.find_checkpoint(run.name, "last", among=[run])
        for path in damaged:
            warn(f"{path} is damaged or cut off, and skipped")
        if checkpoint is None and run.is_dir():
            shutil.rmtree(run)  # stopped before its first checkpoint, with the beginning of its curves there
        given = args if checkpoint is None else [*args, f"--ckpt_path={checkpoint}"]
        sys.argv[1:] = ["fit", *given]  # what Lightning starts the processes of further devices with
        with _processes_of_its_own():
            fit.main("fit", given, run, callbacks)
    if missing(run, measured):
        found = [path for which in ("best", "last") for path in runs.checkpoints_of(run, which)]
        given = [*args, f"--ckpt_path={(found or [run / runs.CHECKPOINTS / 'best.ckpt'])[0]}"]
        sys.argv[1:] = ["test", *given]
        say("")
        with _processes_of_its_own():
            fit.main("test", given)
    return 0


@contextlib.contextmanager
def _processes_of_its_own() -> Iterator[None]:
    """Forget the processes of further devices, which have ended with the command that started them.

    Lightning 2.6.6 leaves their group and its variables, LOCAL_RANK and others, to the process: a second
    trainer there takes them for running, and waits for them.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def missing(run: Path, measured: Sequence[str]) -> list[str]:
    """The prefixes that a run was not measured on yet; `val` first if it has to be fitted.

    A run without the file of what it said of each text counts as not measured: the figures are of those
    files. If its checkpoints are gone, too, nothing can measure it but another fit.

    Args:
        run: The run folder.
        measured: Prefixes, such as `fold` and `test`.
    """
    if not (run / runs.REPORT).is_file():
        return ["val", *measured]
    evaluations = runs.read_facts(run).get("evaluations", {})
    found = [
        prefix
        for prefix in measured
        if prefix not in evaluations or not (run / runs.PER_TEXT[prefix]).is_file()
    ]
    can_measure = any(runs.checkpoints_of(run, "last"))  # or best
    return found if can_measure or not found else ["val", *found]


def reached(run: Path, measured: tuple[str, ...]) -> str:
    """The headline of a run on each split that it was measured on, such as `accuracy 0.671 (fold)`."""
    metrics, facts = runs.read_metrics(run), runs.read_facts(run)
    headline = HEADLINES[facts["kind"]].score
    score = next(score for score in scores_of_run(facts) if score.name == headline)
    prefixes = measured or ("val",)
    return f"{score.words} " + ", ".join(
        f"{number(metrics.get(f'{prefix}/{score.name}'), min(score.digits, 3))} ({SPLITS[prefix]})"
        for prefix in prefixes
    )


def forget(run: Path, keep: Kept) -> None:
    """Remove what is not kept of a run that has ended: its `config.yaml` makes it again."""
    if keep != "all":
        shutil.rmtree(run / runs.CHECKPOINTS, ignore_errors=True)
    if keep == "figures":
        shutil.rmtree(run / runs.MODEL, ignore_errors=True)


def _wait_for_owner(run: Path) -> None:
    """Wait until a process that was stopped a moment ago has let go of the folder."""
    until, told = time.monotonic() + PATIENCE_SECONDS, ""
    while run.is_dir() and (other := run_owner.owner(run)) is not None:
        if time.monotonic() > until:
            raise UserError(f"{run} is being written by {other}; wait until it ends or stop it")
        if told != (told := f"waiting for {other}, which is writing {run}"):
            say(told)
        time.sleep(1.0)
