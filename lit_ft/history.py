"""What the losses did, epoch by epoch, across resumes; drawn as `loss.png`."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from lit_ft.figures import draw_losses


def _widest(device: torch.device) -> torch.dtype:
    """The widest float that a device computes: Apple's GPUs know no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class LossHistory(Callback):
    """Keeps the mean training loss of each epoch and the metrics of each validation.

    Attributes:
        train: One `{"epoch", "loss"}` an epoch that has ended; `epoch` counts from 1.
        validation: One `{"epoch", "step", "val/...": ...}` a validation; `epoch` may be a fraction.
    """

    def __init__(self) -> None:
        self.train: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self._sum: torch.Tensor | float = 0.0  # of losses, weighted by samples
        self._num_samples: torch.Tensor | int = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add a batch's loss; it stays on its device, so that nothing waits for it.

        One that is no number is of a step that was skipped (soundness.py) and left out here too.
        """
        # Lightning hands out the loss divided for accumulation (loops/optimization/automatic.py).
        loss = outputs["loss"].to(_widest(outputs["loss"].device)) * trainer.accumulate_grad_batches
        num_samples = loss.isfinite() * len(batch["labels"])
        self._sum = self._sum + loss.nan_to_num(posinf=0, neginf=0) * num_samples
        self._num_samples = self._num_samples + num_samples

    def _totals(self, trainer: Any) -> tuple[float, float]:
        """The sum of losses and the number of samples, over all processes."""
        totals = torch.tensor([float(self._sum), float(self._num_samples)], dtype=torch.float64)
        if trainer.world_size > 1:
            totals = trainer.strategy.reduce(totals.to(trainer.strategy.root_device), reduce_op="sum")
        return float(totals[0]), float(totals[1])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the epoch."""
        total, num_samples = self._totals(trainer)
        if num_samples:
            self.train.append({"epoch": trainer.current_epoch + 1, "loss": total / num_samples})
            for logger in trainer.loggers:
                logger.log_metrics({"train/epoch_loss": total / num_samples}, step=trainer.global_step)
        self._sum, self._num_samples = 0.0, 0

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the metrics of a validation inside a fit."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        done = (trainer.fit_loop.epoch_loop.batch_progress.current.ready) / trainer.num_training_batches
        self.validation.append({"epoch": trainer.current_epoch + done, "step": trainer.global_step, **values})

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain values; of the open epoch this process's part."""
        return {
            "train": self.train,
            "validation": self.validation,
            "sum": float(self._sum),
            "num_samples": int(self._num_samples),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        self.train, self.validation = list(state_dict["train"]), list(state_dict["validation"])
        self._sum, self._num_samples = state_dict["sum"], state_dict["num_samples"]

    def draw(self, path: Path) -> None:
        """Write the picture of both losses over the epochs."""
        draw_losses(path, self.train, self.validation)
