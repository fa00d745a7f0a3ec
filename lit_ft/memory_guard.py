"""Which batch a Trainer is at, for the line that says where the memory ran out."""

from typing import Any

from lightning import Callback

from lit_ft.memory import BUDGET_FLAG, EVALUATION_FLAG, TRAINING_FLAG, LastBatch


class MemoryGuard(Callback, LastBatch):
    """Notes each batch of a Trainer."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note a batch of the training."""
        self.note(batch, _flag(trainer, TRAINING_FLAG), getattr(pl_module, "step_tokens", None))

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note a batch that is only measured."""
        self.note(batch, _flag(trainer, EVALUATION_FLAG))

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start


def _flag(trainer: Any, without_budget: str) -> str:
    return BUDGET_FLAG if trainer.datamodule.hparams.get("token_budget") else without_budget
