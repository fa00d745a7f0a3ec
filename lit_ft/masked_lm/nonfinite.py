"""Stops or skips optimizer steps with a non-finite loss or gradient, and names the rows."""

import math
from pathlib import Path
from typing import Any

import torch
import transformers

from lit_ft.console import warn
from lit_ft.errors import UserError, rows_in_words
from lit_ft.masked_lm.resume import newest_checkpoint
from lit_ft.reliability.nonfinite import NonFiniteSteps
from lit_ft.settings.flags import NonFinitePolicy


class StepSoundness:
    """Stops a run at a step with a non-finite loss or gradient, or skips the step.

    Args:
        policy: `stop`, or `skip` within the bounds of `NonFiniteSteps`, which a resumed run counts from 0.
        device: The device of the losses.
    """

    def __init__(self, policy: NonFinitePolicy, device: torch.device) -> None:
        self.steps = NonFiniteSteps(policy)
        self._loss = torch.zeros((), device=device)  # of the open optimizer step
        self._unchecked: int | None = None  # an optimizer step whose losses nobody has checked yet
        self._warned = False

    def add(self, loss: torch.Tensor, step: int) -> None:
        """Add a batch's loss on its device, so that nothing waits for it.

        It warns once if a step was taken unchecked: `check` depends on a private method of transformers,
        which another version may not call.

        Args:
            loss: The batch's loss.
            step: The optimizer steps before it.
        """
        if self._unchecked not in (None, step) and not self._warned:
            self._warned = True
            warn(
                f"transformers {transformers.__version__} takes steps without Trainer._get_grad_norm: a "
                "non-finite loss or gradient goes unnoticed; install the version of constraints.txt"
            )
        self._unchecked = step
        self._loss = self._loss + loss

    def check(self, trainer: Any, norm: float) -> None:
        """Check a step right before the optimizer takes it. All processes call this.

        Args:
            trainer: The MaskedLMTrainer.
            norm: The gradient norm before clipping.
        """
        self._unchecked = None
        # The mean over the processes: if one loss is non-finite, all of them stop.
        loss = float(trainer.accelerator.reduce(self._loss, "mean"))
        self._loss = torch.zeros_like(self._loss)
        scaled = trainer.accelerator.scaler is not None  # float16: infinite gradients are part of its search
        if math.isfinite(loss) and (scaled or math.isfinite(norm)):
            self.steps.in_a_row = 0
            return
        what = f"the gradient norm is {norm}" if math.isfinite(loss) else f"the loss is {loss}"
        step = trainer.state.global_step
        rows = sorted(row + 1 for row in trainer.epoch_start.rows_of_step(step))
        where = f"{rows_in_words(rows, 12)} of the training rows"
        if not self.steps.may_skip(step, what, where, trainer.state.max_steps):
            raise self._error(what, step, Path(trainer.args.output_dir), where)
        if not scaled:  # the scaler skips the step itself
            trainer.optimizer.zero_grad(set_to_none=True)

    def check_evaluation(self, loss: float, step: int, checkpoints: Path) -> None:
        """Stop a run whose validation loss is non-finite.

        Args:
            loss: The same on all processes.
            step: The optimizer steps taken so far.
            checkpoints: The run's folder of them.
        """
        if not math.isfinite(loss):
            raise self._error(f"the validation loss is {loss}", step, checkpoints)

    def _error(self, what: str, step: int, checkpoints: Path, where: str = "") -> UserError:
        good = newest_checkpoint(checkpoints, before=step)  # that of this very step holds the failed weights
        advice = "lower --model.learning_rate"
        if good is not None:
            advice += f", and start again or from there with --model.pretrained={good}"
        return self.steps.error(f"{what} at step {step}", good, advice, where)
