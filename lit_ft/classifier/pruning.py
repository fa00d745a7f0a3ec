"""A trial of a search that promises less than the others stops early."""

import math
from collections.abc import Callable
from typing import Any

from lightning import Callback

from lit_ft.classifier.optim import num_training_steps
from lit_ft.console import say, warn


class Pruning(Callback):
    """Reports the figure of each validation, and stops the run if it is told to.

    The run then ends as one that any callback stopped: with its checkpoints, figures and report.

    Args:
        monitor: The validation figure.
        report: Percent of the optimizer steps that are done, and the figure -> whether to stop.
    """

    def __init__(self, monitor: str, report: Callable[[float, float], bool]) -> None:
        self.monitor = monitor
        self.report = report
        self.active = True

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Several processes would have to agree at each validation, which is not worth it."""
        self.active = trainer.world_size == 1
        if not self.active:
            warn(f"a trial in {trainer.world_size} processes is not pruned, but trained to its end")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Report, and ask."""
        value = trainer.callback_metrics.get(self.monitor)
        if not self.active or trainer.sanity_checking or trainer.state.fn != "fit" or value is None:
            return
        if not math.isfinite(float(value)):  # there is nothing to compare; the run's own rules end it
            return
        percent = 100 * trainer.global_step / num_training_steps(trainer)
        if self.report(percent, float(value)):
            figure = f"{self.monitor} {float(value):.4g}"
            say(f"pruned after {percent:.0f} % of the run: {figure} is worse than the median")
            trainer.should_stop = True
