"""Stops or skips optimizer steps with a non-finite loss or gradient, and names the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from lit_ft.classifier.optim import num_training_steps
from lit_ft.errors import UserError, rows_in_words
from lit_ft.reliability.nonfinite import NonFiniteSteps
from lit_ft.settings.flags import NonFinitePolicy
from lit_ft.speed.host import OnItsWay


@dataclass
class Step:
    """One optimizer step.

    Attributes:
        number: The optimizer steps before it.
        batches: Its batches' places in the epoch.
        losses: Its batches' losses, on the device.
        norm: The norm of its gradient, on the device.
        finite: Whether loss and gradient are finite.
    """

    number: int
    batches: list[int]
    losses: torch.Tensor
    norm: torch.Tensor
    finite: torch.Tensor | bool


def later(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether the optimizer itself can skip a step, so that the host need not wait for the device."""
    return device.type == "cuda" and bool(optimizer.defaults.get("fused"))


SHARDED = (FSDPStrategy, ModelParallelStrategy)  # each process has gradients of its own part of the weights


class FiniteSteps(Callback):
    """Stops a run at a step with a non-finite loss or gradient, or skips the step.

    With `16-mixed` the gradients are the loss scaler's business: it skips infinite ones in search of the
    largest scale that works. Then the loss alone decides.

    Args:
        policy: `stop`, or `skip` within the bounds of `NonFiniteSteps`.
    """

    def __init__(self, policy: NonFinitePolicy) -> None:
        self.steps = NonFiniteSteps(policy)
        self._window: list[tuple[int, torch.Tensor]] = []  # batch and loss since the last optimizer step
        self._batch_idx = 0
        self._unchecked: tuple[Step, OnItsWay] | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remember the batch's place: the sampler knows its rows."""
        self._batch_idx = batch_idx

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """Keep the loss on its device, so that nothing waits for it."""
        self._window.append((self._batch_idx, loss.detach()))

    def on_before_optimizer_step(
        self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the gradient norm before any clipping; check it and the losses."""
        self._check_last(trainer)
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        pl_module.log("train/grad_norm", norm)
        losses = torch.stack([loss for _, loss in self._window])
        scaled = trainer.precision == "16-mixed"  # its scaler has not checked the gradients yet
        # A non-finite loss has a non-finite gradient, and the gradient is the same on all processes.
        finite = (losses if scaled else norm).isfinite().all()
        step = Step(trainer.global_step, [batch for batch, _ in self._window], losses, norm, finite)
        self._window = []
        shared = scaled or isinstance(trainer.strategy, SHARDED)
        if shared:
            step.finite = trainer.strategy.reduce_boolean_decision(bool(finite), all=True)
        elif later(optimizer, norm.device):
            # The fused kernel reads this on the GPU and leaves the weights alone. The host checks it one step
            # later, and need not wait for it.
            optimizer.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
            self._unchecked = step, OnItsWay(finite)
            return
        if not self._check(trainer, step) and not scaled:  # the scaler skips the step itself
            optimizer.zero_grad(set_to_none=True)

    def _check_last(self, trainer: Any) -> None:
        """Check the last step if it is still unchecked."""
        if self._unchecked is not None:
            (step, finite), self._unchecked = self._unchecked, None
            step.finite = bool(finite.wait())
            self._check(trainer, step)

    def _check(self, trainer: Any, step: Step) -> bool:
        """Whether a step is finite; ends the run if it is not and may not be skipped."""
        if bool(step.finite):
            self.steps.in_a_row = 0
            return True
        bad = step.losses.isfinite().logical_not().tolist()
        what = f"the loss is {step.losses[bad.index(True)].item()}" if any(bad) else ""
        batches = [batch for batch, is_bad in zip(step.batches, bad, strict=True) if is_bad or not any(bad)]
        rows, what = _rows(trainer, batches), what or f"the gradient norm is {step.norm.item()}"
        data = trainer.datamodule.hparams["train_path"] or "the training data"
        where = f"{rows_in_words(sorted(rows), 12)} of {data}"
        if not self.steps.may_skip(step.number, what, where, num_training_steps(trainer)):
            raise self._error(trainer, what, step.number, where)
        return False

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Check before validation uses the weights; likewise in the hooks below."""
        self._check_last(trainer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Check before a checkpoint is written; update the counts in it."""
        self._check_last(trainer)
        checkpoint["callbacks"][self.state_key] = self.state_dict()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Check while the epoch's batches are known; Lightning calls this also when `max_steps` ends it."""
        self._check_last(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Check the validation loss; Lightning calls this before the hook of the checkpoints."""
        loss = trainer.callback_metrics.get("val/loss") if trainer.state.fn == "fit" else None
        if loss is not None and not torch.isfinite(loss):
            raise self._error(trainer, f"the validation loss is {loss.item()}", trainer.global_step)

    def _error(self, trainer: Any, what: str, number: int, where: str = "") -> UserError | SystemExit:
        # One line is enough; with another exit code Lightning's launcher would cut it off.
        if not trainer.is_global_zero:
            return SystemExit(0)
        saved = [
            c.best_model_path
            for c in trainer.checkpoint_callbacks
            # A ModelCheckpoint names its file before it writes it, and a check in between may end the run.
            if getattr(c, "best_model_path", None) and Path(c.best_model_path).is_file()
        ]
        advice = "lower --model.learning_rate or set --trainer.gradient_clip_val=1"
        what = f"{what} at step {number}, epoch {trainer.current_epoch}"
        return self.steps.error(what, saved[-1] if saved else None, advice, where)

    def figures(self) -> dict[str, float]:
        """The number of skipped steps under its tag, for `metrics.json`; nothing if none may be skipped."""
        return {"train/skipped_steps": self.steps.count} if self.steps.policy == "skip" else {}

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"count": self.steps.count, "in_a_row": self.steps.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts."""
        self.steps.count, self.steps.in_a_row = state_dict["count"], state_dict["in_a_row"]


def _rows(trainer: Any, batches: Sequence[int]) -> list[int]:
    """All processes' rows of these batches of the current epoch, counted from 1 in the training file."""
    plan = trainer.train_dataloader.batch_sampler.plan(trainer.current_epoch)
    source_rows = trainer.datamodule.splits["train"].source_rows
    return [int(source_rows[i]) for batch in batches for i in plan[batch]]
