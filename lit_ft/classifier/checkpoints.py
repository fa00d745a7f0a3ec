"""Writing the checkpoints of a fit: which ones, whole or not at all, and what is in them."""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.fabric.plugins import CheckpointIO, TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

from lit_ft import runs
from lit_ft.classifier.optim import num_training_steps, resumes_exactly
from lit_ft.classifier.resume import ADVICE
from lit_ft.classifier.tracking import LossHistory
from lit_ft.console import say, warn
from lit_ft.errors import UserError, unusable, unwritable
from lit_ft.reliability.checkpoints import SaveClock
from lit_ft.settings.flags import FullDiskPolicy


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that still finds its file after the run folder was moved.

    Args:
        folder: The run's checkpoint folder.
        name: `best` or `last`.
        monitor: The validation figure that chooses; None keeps the newest.
        mode: `min` or `max`: which value of that figure is better.
    """

    def __init__(self, folder: Path, name: str, monitor: str | None = None, mode: str = "min") -> None:
        self.path = folder / f"{name}.ckpt"
        super().__init__(
            folder,
            name,
            monitor=monitor,
            mode=mode,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning stores absolute paths, and forgets the best score if the folder has a different one."""
        best = Path(self.dirpath or "") / Path(state_dict["best_model_path"]).name
        if best.is_file():
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            scores = state_dict["best_k_models"].values()
            state_dict = {**state_dict, **here, "best_k_models": {str(best): score for score in scores}}
        super().load_state_dict(state_dict)


