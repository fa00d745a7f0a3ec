"""A step whose loss or gradient is no number: the optimizer never takes it, and its rows are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy

from lit_ft.classifier.optim import num_training_steps
from lit_ft.console import warn
from lit_ft.errors import UserError, rows_in_words
from lit_ft.reliability.nonfinite import Skips
from lit_ft.settings.flags import NonFinitePolicy
from lit_ft.speed.host import OnItsWay


@dataclass
class Step:
    """What an optimizer step was made of.

    Attributes:
        number: Optimizer steps before it.
        batches: Places in the epoch.
        losses: Of the batches, on the device.
        norm: The gradient's, there.
        sound: Whether it is a number.
    """

    number: int
    batches: list[int]
    losses: torch.Tensor
    norm: torch.Tensor
    sound: torch.Tensor | bool


def later(optimizer: torch.optim.Optimizer, device: torch.device) -> bool:
    """Whether the optimizer itself passes over a step, so that nobody has to wait for the device."""
    return device.type == "cuda" and bool(optimizer.defaults.get("fused"))


SHARDED = (FSDPStrategy, ModelParallelStrategy)  # each process has gradients of its own part of the weights


class FiniteSteps(Callback):
    """Stops a run, or passes over a step, where the loss or the gradient is no number.

    With `16-mixed` the gradients are the loss scaler's own business: it passes over infinite ones in search
    of the largest scale that works. There the loss alone decides.

    Args:
        policy: `stop`, or `skip` to leave such steps out within the bounds of `Skips`.
    """

    def __init__(self, policy: NonFinitePolicy) -> None:
        self.policy = policy
        self.skips = Skips()
        self._window: list[tuple[int, torch.Tensor]] = []  # batch and loss since the last optimizer step
        self._batch_idx = 0
        self._unseen: tuple[Step, OnItsWay] | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Remember the batch's place: the sampler knows its rows."""
        self._batch_idx = batch_idx

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """Keep the loss on its device, so that nothing waits for it."""
        self._window.append((self._batch_idx, loss.detach()))

    def on_before_optimizer_step(
        self, trainer: Any, pl_module: Any, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log the gradient's norm before any clipping; look at it, and at the losses it is of."""
        self._look(trainer)
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        pl_module.log("train/grad_norm", norm)
        losses = torch.stack([loss for _, loss in self._window])
        scaled = trainer.precision == "16-mixed"  # whose scaler has not looked at the gradients yet
        # A loss that is no number has such a gradient, and that one is the same on all processes.
        sound = (losses if scaled else norm).isfinite().all()
        step = Step(trainer.global_step, [batch for batch, _ in self._window], losses, norm, sound)
        self._window = []
        shared = scaled or isinstance(trainer.strategy, SHARDED)
        if shared:
            step.sound = trainer.strategy.reduce_boolean_decision(bool(sound), all=True)
        elif later(optimizer, norm.device):
            # The fused kernel reads this on the GPU, and leaves the weights alone; the host looks at it when
            # the step has long been taken, and need not wait for it.
            optimizer.found_inf = sound.logical_not().float()  # type: ignore[attr-defined]
            self._unseen = step, OnItsWay(sound)
            return
        if not self._judge(trainer, step) and not scaled:  # there the scaler leaves the step out
            optimizer.zero_grad(set_to_none=True)

    def _look(self, trainer: Any) -> None:
        """At the step that was taken last, if nobody has."""
        if self._unseen is not None:
            (step, sound), self._unseen = self._unseen, None
            step.sound = bool(sound.wait())
            self._judge(trainer, step)

    def _judge(self, trainer: Any, step: Step) -> bool:
        """Whether it was sound; ends the run where it may not go on without it."""
        if bool(step.sound):
            self.skips.in_a_row = 0
            return True
        bad = step.losses.isfinite().logical_not().tolist()
        what = f"the loss is {step.losses[bad.index(True)].item()}" if any(bad) else ""
        batches = [batch for batch, is_bad in zip(step.batches, bad, strict=True) if is_bad or not any(bad)]
        rows, what = _rows(trainer, batches), what or f"the gradient norm is {step.norm.item()}"
        data = trainer.datamodule.hparams["train_path"] or "the training data"
        where = f"{rows_in_words(sorted(rows), 12)} of {data}"
        if self.policy == "skip" and self.skips.add(num_training_steps(trainer)):
            warn(f"step {step.number} is skipped: {what} in {where}")
        else:
            self._stop(trainer, what, step.number, f", in {where}")
        return False

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Look before anything is made of the weights; and so in the hooks below."""
        self._look(trainer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Look before a checkpoint is written, and have its counts right."""
        self._look(trainer)
        checkpoint["callbacks"][self.state_key] = self.state_dict()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Look while the epoch's batches are known; Lightning comes here also where `max_steps` ends it."""
        self._look(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Look at the validation loss; Lightning runs this before the checkpoints' hook."""
        loss = trainer.callback_metrics.get("val/loss") if trainer.state.fn == "fit" else None
        if loss is not None and not torch.isfinite(loss):
            self._stop(trainer, f"the validation loss is {loss.item()}", trainer.global_step)

    def _stop(self, trainer: Any, what: str, number: int, where: str = "") -> None:
        if (
            not trainer.is_global_zero
        ):  # one line is enough; with another code Lightning's launcher would cut it
            raise SystemExit(0)
        saved = [
            c.best_model_path
            for c in trainer.checkpoint_callbacks
            # A ModelCheckpoint names its file before it is written, and a look may end the run in between.
            if getattr(c, "best_model_path", None) and Path(c.best_model_path).is_file()
        ]
        left = f"the last good checkpoint is {saved[-1]}" if saved else "no checkpoint was saved yet"
        mend = "lower --model.learning_rate or set --trainer.gradient_clip_val=1"
        if self.skips.in_a_row:
            left = f"{self.skips}; {left}"
        elif self.policy == "stop":
            mend += ", or leave such steps out with --on_nonfinite=skip"
        step = f"at step {number}, epoch {trainer.current_epoch}"
        raise UserError(f"{what} {step}{where}; {left}; {mend}")

    def figures(self) -> dict[str, float]:
        """The count under its tag, for `metrics.json`, where steps may be skipped."""
        return {"train/skipped_steps": self.skips.count} if self.policy == "skip" else {}

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"count": self.skips.count, "in_a_row": self.skips.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        self.skips.count, self.skips.in_a_row = state_dict["count"], state_dict["in_a_row"]


def _rows(trainer: Any, batches: Sequence[int]) -> list[int]:
    """All processes' rows, counted from 1 in their file, of these training batches of the present epoch."""
    plan = trainer.train_dataloader.batch_sampler.plan(trainer.current_epoch)
    source_rows = trainer.datamodule.splits["train"].source_rows
    return [int(source_rows[i]) for batch in batches for i in plan[batch]]
