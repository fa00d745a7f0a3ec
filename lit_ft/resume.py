"""What makes a resumed run the same run: random numbers by the step, settings in the checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import EarlyStopping, Timer

from lit_ft import runs
from lit_ft.console import say
from lit_ft.history import LossHistory
from lit_ft.schedule import num_training_steps


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


class EarlyEnd(Callback):
    """A run that a callback has stopped before its schedule's end stops there again when it is resumed.

    Lightning 2.6.6 keeps neither `should_stop` nor the figures that callbacks look at: what they do at the
    end of an epoch, which comes after its last checkpoint, they would do without them in the resumed run.


    Give it behind the user's callbacks.

    Args:
        callbacks: The user's.
        history: Of the run.
        same: Whether a resumed run has the callbacks and the time that it began with. Others decide anew.
    """

    def __init__(self, callbacks: Sequence[Callback], history: LossHistory, same: bool) -> None:
        self.stopping = [c for c in callbacks if isinstance(c, (EarlyStopping, Timer))]
        self.history = history
        self.same = same
        self._patience = {c: c.patience for c in callbacks if isinstance(c, EarlyStopping)}
        self._then: dict[str, Any] = {}
        self._asked = False  # to stop
        self._ended = False  # before this process began
        self._words = ""

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the figures, and whether the run ends here."""
        figures = {name: value.detach().cpu().clone() for name, value in trainer.callback_metrics.items()}
        state = {"figures": figures, "stopped": self._asked or trainer.should_stop}
        checkpoint["callbacks"][self.state_key] = state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them for the training's start."""
        self._then = state_dict

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Learn whether the run has ended; not yet by `should_stop`: the epoch's end would be left out."""
        for callback, patience in self._patience.items():
            callback.patience = patience  # not the checkpoint's, which Lightning puts in its place
        self._ended = trainer.should_stop or (self.same and bool(self._then.get("stopped")))
        trainer.should_stop = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Give the figures back; where the run has ended, end it as it did."""
        trainer._logger_connector._callback_metrics.update(
            {name: value.to(pl_module.device) for name, value in self._then.get("figures", {}).items()}
        )
        if self._ended:
            self._asked = trainer.should_stop = True
            if trainer.fit_loop._can_stop_early:  # Lightning then leaves the loop at once
                self.history.on_train_epoch_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let an accumulation window come to its end: no checkpoint holds its gradients."""
        self._asked = self._asked or trainer.should_stop
        trainer.should_stop = self._asked and not trainer.fit_loop._should_accumulate()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """As after a batch."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.on_train_batch_end(trainer, pl_module, None, None, 0)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Put into words what a curve alone would not say."""
        step, total = trainer.global_step, num_training_steps(trainer)
        if not trainer.should_stop or step >= total:
            return
        by, rate = self._by(), trainer.optimizers[0].param_groups[0]["lr"]
        warm_up = ", in its warm-up" if step < int(total * pl_module.hparams["warmup_share"]) else ""
        self._words = (
            f"stopped at step {step} of {total} by {by}: the learning rate is at {rate:.3g}{warm_up}, "
            f"and not down to 0; --trainer.max_steps={step} would end its schedule there"
        )
        if self._ended:
            self._words += "; nothing was left to train: to go on, change or leave out what stopped it"

    def tell(self) -> None:
        """Say it."""
        if self._words:
            say(self._words)

    def _by(self) -> str:
        for callback in self.stopping:
            if isinstance(callback, Timer):
                left = callback.time_remaining()
                if left is not None and left <= 0:
                    return "the time limit (trainer.max_time or a Timer)"
            elif callback.stopping_reason_message:
                return (
                    f"EarlyStopping ({callback.stopping_reason_message.split(' Signaling')[0].rstrip('.')})"
                )
        return "a callback"
