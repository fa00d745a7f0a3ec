"""What masked-LM training has added up since its last point of the curves; a resumed run goes on with it.

B rows, T tokens after padding, M masked tokens of a batch.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from lit_ft.errors import UserError
from lit_ft.machine import peak_memory_gb
from lit_ft.mlm_figures import masked_figures, speed_figures

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
