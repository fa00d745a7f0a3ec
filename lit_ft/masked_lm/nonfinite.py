"""Whether a masked-LM run is still sound: its figures are numbers."""

import math
from pathlib import Path
from typing import Any

import torch
import transformers

from lit_ft.console import warn
from lit_ft.errors import UserError, rows_in_words
from lit_ft.masked_lm.resume import newest_checkpoint
from lit_ft.reliability.nonfinite import Skips
from lit_ft.settings.flags import NonFinitePolicy


class StepSoundness:
    """Stops, or passes over, an optimizer step whose loss or gradient is no number.

    Args:
        policy: `stop`, or `skip` to leave such steps out within the bounds of `Skips`, which begin anew
            where a run is resumed.
        device: Where the losses are.
    """

    def __init__(self, policy: NonFinitePolicy, device: torch.device) -> None:
        self.policy = policy
        self.skips = Skips()
        self._loss = torch.zeros((), device=device)  # of the open optimizer step
        self._unseen: int | None = None  # an optimizer step whose losses nobody has looked at yet
        self._told = False

    def add(self, loss: torch.Tensor, step: int) -> None:
        """Add the loss of a batch, where it is: nothing waits for it.

        Args:
            loss: The batch's.
            step: Optimizer steps before it. Where one was taken that nobody looked at, that is said once:
                `look` depends on a private method of transformers, which another version may call no more.
        """
        if self._unseen not in (None, step) and not self._told:
            self._told = True
            warn(
                f"transformers {transformers.__version__} takes steps without Trainer._get_grad_norm: a loss "
                "or gradient that is no number goes unnoticed; install the version of constraints.txt"
            )
        self._unseen = step
        self._loss = self._loss + loss

    def look(self, trainer: Any, norm: float) -> None:
        """Look at a step right before the optimizer takes it. All processes call this.

        Args:
            trainer: The MaskedLMTrainer.
            norm: The gradient's, before clipping.
        """
        self._unseen = None
        # Averaged over the processes: where one loss is no number, all of them stop.
        loss = float(trainer.accelerator.reduce(self._loss, "mean"))
        self._loss = torch.zeros_like(self._loss)
        scaled = trainer.accelerator.scaler is not None  # float16: infinite gradients are part of its search
        if math.isfinite(loss) and (scaled or math.isfinite(norm)):
            self.skips.in_a_row = 0
            return
        what = f"the gradient norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        step = trainer.state.global_step
        rows = trainer.epoch_start.rows_of_step(step)
        where = f"{rows_in_words(sorted(row + 1 for row in rows), 12)} of the training rows"
        if self.policy == "skip" and self.skips.add(trainer.state.max_steps):
            if not scaled:  # there the scaler leaves the step out
                trainer.optimizer.zero_grad(set_to_none=True)
            warn(f"step {step} is skipped: {what} in {where}")
            return
        raise _not_finite(
            f"{what} at step {step}, in {where}" + (f"; {self.skips}" if self.skips.in_a_row else ""),
            step,
            Path(trainer.args.output_dir),
            "" if self.policy == "skip" else ", or leave such steps out with --on_nonfinite=skip",
        )


def check_evaluation(loss: float, step: int, checkpoints: Path) -> None:
    """Stop a run whose validation loss is no number.

    Args:
        loss: The same on all processes.
        step: Optimizer steps taken so far.
        checkpoints: The run's folder of them.
    """
    if not math.isfinite(loss):
        raise _not_finite(f"the validation loss is {loss} at step {step}", step, checkpoints, "")


def _not_finite(what: str, step: int, checkpoints: Path, mend: str) -> UserError:
    good = newest_checkpoint(checkpoints, before=step)  # one of this very step holds the weights that failed
    if good is None:
        advice = f"no earlier checkpoint was saved; lower --model.learning_rate{mend}"
    else:
        advice = (
            f"the last good checkpoint is {good}; lower --model.learning_rate, and start again or from "
            f"there with --model.pretrained={good}{mend}"
        )
    return UserError(f"{what}; {advice}")
