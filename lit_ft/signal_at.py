"""Signals that a run sends to itself at a given step, to find out what it is worth."""

import os
from typing import Any

from lightning import Callback


class SignalAt(Callback):
    """Sends this process a signal before an optimizer step of a fit, once.

    Args:
        number: Of the signal, 9 for SIGKILL.
        step: Optimizer steps taken by then.
    """

    def __init__(self, number: int, step: int) -> None:
        self.number = number
        self.step = step
        self._sent = False

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Send it."""
        if trainer.global_step == self.step and not self._sent:
            self._sent = True
            os.kill(os.getpid(), self.number)


def signal_sft(number: int, step: int) -> None:
    """Have the `sft` that follows in this process send itself a signal before an optimizer step."""
    from lit_ft.mlm_trainer import MaskedLMTrainer

    training_step = MaskedLMTrainer.training_step
    sent: list[int] = []

    def signalling(trainer: MaskedLMTrainer, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == step and not sent:
            sent.append(step)
            os.kill(os.getpid(), number)
        return training_step(trainer, *args, **kwargs)

    MaskedLMTrainer.training_step = signalling  # type: ignore[method-assign, assignment]
