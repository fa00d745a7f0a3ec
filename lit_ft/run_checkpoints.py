"""The two checkpoints of a fit: `best.ckpt` of a validation, `last.ckpt` also by the clock."""

import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from lit_ft.save_clock import SaveClock
from lit_ft.schedule import resumes_exactly


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that still knows its file when the run folder was moved.

    Args:
        folder: The run's checkpoints.
        name: `best` or `last`.
        monitor: The validation figure that chooses; None keeps the newest.
        mode: `min` or `max`, which of that figure is better.
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
        """Lightning stores absolute paths, and forgets the best score where the folder has another one."""
        best = Path(self.dirpath or "") / Path(state_dict["best_model_path"]).name
        if best.is_file():
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            scores = state_dict["best_k_models"].values()
            state_dict = {**state_dict, **here, "best_k_models": {str(best): score for score in scores}}
        super().load_state_dict(state_dict)


class LastCheckpoint(RunCheckpoint):
    """`last.ckpt`: renewed at each validation, and between two by the clock.

    Not ModelCheckpoint's `train_time_interval`: it replaces the saving at validations, and would save in
    the middle of an accumulation window and right before a validation, where nothing resumes exactly.

    Args:
        folder: The run's checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "last")
        self.clock = SaveClock()
        self.saved_step = -1  # by `save`

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self.clock.restart()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time, and the place is one to go on from."""
        if trainer.fast_dev_run or not resumes_exactly(trainer):
            return
        # A callback's stop is where the run may go on one day; with a validation the file is renewed there.
        due = self.clock.is_due() or (trainer.should_stop and trainer.fit_loop._can_stop_early)
        if trainer.world_size > 1:  # the clocks differ, and saving is done by all processes
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due:
            self.save(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save, as any ModelCheckpoint does; the clock begins anew."""
        super().on_validation_end(trainer, pl_module)
        self.clock.restart()

    def save(self, trainer: Any) -> None:
        """Renew the file now. All processes call this."""
        begun = time.monotonic()
        self.saved_step = trainer.global_step
        self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        self.clock.saved(begun)
