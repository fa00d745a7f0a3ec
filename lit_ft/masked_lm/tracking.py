"""What an `sft` records while it trains: figures, speed, progress bar, TensorBoard under our own tags."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from lit_ft.console import bar_pace
from lit_ft.errors import UserError
from lit_ft.machine import peak_memory_gb
from lit_ft.report.scores import MASKED_LM
from lit_ft.report.tables import flat
from lit_ft.report.tensorboard import begin, wait_for_turn


def masked_figures(nll: float, correct: float, masked: float) -> dict[str, float]:
    """Loss, accuracy and perplexity, from sums over the masked tokens; zeros where none was masked.

    Args:
        nll: Negative log-likelihood.
        correct: Right guesses.
        masked: Masked tokens.
    """
    loss = nll / masked if masked else 0.0
    return {
        "loss": loss,
        "masked_accuracy": correct / masked if masked else 0.0,
        "perplexity": math.exp(min(loss, 700)),
    }


def speed_figures(
    seconds: float, tokens_seen: float, rows: float, tokens: float, computed_tokens: float
) -> dict[str, float]:
    """Speed, and the share of the computed tokens that are real.

    Args:
        seconds: How long the window was.
        tokens_seen: Real tokens of the window, as transformers counts them, over all processes.
        rows: Of the window.
        tokens: Real tokens of its batches.
        computed_tokens: The same with the padding.
    """
    return {
        "tokens_per_second": tokens_seen / seconds,
        "samples_per_second": rows / seconds,
        "real_share": tokens / max(computed_tokens, 1),
    }


NUM_SUMS = 6  # negative log-likelihood, right guesses, masked tokens, rows, real tokens, computed tokens


class LogWindow(TrainerCallback, ExportableState):
    """The sums of a window between two logs, on each process its own.

    transformers saves what an ExportableState says in `trainer_state.json`: without it the first point after
    a resume would be the mean of fewer steps than the same point of a run that was never stopped.

    Args:
        device: Where the batches are.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(NUM_SUMS, device=device)
        self._gathered: list[list[float]] = []  # of all processes, for the checkpoint
        self._start: float | None = None
        self._tokens = 0  # seen when the window began

    def begin(self, tokens: int) -> None:
        """Start the clock of tokens_per_second with the first step."""
        if self._start is None:
            self._start, self._tokens = time.perf_counter(), tokens

    @torch.no_grad()
    def add(self, nll: Tensor, correct: Tensor, inputs: dict[str, Tensor]) -> None:
        """Add a batch: negative log-likelihood and whether guessed right of its masked tokens, both (M,)."""
        rows, width = inputs["labels"].shape  # (B, T)
        counts = nll.new_tensor([len(nll), rows, rows * width])
        tokens = inputs["attention_mask"].sum()
        self.sums += torch.stack([nll.sum(), correct.sum(), counts[0], counts[1], tokens, counts[2]])

    def pause(self, seconds: float) -> None:
        """Leave out the time of an evaluation."""
        if self._start is not None:
            self._start += seconds

    def close(self, accelerator: Any, tokens: int) -> dict[str, float]:
        """The window's figures over all processes; a new one begins. `tokens` were seen since the start."""
        sums = accelerator.reduce(self.sums, "sum").tolist()
        self.sums.zero_()
        now = time.perf_counter()
        seconds = now - (self._start or now) or math.inf
        figures = {
            **masked_figures(*sums[:3]),
            **speed_figures(seconds, tokens - self._tokens, *sums[3:]),
            "tokens_seen": tokens,
            "peak_memory_gb": peak_memory_gb(accelerator.device.type),
        }
        self._start, self._tokens = now, tokens
        return figures

    def gather(self, accelerator: Any) -> None:
        """Take down all processes' sums. All of them call this, right before a checkpoint."""
        self._gathered = accelerator.gather(self.sums[None]).tolist()

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"args": {}, "attributes": {"sums": self._gathered}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up the checkpoint's sums; zeros where there is none."""
        self.sums.zero_()
        saved: Any = state.stateful_callbacks
        try:
            own = saved.setdefault(type(self).__name__, self.state())["attributes"]["sums"]
            if own:
                self.sums += torch.tensor(own).reshape(-1, NUM_SUMS)[args.process_index].to(self.sums.device)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"trainer_state.json: expected {NUM_SUMS} sums a process under {type(self).__name__} "
                f"({error}); go on from another checkpoint"
            ) from None


class MaskedLMProgress(ProgressCallback):
    """transformers' bar, which would otherwise print every log entry as a line of its own."""

    training_bar: Any
    prediction_bar: Any

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar; of a resumed run it begins at the checkpoint's step."""
        self.current_step = state.global_step
        if state.is_world_process_zero:
            self.training_bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="training",
                unit="step",
                dynamic_ncols=True,
                **bar_pace(),
            )

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """A bar of its own, which goes when the evaluation ends."""
        if not state.is_world_process_zero:
            return
        if self.prediction_bar is None:
            self.prediction_bar = tqdm(
                total=len(eval_dataloader),
                desc="evaluating",
                unit="batch",
                leave=False,
                dynamic_ncols=True,
                **bar_pace(),
            )
        self.prediction_bar.update(1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures to the right of the bar."""
        if self.training_bar is not None and logs and "train/loss" in logs:
            loss, speed = f"{logs['train/loss']:.3f}", f"{logs['train/tokens_per_second']:,.0f}"
            self.training_bar.set_postfix({"loss": loss, "tokens/s": speed}, refresh=False)

    def close(self) -> None:
        """Close what an error left open, so that its line begins at the margin."""
        for bar in (self.prediction_bar, self.training_bar):
            if bar is not None:
                bar.close()
        self.prediction_bar = self.training_bar = None


HPARAMS = (
    "model.pretrained model.learning_rate model.weight_decay model.warmup_share model.hidden_dropout "
    "model.attention_dropout data.layout data.max_tokens data.mask_probability data.whole_words "
    "data.batch_size num_train_epochs max_steps gradient_accumulation_steps precision seed_everything"
).split()
FINAL = [f"val/{score.name}" for score in MASKED_LM if score.hparams]


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
            settings, step = flat(self.settings), state.global_step
            begin(self.writer(state), "masked_lm", settings, HPARAMS, FINAL, self.texts, step)

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
