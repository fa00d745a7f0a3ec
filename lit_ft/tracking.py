"""What a fit records while it trains: the history, two checkpoints, speed, the dashboard."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from lit_ft import runs
from lit_ft.dashboard import Dashboard
from lit_ft.errors import UserError
from lit_ft.event_files import wait_for_turn
from lit_ft.history import LossHistory
from lit_ft.metrics import HIGHER_IS_BETTER, ORDERED, SCALARS
from lit_ft.preempt import Preemption
from lit_ft.resume import EarlyEnd
from lit_ft.run_checkpoints import LastCheckpoint, RunCheckpoint
from lit_ft.skips import NonFinitePolicy
from lit_ft.soundness import FiniteSteps
from lit_ft.throughput import Throughput


class RunLogger(TensorBoardLogger):
    """TensorBoard events in the run folder, and no `hparams.yaml`: `config.yaml` holds every setting.

    Args:
        run: The run folder.
        checkpoint: That the run goes on from: TensorBoard hides what was logged after it.
    """

    def __init__(self, run: Path, checkpoint: dict[str, Any] | None = None) -> None:
        purge_step = None
        if checkpoint is not None:
            states = checkpoint["callbacks"].items()
            history: dict[str, Any] = next((s for key, s in states if key.startswith("LossHistory")), {})
            # Points of the training have the step before; an epoch's loss has the step itself, and was
            # logged before the checkpoint only where no epoch was open any more: after the training's end.
            purge_step = checkpoint["global_step"] + (history.get("num_samples") == 0)
            wait_for_turn(run)
        name = run.parent.name
        super().__init__(run.parent.parent, name, run.name, default_hp_metric=False, purge_step=purge_step)

    def save(self) -> None:
        """Write what is waiting."""
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Write what is waiting; where a run fails on a full disk, that error is told, not the file's own."""
        try:
            if self._experiment is not None:
                self.save()
        except OSError:
            if status == "success":
                raise


def loggers(given: Any, run: Path, checkpoint: dict[str, Any] | None) -> list[Logger]:
    """The run's own logger and those that the user brings along beside it; none at all for false.

    Args:
        given: `trainer.logger`: true and false, or one or several loggers.
        run: The run folder.
        checkpoint: That the run goes on from.
    """
    if given is False:
        return []
    beside = [] if given in (None, True) else [given] if isinstance(given, Logger) else list(given)
    return [RunLogger(run, checkpoint), *beside]


def take_back(run: Path) -> None:
    """Remove a run folder in which nothing was trained: it may hold its config and an empty event file."""
    for path in run.iterdir():
        if path.name == runs.CONFIG or path.name.startswith("events.out.tfevents."):
            path.unlink()
    runs.discard_if_empty(run)


class Tracking:
    """The history, the speed, the dashboard, the two checkpoints of one fit, and what stops it.

    Args:
        run: The run folder.
        monitor: The validation figure that chooses the best checkpoint.
        settings: The run's, as plain nested values.
        command: The command line that was given.
        on_nonfinite: `stop` or `skip`, where a step's loss or gradient is no number.
        ordered: Whether the labels have an order.
        callbacks: The user's.
        checkpoint: That the run goes on from.
    """

    def __init__(
        self,
        run: Path,
        monitor: str,
        settings: dict[str, Any],
        command: str,
        on_nonfinite: NonFinitePolicy,
        ordered: bool = True,
        callbacks: Sequence[Callback] = (),
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        known = [f"val/{name}" for name in SCALARS if ordered or name not in ORDERED]
        if monitor not in known:
            unordered = monitor.removeprefix("val/") in ORDERED
            why = ", which is for labels that are whole numbers: these are names" if unordered else ""
            raise UserError(f"expected --monitor to be one of {', '.join(known)}, found {monitor!r}{why}")
        self.run = run
        self.monitor = monitor
        mode = "max" if monitor.removeprefix("val/") in HIGHER_IS_BETTER else "min"
        folder = run / runs.CHECKPOINTS
        self.finite = FiniteSteps(on_nonfinite)
        self.history = LossHistory()
        then, now = (checkpoint or {}).get("settings", {}).get("trainer", {}), settings.get("trainer", {})
        same = all(then.get(name) == now.get(name) for name in ("callbacks", "max_time"))
        self.early_end = EarlyEnd(callbacks, self.history, same)
        self.begun = None if checkpoint is None else checkpoint["global_step"]
        self.throughput = Throughput()
        self.dashboard = Dashboard(settings, command, self.history, monitor, best_is_high=mode == "max")
        self.best = RunCheckpoint(folder, "best", monitor, mode)
        # A second one: ModelCheckpoint(save_last=True) of 2.6.6 renews `last` only when `best` is renewed.
        self.last = LastCheckpoint(folder)
        self.preemption = Preemption(self.last)

    def callbacks(self) -> list[Callback]:
        """In the order in which they run: the history is noted before it is saved."""
        return [
            self.finite,
            self.history,
            self.early_end,
            self.throughput,
            self.dashboard,
            self.best,
            self.last,
            self.preemption,
        ]

    def save_last(self, trainer: Trainer) -> None:
        """Save the end of training where the last validation did not. All processes call this."""
        if trainer.global_step == self.begun and runs.is_readable(self.last.path):
            return  # the run had ended before
        validated = self.history.validation
        # After max_steps Lightning would take the epoch for closed when it resumes: its mean loss would lack.
        saved = validated and validated[-1]["step"] == trainer.global_step != trainer.max_steps
        if self.last.saved_step == trainer.global_step and trainer.should_stop:
            return  # a callback stopped in the midst of an epoch, which goes on from there
        if not saved and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.last.save(trainer)
