"""What an `sft` shows while it runs: a bar on standard error, and a line per evaluation."""

import math
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.console import say
from lit_ft.progress import RunProgress, clock, row
from lit_ft.report.tables import number


class RunBar(TrainerCallback):
    """transformers' progress bar as `RunProgress`, with the newest loss and the tokens per second."""

    def __init__(self) -> None:
        self._progress: RunProgress | None = None
        self._figures: list[str] = []
        self._batch = 0  # of the present evaluation

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar; in a resumed run it starts at the checkpoint's step."""
        if state.is_world_process_zero:
            self.close()
            done, every = state.global_step, _steps_between_evaluations(args, state)
            self._progress = RunProgress("training", state.max_steps, done=done, every=every)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the step."""
        if self._progress is not None:
            self._progress.step(state.global_step, lambda: self._figures)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the newest figures."""
        if logs and "train/loss" in logs:
            speed = logs["train/tokens_per_second"]
            self._figures = [f"loss {logs['train/loss']:.3f}", f"{speed:,.0f} tokens/s"]

    def on_prediction_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        eval_dataloader: Any = None,
        **kwargs: Any,
    ) -> None:
        """Count a batch of an evaluation."""
        self._batch += 1
        if self._progress is not None:
            self._progress.evaluating(self._batch, len(eval_dataloader))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on with the training."""
        self._batch = 0
        if self._progress is not None:
            self._progress.evaluated()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close a bar that an error left open, so that its message starts on an empty line."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


def _steps_between_evaluations(args: TrainingArguments, state: TrainerState) -> float:
    """Optimizer steps from one evaluation to the next; the whole run if there is only the last one."""
    if args.eval_strategy == "steps" and state.eval_steps:
        return state.eval_steps
    if args.eval_strategy == "epoch" and state.num_train_epochs:
        return math.ceil(state.max_steps / state.num_train_epochs)
    return state.max_steps


HEADS = {"loss": "val loss", "perplexity": "perplexity", "masked_accuracy": "guessed right"}
DIGITS = {"loss": 3, "perplexity": 2, "masked_accuracy": 3}


class EvaluationLines(TrainerCallback):
    """A line for each evaluation: losses, masked perplexity, share of masked tokens guessed right, time.

    With `trainer_args.load_best_model_at_end` also whether it is the best so far. The lines stand on standard
    output, and have nothing to do with `trainer_args.disable_tqdm`.
    """

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._has_head = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._begun = time.monotonic()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of the evaluation, which transformers has logged by now."""
        logged = [entry for entry in state.log_history if "val/loss" in entry]
        if not state.is_world_process_zero or not logged:
            return
        trained = [entry["train/loss"] for entry in state.log_history if "train/loss" in entry]
        heads = ["step", "epoch", "train loss", *HEADS.values(), "elapsed"]
        cells = [f"{state.global_step:,}", f"{round(state.epoch or 0, 2):g}"]
        cells.append(number(trained[-1] if trained else None, 3))
        cells += [number(logged[-1][f"val/{name}"], DIGITS[name]) for name in HEADS]
        cells.append(clock(time.monotonic() - self._begun))
        widths = [max(len(head), 7) for head in heads]
        if not self._has_head:
            self._has_head = True
            say(row(heads, widths))
        say(row(cells, widths) + ("  best" if args.load_best_model_at_end and _is_best(args, logged) else ""))


def _is_best(args: TrainingArguments, logged: list[dict[str, float]]) -> bool:
    """Whether the last evaluation is better than all before, by the figure that chooses the checkpoint.

    As in transformers the one before the first step, of which there is no checkpoint, does not count.
    """
    name = (args.metric_for_best_model or "loss").removeprefix("eval_").removeprefix("val/")
    sign = 1 if args.greater_is_better else -1
    values = [sign * entry[f"val/{name}"] for entry in logged if entry["step"] > 0]
    return logged[-1]["step"] > 0 and all(values[-1] > value for value in values[:-1])
