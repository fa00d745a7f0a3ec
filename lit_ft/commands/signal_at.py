"""What a run does to itself, to find out what it is worth: signals at a given step, epochs cut short."""

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


def shorten_sft(steps: int) -> None:
    """Have the `sft` that follows in this process train on so many rows that an epoch has so many steps."""
    from lit_ft.masked_lm.trainer import MaskedLMTrainer

    begin = MaskedLMTrainer.__init__

    def beginning(trainer: MaskedLMTrainer, model: Any, args: Any, *others: Any, **more: Any) -> None:
        tokenizer, collator, rows, *rest = others
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        rows = rows.select(range(min(len(rows), steps * batch)))
        begin(trainer, model, args, tokenizer, collator, rows, *rest, **more)

    MaskedLMTrainer.__init__ = beginning  # type: ignore[method-assign, assignment]


def signal_sft(number: int, step: int) -> None:
    """Have the `sft` that follows in this process send itself a signal before an optimizer step."""
    from lit_ft.masked_lm.trainer import MaskedLMTrainer

    training_step = MaskedLMTrainer.training_step
    sent: list[int] = []

    def signalling(trainer: MaskedLMTrainer, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == step and not sent:
            sent.append(step)
            os.kill(os.getpid(), number)
        return training_step(trainer, *args, **kwargs)

    MaskedLMTrainer.training_step = signalling  # type: ignore[method-assign, assignment]