class LastCheckpoint(RunCheckpoint):
    """`last.ckpt`: saved at each validation, and every few minutes in between.

    Not ModelCheckpoint's `train_time_interval`: it replaces the saving at validations, and would save in
    the middle of an accumulation window and right before a validation, from where no run resumes exactly.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "last")
        self.clock = SaveClock()
        self.saved_step = -1  # of the last `save`

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self.clock.restart()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a save is due and a run can resume exactly from here."""
        if trainer.fast_dev_run or not resumes_exactly(trainer):
            return
        # When a callback stops the run, it may be resumed from there; a validation would save anyway.
        due = self.clock.is_due() or (trainer.should_stop and trainer.fit_loop._can_stop_early)
        if trainer.world_size > 1:  # the clocks differ, and saving is done by all processes
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due:
            self.save(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save, as any ModelCheckpoint does, and restart the clock."""
        super().on_validation_end(trainer, pl_module)
        self.clock.restart()

    def save(self, trainer: Any) -> None:
        """Save now. All processes call this."""
        begun = time.monotonic()
        self.saved_step = trainer.global_step
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        self.clock.saved(begun)


FULL = re.compile("space|quota", re.IGNORECASE)


class WholeCheckpointIO(TorchCheckpointIO):
    """Keeps the old checkpoint until the new one is on disk.

    Lightning 2.6.6 (fabric/utilities/cloud_io.py, `_atomic_save`) writes to the system's temporary folder
    and moves the file from there: on another file system that is a copy, and a full disk leaves a part of
    it in place of the old one.

    Args:
        on_full_disk: What to do if a checkpoint cannot be written: `stop` raises, `go_on` keeps the old one.
    """

    def __init__(self, on_full_disk: FullDiskPolicy = "stop") -> None:
        self.on_full_disk = on_full_disk

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Lightning loads it; one line if the file is unusable."""
        with unusable(f"the checkpoint {path}", ADVICE):
            return super().load_checkpoint(path, *args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write, flush to disk, rename; a write that fails leaves nothing behind."""
        if storage_options is not None or "://" in str(path):  # not a path of the file system
            return super().save_checkpoint(checkpoint, path, storage_options)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*"):  # of a process that was killed while saving
            leftover.unlink(missing_ok=True)
        try:
            with runs.written_whole(path) as file:
                torch.save(checkpoint, file)
        except BaseException as error:
            problem = unwritable(error)
            if self.on_full_disk == "stop" or problem is None:
                raise
            left = "the previous one stays" if path.is_file() else "there is none yet"
            reason = problem.partition(":")[0]
            warn(f"{runs.shown(path)} could not be written ({reason}): {left}; the run continues")


def with_checkpoint_io(plugins: Any, on_full_disk: FullDiskPolicy = "stop") -> list[Any]:
    """The Trainer's `plugins` and our CheckpointIO, unless the user gave one."""
    given = plugins if isinstance(plugins, list) else [] if plugins is None else [plugins]
    has_own = any(isinstance(plugin, CheckpointIO) for plugin in given)
    return given if has_own else [*given, WholeCheckpointIO(on_full_disk)]


@contextlib.contextmanager
def disk_errors(run: Path) -> Iterator[None]:
    """Turns a full disk inside a fit into one `UserError` that says from where the run can be resumed."""
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
        mend = "make room" if FULL.search(problem) else "correct that"
        what = f"no checkpoint was saved yet; {mend} and start again"
        if newest is not None:
            what = f"the last good checkpoint is {newest}; {mend} and resume with --ckpt_path {newest}"
        raise UserError(f"{problem}; the run's checkpoints are in {folder}, {what}") from error


class StepSeed(Callback):
    """Seeds the random numbers of each training batch (dropout) from the seed and the batch's place.

    Nothing has to be saved, every process gets its own numbers, and a resumed run draws the same ones.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed before the forward pass."""
        place = (self.seed * 1_000_003 + trainer.current_epoch) * 1_000_003 + batch_idx
        torch.manual_seed((place * 1009 + trainer.global_rank) % 2**63)


class RunSettings(Callback):
    """Keeps the run's settings in `config.yaml` and in each checkpoint, which then documents itself.

    Args:
        settings: `data`, `model`, `trainer` and `seed_everything`, as plain values.
        config: The resolved config as YAML.
        path: The `config.yaml` to write.
    """

    def __init__(self, settings: dict[str, Any], config: str, path: Path) -> None:
        self.settings = settings
        self.config = config
        self.path = path

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write the config, now that all checks have passed."""
        if trainer.is_global_zero:
            runs.write(self.path, self.config)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the key `settings`."""
        checkpoint["settings"] = self.settings


class EarlyEnd(Callback):
    """Has a run that a callback stopped before its schedule's end stop there again when it is resumed.

    Lightning 2.6.6 saves neither `should_stop` nor the figures that callbacks read. At the end of an epoch,
    which comes after its last checkpoint, the callbacks of a resumed run would lack them.

    Give it after the user's callbacks.

    Args:
        callbacks: The user's callbacks.
        history: The run's history.
        same: Whether the callbacks and the time limit are those that the run began with; otherwise they
            decide again.
    """

    def __init__(self, callbacks: Sequence[Callback], history: LossHistory, same: bool) -> None:
        self.stopping = [c for c in callbacks if isinstance(c, (EarlyStopping, Timer))]
        self.history = history
        self.same = same
        self._patience = {c: c.patience for c in callbacks if isinstance(c, EarlyStopping)}
        self._then: dict[str, Any] = {}
        self._asked = False  # whether a callback asked to stop
        self._ended = False  # whether the run had stopped before this process began
        self._words = ""

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the figures, and whether the run stops here."""
        figures = {name: value.detach().cpu().clone() for name, value in trainer.callback_metrics.items()}
        state = {"figures": figures, "stopped": self._asked or trainer.should_stop}
        checkpoint["callbacks"][self.state_key] = state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until training starts."""
        self._then = state_dict

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Find out whether the run has stopped; `should_stop` waits, or the epoch's end would be skipped."""
        for callback, patience in self._patience.items():
            callback.patience = patience  # the present setting; Lightning restores the checkpoint's
        self._ended = trainer.should_stop or (self.same and bool(self._then.get("stopped")))
        trainer.should_stop = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Restore the figures; if the run has stopped, stop it in the same way."""
        trainer._logger_connector._callback_metrics.update(
            {name: value.to(pl_module.device) for name, value in self._then.get("figures", {}).items()}
        )
        if self._ended:
            self._asked = trainer.should_stop = True
            if trainer.fit_loop._can_stop_early:  # then Lightning leaves the loop at once
                self.history.on_train_epoch_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let an accumulation window finish first: no checkpoint holds its gradients."""
        self._asked = self._asked or trainer.should_stop
        trainer.should_stop = self._asked and not trainer.fit_loop._should_accumulate()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The same after a validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.on_train_batch_end(trainer, pl_module, None, None, 0)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Prepare the line for `tell`."""
        step, total = trainer.global_step, num_training_steps(trainer)
        if not trainer.should_stop or step >= total:
            return
        by, rate = self._by(), trainer.optimizers[0].param_groups[0]["lr"]
        warm_up = ", in its warm-up" if step < int(total * pl_module.hparams["warmup_share"]) else ""
        self._words = (
            f"stopped at step {step} of {total} by {by}: the learning rate is at {rate:.3g}{warm_up}, "
            f"and not yet 0; --trainer.max_steps={step} would end its schedule there"
        )
        if self._ended:
            self._words += "; nothing was left to train: to continue, change or remove what stopped it"

    def tell(self) -> None:
        """Say where and by what the run stopped; a curve alone would not show it."""
        if self._words:
            say(self._words)

    def _by(self) -> str:
        for callback in self.stopping:
            if isinstance(callback, Timer):
                left = callback.time_remaining()
                if left is not None and left <= 0:
                    return "the time limit (trainer.max_time or a Timer)"
            elif callback.stopping_reason_message:
                return (
                    f"EarlyStopping ({callback.stopping_reason_message.split(' Signaling')[0].rstrip('.')})"
                )
        return "a callback"
