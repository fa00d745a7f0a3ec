"""The callbacks of a fit and their order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from lit_ft import runs
from lit_ft.classifier.checkpoints import EarlyEnd, LastCheckpoint, RunCheckpoint
from lit_ft.classifier.dashboard import Dashboard
from lit_ft.classifier.kinds import Kind
from lit_ft.classifier.nonfinite import FiniteSteps
from lit_ft.classifier.per_text import BestTexts
from lit_ft.classifier.progress import EpochLines
from lit_ft.classifier.stopping import Preemption
from lit_ft.classifier.tracking import LossHistory, Throughput
from lit_ft.data.splits import Split
from lit_ft.data.targets import Labels
from lit_ft.errors import UserError
from lit_ft.report.scores import SCORES, console
from lit_ft.settings.flags import NonFinitePolicy


def mode_of(monitor: str, labels: Labels) -> str:
    """`max` or `min`: which value of the figure that chooses the best checkpoint is better.

    Raises:
        UserError: There is no such figure, or none of labels without an order.
    """
    scores = {f"val/{score.name}": score for score in console(SCORES[labels.task.report])}
    known = [tag for tag, score in scores.items() if labels.ordered or not score.ordered]
    if monitor not in known:
        needs = ", which needs labels with an order; set --data.ordered=true if these are a scale"
        why = needs if monitor in scores else ""
        raise UserError(f"expected --monitor to be one of {', '.join(known)}, found {monitor!r}{why}")
    return "max" if scores[monitor].higher_is_better else "min"


def check_defined(monitors: Sequence[str | None], kind: Kind, validation: Split) -> None:
    """Refuse to wait for a figure that the validation texts leave undefined.

    Args:
        monitors: Figures that choose the best checkpoint or stop a run.
        kind: Of the labels.
        validation: The validation split.

    Raises:
        UserError: With the figure.
    """
    labels = validation.labels
    assert labels is not None
    for name in kind.undefined(labels):
        if f"val/{name}" in monitors:
            raise UserError(
                f"expected validation texts with different numbers for --monitor=val/{name}, found "
                f"{labels[0]:g} in all {len(labels):,}; set --monitor=val/loss"
            )


class Tracking:
    """The history, the speed, the dashboard and the two checkpoints of one fit, and what stops it.

    Args:
        run: The run folder.
        monitor: The validation figure that chooses the best checkpoint.
        settings: The run's settings as plain nested values.
        command: The command line that was given.
        on_nonfinite: What to do at a non-finite loss or gradient: `stop` or `skip`.
        labels: The label object.
        callbacks: The user's callbacks.
        checkpoint: The checkpoint that the run resumes from.
    """

    def __init__(
        self,
        run: Path,
        monitor: str,
        settings: dict[str, Any],
        command: str,
        on_nonfinite: NonFinitePolicy,
        labels: Labels,
        callbacks: Sequence[Callback] = (),
        checkpoint: dict[str, Any] | None = None,
    ) -> None:
        mode = mode_of(monitor, labels)
        self.run = run
        self.monitor = monitor
        folder = run / runs.CHECKPOINTS
        self.finite = FiniteSteps(on_nonfinite)
        self.history = LossHistory()
        then, now = (checkpoint or {}).get("settings", {}).get("trainer", {}), settings.get("trainer", {})
        same = all(then.get(name) == now.get(name) for name in ("callbacks", "max_time"))
        self.early_end = EarlyEnd(callbacks, self.history, same)
        self.begun = None if checkpoint is None else checkpoint["global_step"]
        self.throughput = Throughput()
        self.dashboard = Dashboard(settings, command, self.history, monitor, best_is_high=mode == "max")
        self.texts = BestTexts(run, self.dashboard)
        self.lines = EpochLines(self.history, monitor, best_is_high=mode == "max")
        self.best = RunCheckpoint(folder, "best", monitor, mode)
        # Separate, because ModelCheckpoint(save_last=True) of 2.6.6 saves `last` only together with `best`.
        self.last = LastCheckpoint(folder)
        self.preemption = Preemption(self.last)

    def callbacks(self) -> list[Callback]:
        """In the order in which they run: the history is updated before it is saved."""
        return [
            self.finite,
            self.history,
            self.early_end,
            self.throughput,
            self.dashboard,
            self.texts,
            self.lines,
            self.best,
            self.last,
            self.preemption,
        ]

    def save_last(self, trainer: Trainer) -> None:
        """Save the end of training if the last validation did not. All processes call this."""
        if trainer.global_step == self.begun and runs.is_readable(self.last.path):
            return  # the run had ended before
        validated = self.history.validation
        # Resumed after max_steps, Lightning would take the epoch for closed: its mean loss would be missing.
        saved = validated and validated[-1]["step"] == trainer.global_step != trainer.max_steps
        if self.last.saved_step == trainer.global_step and trainer.should_stop:
            return  # a callback stopped the run within an epoch, which a resume continues
        if not saved and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.last.save(trainer)
