"""How fast a fit is, how much of it is padding, what it takes: as curves, and summed over the run."""

import time
from typing import Any

import torch
from lightning import Callback

from lit_ft.machine import peak_memory_gb

COUNTS = ("samples", "tokens", "computed_tokens")


class Throughput(Callback):
    """Counts samples and tokens of the training steps, validation and checkpoints left out.

    The tokens' count stays on the batch's device until a point is logged, so that nothing waits for it.
    Counts and seconds go on after a resume.

    Attributes:
        totals: `samples`, `tokens` (real ones), `computed_tokens` (with padding) and `seconds` of the run so
            far, over all processes once training has ended.
    """

    def __init__(self) -> None:
        self.totals: dict[str, float] = dict.fromkeys((*COUNTS, "seconds"), 0)
        self._window: dict[str, Any] = dict.fromkeys(COUNTS, 0)
        self._seconds = 0.0  # of the window
        self._since: float | None = None
        self._device: str | None = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock where training begins or goes on."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log the window's figures where Lightning logs its own."""
        mask = batch["attention_mask"]
        computed = pl_module.step_tokens or mask.numel()
        for name, count in zip(COUNTS, (len(mask), mask.sum(), computed), strict=True):
            self._window[name] = self._window[name] + count
        now = time.perf_counter()
        self._seconds += now - (self._since or now)
        self._since = now
        steps, every = trainer.global_step, trainer.log_every_n_steps  # 0: Lightning logs no steps
        if steps and every and steps % every == 0 and not trainer.fit_loop._should_accumulate():
            self._close_window(trainer, pl_module)

    def _close_window(self, trainer: Any, pl_module: Any) -> None:
        samples, tokens, computed = (int(self._window[name]) for name in COUNTS)
        seconds = max(self._seconds, 1e-9)
        figures = {
            "train/samples_per_second": samples * trainer.world_size / seconds,
            "train/tokens_per_second": tokens * trainer.world_size / seconds,
            "train/real_share": tokens / max(computed, 1),
            "train/peak_memory_gb": peak_memory_gb(trainer.strategy.root_device.type),
        }
        for logger in trainer.loggers:
            # Lightning numbers its points by the steps before the batch; a resume hides what comes after.
            logger.log_metrics(figures, step=trainer.global_step - 1)
        self._add_window()

    def _add_window(self) -> None:
        for name in COUNTS:
            self.totals[name] += int(self._window[name])
        self.totals["seconds"] += self._seconds
        self._window, self._seconds = dict.fromkeys(COUNTS, 0), 0.0

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock."""
        self._since = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Stop the clock, also where a checkpoint is saved between two validations."""
        self._since = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Sum up, over all processes."""
        self._device = trainer.strategy.root_device.type
        self._add_window()
        if trainer.world_size > 1:
            counts = torch.tensor([self.totals[name] for name in COUNTS], dtype=torch.float64)
            counts = trainer.strategy.reduce(counts.to(trainer.strategy.root_device), reduce_op="sum")
            self.totals |= dict(zip(COUNTS, counts.tolist(), strict=True))

    def figures(self) -> dict[str, float]:
        """The run's figures under their tags, for `metrics.json`."""
        total = self.totals
        return {
            "train/seconds": total["seconds"],
            "train/samples": int(total["samples"]),
            "train/tokens": int(total["tokens"]),
            "train/samples_per_second": total["samples"] / max(total["seconds"], 1e-9),
            "train/tokens_per_second": total["tokens"] / max(total["seconds"], 1e-9),
            "train/real_share": total["tokens"] / max(total["computed_tokens"], 1),
            "train/peak_memory_gb": peak_memory_gb(self._device),
        }

    def state_dict(self) -> dict[str, Any]:
        """The counts, as plain values."""
        window = [int(self._window[name]) for name in COUNTS]
        return {"totals": self.totals, "window": window, "seconds": self._seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        self.totals = dict(state_dict["totals"])
        self._window = dict(zip(COUNTS, state_dict["window"], strict=True))
        self._seconds = state_dict["seconds"]
