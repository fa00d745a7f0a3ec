"""What goes along with masked-LM training: a clean stop on a signal, and TensorBoard under our own tags."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.board import MASKED_LM_LAYOUT, flat, write_hparams
from lit_ft.event_files import wait_for_turn
from lit_ft.processes import largest

HPARAMS = (
    "model.pretrained model.learning_rate model.weight_decay model.warmup_share model.hidden_dropout "
    "model.attention_dropout data.layout data.max_tokens data.mask_probability data.whole_words "
    "data.batch_size num_train_epochs max_steps gradient_accumulation_steps precision seed_everything"
).split()
FINAL = ("val/loss", "val/perplexity", "val/masked_accuracy")
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


class FiguresFirst(TrainerCallback):
    """At an epoch's last step, and the run's, logs and evaluates before that step's checkpoint is saved.

    transformers 5.23 would do so at the epoch's end, after that checkpoint, or at the run's end not at all: a
    run that went on from there would lack the figures, and a checkpoint whose loss is no number would be
    kept. To stand before StopOnSignal, which has the last word.
    """

    def __init__(self) -> None:
        self._evaluated_at = -1  # the step of the last evaluation

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the step."""
        self._evaluated_at = state.global_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Ask for what the epoch's end, or the run's, would ask for."""
        epoch, last = float(state.epoch or 0), state.global_step >= state.max_steps
        if last or epoch.is_integer():
            control.should_log |= args.logging_strategy == "epoch"
            control.should_evaluate |= last or (args.eval_strategy == "epoch" and args.eval_delay <= epoch)
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """At this step the evaluation has taken place; of logs transformers sees to that itself."""
        control.should_evaluate &= self._evaluated_at != state.global_step
        return control


class TensorBoardWriter(TrainerCallback):
    """Writes our tags (`train/...`, `val/...`) into the run folder, on the first process only.

    transformers' own TensorBoardCallback would write `train/train/loss`, and a new folder for every resume.

    Args:
        folder: The run folder.
        settings: The run's, as plain nested values.
        texts: Tag -> Markdown that is known before the first step.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], texts: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings
        self.texts = texts
        self._writer: SummaryWriter | None = None

    def writer(self, state: TrainerState) -> SummaryWriter:
        """The open event file; opened by a resumed run, it hides what was logged after the checkpoint."""
        if self._writer is None:
            purge_step = state.global_step + 1 if state.global_step else None
            if purge_step is not None:
                wait_for_turn(self.folder)
            self._writer = SummaryWriter(str(self.folder), purge_step=purge_step)
        return self._writer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the file before the first step, while `global_step` is the checkpoint's; arrange the page."""
        if state.is_world_process_zero:
            writer = self.writer(state)
            writer.add_custom_scalars(MASKED_LM_LAYOUT)
            write_hparams(writer, flat(self.settings), HPARAMS, FINAL)
            for tag, text in self.texts.items():
                writer.add_text(tag, text, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the scalars; without a slash are only transformers' additions, such as `epoch`."""
        if state.is_world_process_zero:
            writer = self.writer(state)
            for tag, value in (logs or {}).items():
                if "/" in tag:
                    writer.add_scalar(tag, value, state.global_step)
            writer.flush()

    def close(self) -> None:
        """Close the file; not at the end of training, because an evaluation may follow."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
