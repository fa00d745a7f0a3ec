"""The progress bar of masked-LM training: loss and tokens a second beside it, no page of log lines."""

from typing import Any

from tqdm.auto import tqdm
from transformers import ProgressCallback, TrainerControl, TrainerState, TrainingArguments

from lit_ft.console import bar_pace


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
