"""What makes a resumed run the same run: random numbers by the step, settings in the checkpoint."""

from pathlib import Path
from typing import Any

import torch
from lightning import Callback

from lit_ft import runs


class StepSeed(Callback):
    """Seeds the random numbers of each training batch (dropout) from the seed and the batch's place.

    Nothing has to be saved, every process gets its own numbers, and a resumed run draws the same ones.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seed before the forward pass."""
        place = (self.seed * 1_000_003 + trainer.current_epoch) * 1_000_003 + batch_idx
        torch.manual_seed((place * 1009 + trainer.global_rank) % 2**63)


class RunSettings(Callback):
    """Keeps the run's settings in `config.yaml` and in each checkpoint, which alone tells how it was made.

    Args:
        settings: `data`, `model`, `trainer` and `seed_everything`, as plain values.
        config: The resolved config as YAML.
        path: The `config.yaml` to write.
    """

    def __init__(self, settings: dict[str, Any], config: str, path: Path) -> None:
        self.settings = settings
        self.config = config
        self.path = path

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write the config, now that nothing can be refused any more."""
        if trainer.is_global_zero:
            runs.write(self.path, self.config)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the key `settings`."""
        checkpoint["settings"] = self.settings
