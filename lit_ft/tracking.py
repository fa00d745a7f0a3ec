"""What a fit records while it trains: the history, two checkpoints, speed, the dashboard."""

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from lit_ft import runs
from lit_ft.dashboard import Dashboard
from lit_ft.errors import UserError
from lit_ft.event_files import wait_for_turn
from lit_ft.history import LossHistory
from lit_ft.metrics import ORDERED, SCALARS
from lit_ft.preempt import Preemption
from lit_ft.run_checkpoints import LastCheckpoint, RunCheckpoint
from lit_ft.skips import NonFinitePolicy
from lit_ft.soundness import FiniteSteps
from lit_ft.throughput import Throughput

HIGHER_IS_BETTER = ("accuracy", "macro_f1", "kappa")


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


class Tracking:
    """The history, the speed, the dashboard, the two checkpoints of one fit, and what stops it.

    Args:
        run: The run folder.
        monitor: The validation figure that chooses the best checkpoint.
        settings: The run's, as plain nested values.
        command: The command line that was given.
        on_nonfinite: `stop` or `skip`, where a step's loss or gradient is no number.
        ordered: Whether the labels have an order.
    """

    def __init__(
        self,
        run: Path,
        monitor: str,
        settings: dict[str, Any],
        command: str,
        on_nonfinite: NonFinitePolicy,
        ordered: bool = True,
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
            self.throughput,
            self.dashboard,
            self.best,
            self.last,
            self.preemption,
        ]

    def save_last(self, trainer: Trainer) -> None:
        """Save the end of training where the last validation did not. All processes call this."""
        validated = self.history.validation
        # After max_steps Lightning would take the epoch for closed when it resumes: its mean loss would lack.
        saved = validated and validated[-1]["step"] == trainer.global_step != trainer.max_steps
        if not saved and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.last.save(trainer)
