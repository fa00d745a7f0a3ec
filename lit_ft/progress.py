"""The progress bar: loss and samples a second, and no page of lines where nobody watches."""

import sys
import time
from typing import Any

from lightning.pytorch.callbacks import TQDMProgressBar

from lit_ft.on_its_way import OnItsWay

TERMINAL_SECONDS, FILE_SECONDS = 0.2, 15.0  # between two refreshes


class ReviewProgressBar(TQDMProgressBar):
    """Lightning's bar, refreshed by the clock, with the loss and the samples trained on a second."""

    def __init__(self) -> None:
        super().__init__()
        self._seconds = TERMINAL_SECONDS if sys.stdout.isatty() else FILE_SECONDS
        self._refreshed = 0.0
        self._num_samples = 0
        self._since = time.monotonic()
        self._coming: OnItsWay | None = None
        self._arrived: OnItsWay | None = None

    def _should_update(self, current: int, total: float) -> bool:
        # Lightning 2.6.6 counts batches (callbacks/progress/tqdm_progress.py); a log file of a fast model
        # would get thousands of bars, a slow model's none for minutes.
        now = time.monotonic()
        due = now - self._refreshed >= self._seconds or current == total
        if due:
            self._refreshed = now
        return due and self.is_enabled

    def on_train_start(self, *args: Any) -> None:
        """Forget the loss of another fit."""
        super().on_train_start(*args)
        self._coming = self._arrived = None

    def on_train_epoch_start(self, trainer: Any, *args: Any) -> None:
        """Start counting samples anew: validation is not part of the rate."""
        super().on_train_epoch_start(trainer, *args)
        self._num_samples, self._since = 0, time.monotonic()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """As at an epoch's start."""
        super().on_validation_end(trainer, pl_module)
        self._num_samples, self._since = 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch, then let Lightning draw."""
        self._follow(trainer)
        self._num_samples += len(batch["labels"]) * trainer.world_size
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        """What stands to the right of the bar."""
        shown = {}
        if self._arrived is not None:
            shown["loss"] = f"{self._arrived.wait().item():.3f}"
        if self._num_samples:
            shown["samples/s"] = f"{self._num_samples / max(time.monotonic() - self._since, 1e-9):.0f}"
        return shown

    def _follow(self, trainer: Any) -> None:
        # A bar that waited for a GPU's newest loss would have it idle with every refresh: it shows the newest
        # one that has arrived, a step or two old.
        if self._coming is None:
            loss = trainer.callback_metrics.get("train/loss")
            self._coming = None if loss is None else OnItsWay(loss)
        if self._coming is not None and self._coming.is_here():
            self._arrived, self._coming = self._coming, None
