"""Checkpoint files are whole or not there: written beside their place, then renamed."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO

from lit_ft import runs
from lit_ft.__main__ import unwritable
from lit_ft.checkpoint_form import ADVICE, FORM, form_of
from lit_ft.console import warn
from lit_ft.errors import UserError, unusable
from lit_ft.flags import FullDiskPolicy

FULL = re.compile("space|quota", re.IGNORECASE)


class WholeCheckpointIO(TorchCheckpointIO):
    """Leaves the old checkpoint as it was until the new one is on the disk.

    Lightning 2.6.6 (fabric/utilities/cloud_io.py, `_atomic_save`) writes to the system's temporary folder
    and moves the file from there: on another file system that is a copy, and a full disk leaves a part of
    it in the old one's place.

    Args:
        on_full_disk: `stop` raises where a checkpoint cannot be written; `go_on` keeps the one before.
    """

    def __init__(self, on_full_disk: FullDiskPolicy = "stop") -> None:
        self.on_full_disk = on_full_disk

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Lightning reads it; one line where the file cannot be read."""
        with unusable(f"the checkpoint {path}", ADVICE):
            return super().load_checkpoint(path, *args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write, flush to the disk, rename; nothing stays of a write that fails."""
        if storage_options is not None or "://" in str(path):  # no place of the file system's
            return super().save_checkpoint(checkpoint, path, storage_options)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*"):  # of a process that was killed in this place
            leftover.unlink(missing_ok=True)
        try:
            with runs.written_whole(path) as file:
                torch.save({**checkpoint, FORM: form_of(checkpoint)}, file)
        except BaseException as error:
            problem = unwritable(error)
            if self.on_full_disk == "stop" or problem is None:
                raise
            left = "the one before stays" if path.is_file() else "there is none yet"
            warn(f"{runs.shown(path)} could not be written ({problem.partition(':')[0]}): {left}; going on")


def with_checkpoint_io(plugins: Any, on_full_disk: FullDiskPolicy = "stop") -> list[Any]:
    """The Trainer's `plugins` and ours; a CheckpointIO of the user's stays the only one."""
    given = plugins if isinstance(plugins, list) else [] if plugins is None else [plugins]
    has_own = any(isinstance(plugin, CheckpointIO) for plugin in given)
    return given if has_own else [*given, WholeCheckpointIO(on_full_disk)]


@contextlib.contextmanager
def disk_errors(run: Path) -> Iterator[None]:
    """Turns a full disk inside a fit into one `UserError` that says what is left to go on from."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        problem = unwritable(error)
        if problem is None:
            raise
        problem = problem.removesuffix(f", working in {Path.cwd()}")
        folder = run / runs.CHECKPOINTS
        saved = [path for path in folder.glob("*.ckpt") if runs.is_readable(path)]
        newest = max(saved, key=lambda path: path.stat().st_mtime, default=None)
        mend = "make room" if FULL.search(problem) else "mend that"
        what = f"no checkpoint was saved yet; {mend} and start again"
        if newest is not None:
            what = f"the last good checkpoint is {newest}; {mend} and go on with --ckpt_path {newest}"
        raise UserError(f"{problem}; the run's checkpoints are in {folder}, {what}") from error
