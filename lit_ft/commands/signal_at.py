"""A callback of `verify-resume` for `fit`: a signal at a given step."""

import os
from typing import Any

from lightning import Callback


class SignalAt(Callback):
    """Sends this process a signal before an optimizer step of a fit, once.

    Args:
        number: The number of the signal, 9 for SIGKILL.
        step: The number of optimizer steps taken before it.
    """

    def __init__(self, number: int, step: int) -> None:
        self.number = number
        self.step = step
        self._sent = False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Send the signal."""
        if trainer.global_step == self.step and not self._sent:
            self._sent = True
            os.kill(os.getpid(), self.number)
