"""Checkpoints of a masked-LM run by the clock, beside those of `save_steps`."""

import time
from typing import Any

import torch
from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.save_clock import INTERVAL_SECONDS, interval_after


class SaveByClock(TrainerCallback):
    """Asks for a checkpoint at a step's end when the last one is too old; a slow disk is asked less often."""

    def __init__(self) -> None:
        self._interval = INTERVAL_SECONDS
        self._saved_at = self._begun = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._saved_at = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """All processes save at the same step, though their clocks differ."""
        self._begun = time.monotonic()
        due = self._begun - self._saved_at >= self._interval
        if args.world_size > 1:
            number = torch.tensor(int(due), device=args.device)
            distributed.all_reduce(number, distributed.ReduceOp.MAX)
            due = bool(number)
        control.should_save = control.should_save or (due and args.save_strategy != "no")
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
        self._saved_at = time.monotonic()
        self._interval = interval_after(self._saved_at - self._begun)
