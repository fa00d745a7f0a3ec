"""What a fit records while it trains: the loss history, the speed, the logger."""

import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from lit_ft import runs
from lit_ft.machine import speed_figures
from lit_ft.report.tensorboard import wait_for_turn


def _widest(device: torch.device) -> torch.dtype:
    """The widest float of a device: Apple's GPUs have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class LossHistory(Callback):
    """Keeps the mean training loss of each epoch and the metrics of each validation.

    Attributes:
        train: One `{"epoch", "loss"}` per finished epoch; `epoch` counts from 1.
        validation: One `{"epoch", "step", "val/...": ...}` per validation; `epoch` may be a fraction.
    """

    def __init__(self) -> None:
        self.train: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self._sum: torch.Tensor | float = 0.0  # of losses, weighted by samples
        self._num_samples: torch.Tensor | int = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch's loss on its device, so that nothing waits for it.

        A non-finite one belongs to a skipped step (nonfinite.py) and is skipped here, too.
        """
        # Lightning passes the loss divided by the accumulation (loops/optimization/automatic.py).
        loss = outputs["loss"].to(_widest(outputs["loss"].device)) * trainer.accumulate_grad_batches
        num_samples = loss.isfinite() * len(batch["labels"])
        self._sum = self._sum + loss.nan_to_num(posinf=0, neginf=0) * num_samples
        self._num_samples = self._num_samples + num_samples

    def _totals(self, trainer: Any) -> tuple[float, float]:
        """The sum of losses and the number of samples, over all processes."""
        totals = torch.tensor([float(self._sum), float(self._num_samples)], dtype=torch.float64)
        if trainer.world_size > 1:
            totals = trainer.strategy.reduce(totals.to(trainer.strategy.root_device), reduce_op="sum")
        return float(totals[0]), float(totals[1])

    def open_mean(self, trainer: Any) -> float | None:
        """The mean training loss of the open epoch so far. All processes call this."""
        total, num_samples = self._totals(trainer)
        return total / num_samples if num_samples else None

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the epoch."""
        total, num_samples = self._totals(trainer)
        if num_samples:
            self.train.append({"epoch": trainer.current_epoch + 1, "loss": total / num_samples})
            for logger in trainer.loggers:
                logger.log_metrics({"train/epoch_loss": total / num_samples}, step=trainer.global_step)
        self._sum, self._num_samples = 0.0, 0

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the metrics of a validation inside a fit."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        done = (trainer.fit_loop.epoch_loop.batch_progress.current.ready) / trainer.num_training_batches
        self.validation.append({"epoch": trainer.current_epoch + done, "step": trainer.global_step, **values})

    def best(self, monitor: str, is_high: bool) -> dict[str, float] | None:
        """The best validation so far; among equal ones the first, which ModelCheckpoint keeps.

        Args:
            monitor: The tag that it is chosen by; validations without it do not count.
            is_high: Whether a higher value is better.
        """
        points = [point for point in self.validation if monitor in point]
        points = [point for point in points if math.isfinite(point[monitor])] or points  # others are worst
        sign = -1 if is_high else 1
        return min(points, key=lambda point: sign * point[monitor], default=None)

    def state_dict(self) -> dict[str, Any]:
        """Everything as plain values; of the open epoch only this process's part."""
        return {
            "train": self.train,
            "validation": self.validation,
            "sum": float(self._sum),
            "num_samples": int(self._num_samples),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the history."""
        self.train, self.validation = list(state_dict["train"]), list(state_dict["validation"])
        self._sum, self._num_samples = state_dict["sum"], state_dict["num_samples"]


COUNTS = ("samples", "tokens", "computed_tokens")


def _speed(*counts: Any) -> dict[str, float]:
    """`speed_figures` under their tags."""
    return {f"train/{name}": value for name, value in speed_figures(*counts).items()}


class Throughput(Callback):
    """Counts samples, tokens and seconds of the training steps, without validation and checkpoints.

    The token count stays on the batch's device until a point is logged, so that nothing waits for it.
    A resumed run continues all counts.

    Attributes:
        totals: `samples`, `tokens` (real ones), `computed_tokens` (with padding) and `seconds` of the run so
            far; over all processes once training has ended.
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = dict.fromkeys((*COUNTS, "seconds"), 0)
        self._window: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        self._seconds = 0.0  # of the window
        self._since: float | None = None
        self._device: str | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock if it is stopped."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log the window's figures when Lightning logs its own."""
        mask = batch["attention_mask"]
        computed = pl_module.step_tokens or mask.numel()
        for name, count in zip(COUNTS, (len(mask), mask.sum(), computed), strict=True):
            self._window[name] = self._window[name] + count
        now = time.perf_counter()
        self._seconds += now - (self._since or now)
        self._since = now
        steps, every = trainer.global_step, trainer.log_every_n_steps  # 0: Lightning logs no steps
        if steps and every and steps % every == 0 and not trainer.fit_loop._should_accumulate():
            self._close_window(trainer, pl_module)

    def _close_window(self, trainer: Any, pl_module: Any) -> None:
        counts = (int(self._window[name]) * trainer.world_size for name in COUNTS)
        figures = _speed(self._seconds, *counts, trainer.strategy.root_device.type)
        for logger in trainer.loggers:
            # As Lightning does: the steps before the batch. A resumed run hides what comes after.
            logger.log_metrics(figures, step=trainer.global_step - 1)
        self._add_window()

    def _add_window(self) -> None:
        for name in COUNTS:
            self.totals[name] += int(self._window[name])
        self.totals["seconds"] += self._seconds
        self._window, self._seconds = dict.fromkeys(COUNTS, 0), 0.0

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock."""
        self._since = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Stop the clock, also for a checkpoint between two validations."""
        self._since = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Sum up over all processes."""
        self._device = trainer.strategy.root_device.type
        self._add_window()
        if trainer.world_size > 1:
            counts = torch.tensor([self.totals[name] for name in COUNTS], dtype=torch.float64)
            counts = trainer.strategy.reduce(counts.to(trainer.strategy.root_device), reduce_op="sum")
            self.totals |= dict(zip(COUNTS, counts.tolist(), strict=True))

    def figures(self) -> dict[str, float]:
        """The run's figures under their tags, for `metrics.json`."""
        total = self.totals
        return {
            "train/seconds": total["seconds"],
            "train/samples": int(total["samples"]),
            "train/tokens": int(total["tokens"]),
            **_speed(total["seconds"], *(total[name] for name in COUNTS), self._device),
        }

    def state_dict(self) -> dict[str, Any]:
        """The counts, as plain values."""
        window = [int(self._window[name]) for name in COUNTS]
        return {"totals": self.totals, "window": window, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.totals = dict(state_dict["totals"])
        self._window = dict(zip(COUNTS, state_dict["window"], strict=True))
        self._seconds = state_dict["seconds"]


class RunLogger(TensorBoardLogger):
    """TensorBoard events in the run folder; no `hparams.yaml`, because `config.yaml` holds every setting.

    Args:
        run: The run folder.
        checkpoint: The checkpoint that the run resumes from; TensorBoard hides what was logged after it.
    """

    def __init__(self, run: Path, checkpoint: dict[str, Any] | None = None) -> None:
        purge_step = None
        if checkpoint is not None:
            states = checkpoint["callbacks"].items()
            history: dict[str, Any] = next((s for key, s in states if key.startswith("LossHistory")), {})
            # Points of the training carry the step before. An epoch's loss carries the step itself, and was
            # logged before the checkpoint only if no epoch was open: at the end of training.
            purge_step = checkpoint["global_step"] + (history.get("num_samples") == 0)
            wait_for_turn(run)
        name = run.parent.name
        super().__init__(run.parent.parent, name, run.name, default_hp_metric=False, purge_step=purge_step)

    def save(self) -> None:
        """Flush pending events."""
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Flush pending events; if a run fails on a full disk, the run's error is shown, not the flush's."""
        try:
            if self._experiment is not None:
                self.save()
        except OSError:
            if status == "success":
                raise


def loggers(given: Any, run: Path, checkpoint: dict[str, Any] | None) -> list[Logger]:
    """The run's own logger and those of the user; none at all for false.

    Args:
        given: `trainer.logger`: true or false, or one or several loggers.
        run: The run folder.
        checkpoint: The checkpoint that the run resumes from.
    """
    if given is False:
        return []
    beside = [] if given in (None, True) else [given] if isinstance(given, Logger) else list(given)
    return [RunLogger(run, checkpoint), *beside]


def take_back(run: Path) -> None:
    """Remove a run folder in which nothing was trained: at most config, baselines and an empty event file."""
    for path in run.iterdir():
        if path.name == runs.CONFIG or path.name.startswith("events.out.tfevents."):
            path.unlink()
    shutil.rmtree(run / runs.BASELINE, ignore_errors=True)
    runs.discard_if_empty(run)
