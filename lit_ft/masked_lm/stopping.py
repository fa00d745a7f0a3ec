"""How an `sft` ends on a signal: after the optimizer step, with a checkpoint."""

import signal
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.reliability.processes import largest

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopOnSignal(TrainerCallback):
    """On SIGTERM or SIGINT: finish the optimizer step, save a checkpoint, end the training.

    `train()` then returns as if it were done; the caller looks at `signal_received` and exits with
    `exit_code`. All processes stop at the same step. An evaluation due at that step takes place first: the
    resumed run would not make up for it. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.signal_received: int | None = None
        self._previous: dict[int, Any] = {}
        self._saved_at = -1  # the step of the last checkpoint

    @property
    def exit_code(self) -> int:
        """128 + the signal's number: 143 for SIGTERM, 130 for SIGINT; 0 without a signal."""
        return 0 if self.signal_received is None else 128 + self.signal_received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal_received = number
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def give_back(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the signals over."""
        self._previous = {number: signal.signal(number, self._receive) for number in SIGNALS}

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the signals back."""
        self.give_back()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step."""
        self._saved_at = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Between two optimizer steps nothing is pending: the place to stop at."""
        # The signal reaches the processes at different steps; one that stopped alone would leave the others
        # waiting for its gradients.
        self.signal_received = largest(self.signal_received or 0, args) or None
        if self.signal_received is not None:
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """transformers runs this also after a stop in mid-epoch, and would log, evaluate and save again."""
        if self.signal_received is not None:
            control.should_log = control.should_evaluate = False
            # `save_strategy: best` takes `should_save` back where the evaluation was no better.
            control.should_save = self._saved_at != state.global_step
        return control
