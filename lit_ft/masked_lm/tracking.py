"""What an `sft` records while it trains: figures, speed, TensorBoard with our own tags."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from lit_ft.errors import unusable
from lit_ft.machine import speed_figures
from lit_ft.masked_lm.settings import SftSettings
from lit_ft.report.tensorboard import begin, told_settings, wait_for_turn


def masked_figures(nll: float, correct: float, masked: float) -> dict[str, float]:
    """Loss, accuracy and perplexity from sums over the masked tokens; loss and accuracy are 0 without any.

    Args:
        nll: The summed negative log-likelihood.
        correct: The number of correct predictions.
        masked: The number of masked tokens.
    """
    loss = nll / masked if masked else 0.0
    return {
        "loss": loss,
        "masked_accuracy": correct / masked if masked else 0.0,
        "perplexity": math.exp(min(loss, 700)),
    }


NUM_SUMS = 6  # negative log-likelihood, correct predictions, masked tokens, rows, real and computed tokens


@contextlib.contextmanager
def kept_by(callback: ExportableState, state: TrainerState) -> Iterator[dict[str, Any]]:
    """Around code that takes over what the checkpoint of `state` kept of a callback: its attributes.

    Without a checkpoint they are those of its present state.

    Raises:
        UserError: They are damaged.
    """
    saved: Any = state.stateful_callbacks
    with unusable("trainer_state.json", "resume from another checkpoint"):
        yield saved.setdefault(type(callback).__name__, callback.state())["attributes"]


class LogWindow(TrainerCallback, ExportableState):
    """Each process's sums since the last log.

    transformers saves the state of an ExportableState in `trainer_state.json`. Without it the first point
    after a resume would be the mean of fewer steps than in a run that never stopped.

    Args:
        device: The device of the batches.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(NUM_SUMS, device=device)
        self._gathered: list[list[float]] = []  # of all processes, for the checkpoint
        self._start: float | None = None
        self._untimed = [0.0] * NUM_SUMS  # of the window's steps before a resume, over all processes

    def begin(self) -> None:
        """Start the clock at the first step."""
        if self._start is None:
            self._start = time.perf_counter()

    @torch.no_grad()
    def add(self, nll: Tensor, correct: Tensor, inputs: dict[str, Tensor]) -> None:
        """Add a batch: negative log-likelihood and correctness of its masked tokens, both (M,)."""
        rows, width = inputs["labels"].shape  # (B, T)
        counts = nll.new_tensor([len(nll), rows, rows * width])
        tokens = inputs["attention_mask"].sum()
        self.sums += torch.stack([nll.sum(), correct.sum(), counts[0], counts[1], tokens, counts[2]])

    def pause(self, seconds: float) -> None:
        """Exclude the time of an evaluation."""
        if self._start is not None:
            self._start += seconds

    def close(self, accelerator: Any, tokens_seen: int) -> dict[str, float]:
        """The window's figures over all processes; starts a new one. `tokens_seen` is of the whole run."""
        sums = accelerator.reduce(self.sums, "sum").tolist()
        now = time.perf_counter()
        rows, tokens, computed = (sums[i] - self._untimed[i] for i in (3, 4, 5))
        figures = {
            **masked_figures(*sums[:3]),
            **speed_figures(now - (self._start or now), rows, tokens, computed, accelerator.device.type),
            "real_share": sums[4] / max(sums[5], 1),  # of the whole window, as of a run that never stopped
            "tokens_seen": tokens_seen,
        }
        self.sums.zero_()
        self._start, self._untimed = now, [0.0] * NUM_SUMS
        return figures

    def gather(self, accelerator: Any) -> None:
        """Collect all processes' sums. All processes call this, right before a checkpoint."""
        self._gathered = accelerator.gather(self.sums[None]).tolist()

    def state(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {"args": {}, "attributes": {"sums": self._gathered}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the checkpoint's sums; zeros without one."""
        self.sums.zero_()
        with kept_by(self, state) as own_state:
            own = own_state["sums"]
            if own:
                by_process = torch.tensor(own).reshape(-1, NUM_SUMS)
                self.sums += by_process[args.process_index].to(self.sums.device)
                self._untimed = by_process.sum(0).tolist()


# The settings that TensorBoard's HPARAMS tab always shows, beside those that differ from the default.
ALWAYS = ("model.pretrained", "model.learning_rate", "num_train_epochs")


class FiguresFirst(TrainerCallback):
    """At the last step of an epoch, and of the run, logs and evaluates before the checkpoint is saved.

    transformers 5.23 would do so at the epoch's end, after that checkpoint, or at the run's end not at all: a
    run resumed from there would lack the figures, and a checkpoint with a non-finite loss would be kept.
    Give it before StopOnSignal, which has the last word.
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
        """Do not evaluate twice at one step; transformers itself avoids a second log."""
        control.should_evaluate &= self._evaluated_at != state.global_step
        return control


class TensorBoardWriter(TrainerCallback):
    """Writes our tags (`train/...`, `val/...`) into the run folder, on process 0 only.

    transformers' own TensorBoardCallback would write `train/train/loss`, and a new folder for every resume.

    Args:
        folder: The run folder.
        settings: The run's settings as plain nested values.
        texts: Tag -> Markdown, written before the first step.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], texts: dict[str, str]) -> None:
        self.folder = folder
        self.settings = settings
        self.texts = texts
        self._writer: SummaryWriter | None = None

    def writer(self, state: TrainerState) -> SummaryWriter:
        """The open event file; that of a resumed run hides what was logged after the checkpoint."""
        if self._writer is None:
            purge_step = state.global_step + 1 if state.global_step else None
            if purge_step is not None:
                wait_for_turn(self.folder)
            self._writer = SummaryWriter(str(self.folder), purge_step=purge_step)
        return self._writer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the file while `global_step` is still the checkpoint's; write layout, settings and texts."""
        if state.is_world_process_zero:
            told = told_settings(self.settings, asdict(SftSettings()), ALWAYS)
            begin(self.writer(state), "masked_lm", told, self.texts, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write the scalars; tags without a slash are transformers' additions, such as `epoch`."""
        if state.is_world_process_zero:
            writer = self.writer(state)
            for tag, value in (logs or {}).items():
                if "/" in tag:
                    writer.add_scalar(tag, value, state.global_step)
            writer.flush()

    def close(self) -> None:
        """Close the file. Not done at the end of training, because an evaluation may follow."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
