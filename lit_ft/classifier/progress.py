"""What a fit shows while it runs: a bar on standard error, and a line per epoch or validation."""

import math
import time
from typing import Any

from lightning import Callback
from lightning.pytorch.callbacks import ProgressBar, Timer

from lit_ft.classifier.tracking import LossHistory
from lit_ft.console import say
from lit_ft.progress import RunProgress, clock, row
from lit_ft.report.tables import number
from lit_ft.speed.host import OnItsWay

FORWARD_SHARE = 1 / 3  # of a training step: the backward pass takes about twice as long as the forward pass


class RunBar(ProgressBar):
    """Lightning's progress bar as `RunProgress`, with the newest loss and the training texts per second."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._progress: RunProgress | None = None
        self._num_samples = 0
        self._since: float | None = None
        self._coming: OnItsWay | None = None
        self._arrived: OnItsWay | None = None

    def enable(self) -> None:
        """Show it."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing, as on all processes but 0."""
        self._enabled = False

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print a line above the bar."""
        say(sep.join(map(str, args)))

    def _open(self, *args: Any, **kwargs: Any) -> None:
        self._close()
        if self._enabled:
            self._progress = RunProgress(*args, **kwargs)

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    # ---- fit -------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the bar; in a resumed run it starts at the checkpoint's step."""
        self._coming = self._arrived = None
        self._restart()
        total, done = trainer.estimated_stepping_batches, trainer.global_step
        every, accumulated = _steps_between_validations(trainer), trainer.accumulate_grad_batches
        guess = FORWARD_SHARE * _batches(trainer.num_val_batches) / accumulated if every else 0.0
        self._open("training", int(total), done=done, every=every, guess=guess)

    def _restart(self) -> None:
        # Neither validation, nor the checkpoint after it, is part of the rate.
        self._num_samples, self._since = 0, None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock if it is stopped."""
        if self._since is None:
            self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        self._follow(trainer)
        self._num_samples += len(batch["labels"]) * trainer.world_size
        if self._progress is not None:
            self._progress.step(trainer.global_step, self.figures, _seconds_allowed(trainer))

    def figures(self) -> list[str]:
        """What is shown to the right of the bar."""
        shown = []
        if self._arrived is not None:
            shown.append(f"loss {self._arrived.wait().item():.3f}")
        if self._num_samples and self._since is not None:
            speed = self._num_samples / max(time.monotonic() - self._since, 1e-9)
            shown.append(f"{speed:,.0f} texts/s" if speed >= 10 else f"{speed:.1f} texts/s")
        return shown

    def _follow(self, trainer: Any) -> None:
        # Waiting for the newest loss would leave a GPU idle at every refresh. So the bar shows the newest one
        # that has arrived, which is a step or two old.
        if self._coming is None:
            loss = trainer.callback_metrics.get("train/loss")
            self._coming = None if loss is None else OnItsWay(loss)
        if self._coming is not None and self._coming.is_here():
            self._arrived, self._coming = self._coming, None

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Open a bar for the command `validate`."""
        if trainer.state.fn == "validate":
            self._open("validating", _batches(trainer.num_val_batches), unit="batch")

    def on_validation_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the batch, within a fit or by itself."""
        if self._progress is None:
            return
        if trainer.state.fn == "validate":
            self._progress.step(batch_idx + 1)
        else:
            self._progress.evaluating(batch_idx + 1, _batches(trainer.num_val_batches))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Go on with the training, or close the bar of `validate`."""
        self._restart()
        if trainer.state.fn == "validate":
            self._close()
        elif self._progress is not None:
            self._progress.evaluated()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the bar, so that the error starts on an empty line."""
        self._close()

    # ---- test and predict ------------------------------------------------------------------------

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the bar."""
        self._open("testing", _batches(trainer.num_test_batches), unit="batch")

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Open the bar."""
        self._open("predicting", _batches(trainer.num_predict_batches), unit="batch")

    def _count(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._progress is not None:
            self._progress.step(batch_idx + 1)

    on_test_batch_end = on_predict_batch_end = _count

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the bar."""
        self._close()

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the bar."""
        self._close()


def _batches(counts: Any) -> int:
    """The batches of all loaders of a kind; Lightning has a list, or one number."""
    return int(sum(counts)) if isinstance(counts, list) else int(counts)


def _steps_between_validations(trainer: Any) -> float | None:
    """Optimizer steps from one validation to the next, about; None if there are none."""
    batches = trainer.val_check_batch
    if not _batches(trainer.num_val_batches) or batches is None or not math.isfinite(batches):
        return None  # or the time decides
    if batches >= trainer.num_training_batches and trainer.check_val_every_n_epoch:
        batches = trainer.num_training_batches * trainer.check_val_every_n_epoch
    return math.ceil(batches / trainer.accumulate_grad_batches)


def _seconds_allowed(trainer: Any) -> float | None:
    """What `max_time` leaves to train."""
    left = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]
    return min((seconds for seconds in left if seconds is not None), default=None)


HEADS = {
    "loss": "val loss",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "mae": "MAE",
    "ece": "calib. error",
    "micro_f1": "micro F1",
    "subset_accuracy": "all right",
    "rmse": "RMSE",
    "r2": "R2",
    "spearman": "Spearman",
}
# By the kind of report; the second one is shown with its interval.
SHOWN = {
    "classifier": ("loss", "accuracy", "macro_f1"),
    "multi_label": ("loss", "micro_f1", "macro_f1"),
    "regression": ("loss", "mae", "r2"),
}
MAIN = 3  # the column of the second one


class EpochLines(Callback):
    """A line for each epoch, and for each validation within one: losses, metrics, time, whether it is best.

    It stands on standard output, and has nothing to do with `trainer.enable_progress_bar`.

    Args:
        history: The losses and metrics, which are up to date when this callback is called.
        monitor: The validation metric that chooses the best checkpoint.
        best_is_high: Whether a higher value of it is better.
    """

    def __init__(self, history: LossHistory, monitor: str, best_is_high: bool) -> None:
        self.history = history
        self.monitor = monitor
        self.best_is_high = best_is_high
        self._begun = time.monotonic()
        self._has_head = False
        self._main_width = 0  # of its column, once it has an interval
        self._digits: dict[str, int] = {}  # of each figure
        self._shown: tuple[str, ...] = ()
        self._waiting: dict[str, float] | None = None  # the validation of an epoch's end
        self._told_epoch = -1  # the last one of which a line tells

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock."""
        self._begun, self._has_head, self._waiting, self._told_epoch = time.monotonic(), False, None, -1
        self._shown = SHOWN[pl_module.task.report]
        # One less than in the table at the end: the interval is wider than the last digit.
        self._digits = {score.name: score.digits - 1 for score in pl_module.scores}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell of a validation within an epoch; that of its end waits for the epoch's training loss."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics = {tag: float(value) for tag, value in trainer.callback_metrics.items() if tag[:4] == "val/"}
        if _part_of_epoch(trainer) >= 1:
            self._waiting = metrics
        else:
            self._tell(trainer, trainer.current_epoch + _part_of_epoch(trainer), metrics)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Tell of the epoch, unless a validation within it was told and none took place at its end."""
        metrics, self._waiting = self._waiting, None
        if metrics is not None or self._told_epoch != trainer.current_epoch:
            self._tell(trainer, trainer.current_epoch + _part_of_epoch(trainer), metrics or {})

    def _tell(self, trainer: Any, epoch: float, metrics: dict[str, float]) -> None:
        ended = bool(self.history.train) and self.history.train[-1]["epoch"] == trainer.current_epoch + 1
        loss = self.history.train[-1]["loss"] if ended else self.history.open_mean(trainer)
        self._told_epoch = trainer.current_epoch
        extra = self.monitor.removeprefix("val/")
        names = [*self._shown, *([extra] if extra not in self._shown else [])]
        heads = ["epoch", "train loss", *(HEADS.get(name, name) for name in names), "elapsed"]
        cells = [f"{round(epoch, 2):g}", self._value("loss", loss)]
        cells += [self._value(name, metrics.get(f"val/{name}")) for name in names]
        cells.append(clock(time.monotonic() - self._begun))
        widths = [max(len(head), 6) for head in heads]
        main = self._shown[1]
        if f"val/{main}_low" in metrics:
            low, high = (self._value(main, metrics[f"val/{main}_{end}"]) for end in ("low", "high"))
            cells[MAIN] += f" ({low} to {high})"
            self._main_width = max(self._main_width, len("0.123 (0.123 to 0.123)"))
        widths[MAIN] = max(self._main_width, widths[MAIN])
        if not self._has_head:
            self._has_head = True
            say(row(heads, widths))
        say(row(cells, widths) + ("  best" if metrics and self._is_best(metrics) else ""))

    def _value(self, name: str, value: float | None) -> str:
        return number(value, self._digits[name])

    def _is_best(self, metrics: dict[str, float]) -> bool:
        """Whether the validation that was noted last is the best so far."""
        best = self.history.best(self.monitor, self.best_is_high)
        return best is self.history.validation[-1] and math.isfinite(metrics.get(self.monitor, math.nan))


def _part_of_epoch(trainer: Any) -> float:
    return trainer.fit_loop.epoch_loop.batch_progress.current.ready / trainer.num_training_batches
