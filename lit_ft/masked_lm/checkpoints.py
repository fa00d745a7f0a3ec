"""Writing the checkpoints of an `sft`: each is complete before an older one is removed."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft import runs
from lit_ft.console import warn
from lit_ft.errors import unwritable
from lit_ft.masked_lm.resume import (
    PREFIX,
    SUMS,
    flush_folder,
    flushed_sums,
    is_sealed,
    newest_checkpoint,
    step_of,
)
from lit_ft.reliability.checkpoints import SaveClock
from lit_ft.reliability.processes import largest


def save_whole(trainer: Any, save: Callable[[], None]) -> None:
    """Save a checkpoint. All processes call this.

    Args:
        trainer: The MaskedLMTrainer.
        save: transformers' own saving; here it must not remove old checkpoints.
    """
    args, step = trainer.args, trainer.state.global_step
    folder = Path(args.output_dir) / f"{PREFIX}{step}"
    if trainer.saved[0] is trainer.state and trainer.saved[1] == step:
        return  # a timed save at an epoch's last step, and again `save_strategy: epoch`
    if args.should_save:  # one of this run before it was resumed from an earlier step
        shutil.rmtree(folder, ignore_errors=True)
    trainer.window.gather(trainer.accelerator)  # the other processes wait here for the folder's removal
    limit, error = args.save_total_limit, None
    args.save_total_limit = None
    try:
        save()
    except Exception as raised:
        error = raised
    finally:
        args.save_total_limit = limit
    everywhere = args.device, args.world_size  # each process writes its own random state
    if whole := not largest(int(error is not None), *everywhere):
        try:
            if args.should_save:
                seal(folder)
        except Exception as raised:
            error = raised
        whole = not largest(int(error is not None), *everywhere)
    if whole:
        trainer.saved = (trainer.state, step)
        if args.should_save:
            remove_old(folder, limit, trainer.state.best_model_checkpoint)
        return
    if args.should_save:
        _discard(folder)
    if error is not None and (trainer.on_full_disk == "stop" or unwritable(error) is None):
        raise error


def seal(folder: Path) -> None:
    """Flush a folder's files to disk, then write their checksums, whole or not at all."""
    sums = flushed_sums(folder)
    flush_folder(folder)
    runs.write(folder / SUMS, json.dumps(sums, indent=2) + "\n")
    flush_folder(folder)
    flush_folder(folder.parent)


def remove_old(newest: Path, limit: int | None, best: str | None) -> None:
    """Remove the oldest checkpoints: transformers' rule, but by step.

    Args:
        newest: The one just saved. Those of later steps are from before a resume and are removed first.
        limit: The number to keep; None or 0 for all.
        best: One to keep besides the newest, whatever the limit.
    """
    kept = {newest.name, Path(best).name if best else newest.name}
    others = [path for path in newest.parent.glob(f"{PREFIX}*") if path.name not in kept and path.is_dir()]
    others.sort(key=lambda path: (step_of(path) <= step_of(newest), step_of(path)))
    if limit:
        for path in others[: max(0, len(others) + len(kept) - max(limit, len(kept)))]:
            shutil.rmtree(path, ignore_errors=True)


def _discard(path: Path) -> None:
    """Remove an incomplete checkpoint, because a full disk needs room, and say which one is left."""
    if not path.is_dir() or is_sealed(path):
        return
    shutil.rmtree(path, ignore_errors=True)
    good = newest_checkpoint(path.parent)
    left = f"the last good checkpoint is {good}" if good else f"there is none yet in {path.parent}"
    warn(f"{path} could not be written and is removed; {left}")


class SaveByClock(TrainerCallback):
    """Asks for a checkpoint every few minutes, at the end of a step; less often on a slow disk."""

    def __init__(self) -> None:
        self.clock = SaveClock()
        self._begun = time.monotonic()  # the end of the step, or of its evaluation

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.clock.restart()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save if any process's clock is due: all processes save at the same step."""
        self._begun = time.monotonic()
        due = largest(int(self.clock.is_due()), args.device, args.world_size)
        control.should_save = control.should_save or bool(due and args.save_strategy != "no")
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An evaluation comes before its step's checkpoint, and its time is not the checkpoint's."""
        self._begun = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restart the clock after any checkpoint."""
        self.clock.saved(self._begun)
