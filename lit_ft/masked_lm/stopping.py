"""How an `sft` ends on a signal: after the optimizer step, with a checkpoint."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.reliability.signals import Signals


class StopOnSignal(TrainerCallback):
    """On SIGTERM or SIGINT: finish the optimizer step, save a checkpoint, end the training.

    `train()` then returns as if it were done; the caller looks at `signals.agreed` and exits with
    `signals.exit_code`. All processes stop at the same step. An evaluation due at that step runs first: the
    resumed run would not make up for it. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.signals = Signals()
        self._saved_at = -1  # the step of the last checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the signals over."""
        self.signals.take_over()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Give the signals back, one of the last step included."""
        self._agree(args)
        self.signals.give_back()

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step."""
        self._saved_at = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Stop between two optimizer steps, when nothing is pending."""
        if self._agree(args):
            control.should_save = control.should_training_stop = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """transformers comes here after any stop within an epoch, and would log, evaluate and save again."""
        if self._agree(args):
            control.should_log = control.should_evaluate = False
            # `save_strategy: best` resets `should_save` if the evaluation was no better.
            control.should_save = self._saved_at != state.global_step
        return control

    def _agree(self, args: TrainingArguments) -> bool:
        return self.signals.agree(args.device, args.world_size)
