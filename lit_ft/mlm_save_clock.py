"""Checkpoints of a masked-LM run by the clock, beside those of `save_steps`."""

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.processes import largest
from lit_ft.save_clock import SaveClock


class SaveByClock(TrainerCallback):
    """Asks for a checkpoint at a step's end when the last one is too old; a slow disk is asked less often."""

    def __init__(self) -> None:
        self.clock = SaveClock()
        self._begun = time.monotonic()  # the step's end, or its evaluation's

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self.clock.restart()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """All processes save at the same step, though their clocks differ."""
        self._begun = time.monotonic()
        due = largest(int(self.clock.is_due()), args)
        control.should_save = control.should_save or bool(due and args.save_strategy != "no")
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An evaluation comes before its step's checkpoint and is no part of what that takes."""
        self._begun = time.monotonic()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin anew after any checkpoint."""
        self.clock.saved(self._begun)
