"""The user's own callbacks: each works, or is refused before data is read, with what to do instead."""

import difflib
from collections.abc import Sequence
from typing import Any

from lightning import Callback
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    DeviceStatsMonitor,
    GradientAccumulationScheduler,
    LearningRateFinder,
    LearningRateMonitor,
    ModelPruning,
    SpikeDetection,
    StochasticWeightAveraging,
    ThroughputMonitor,
    Timer,
)
from lightning.pytorch.utilities.model_helpers import is_overridden

from lit_ft.console import warn
from lit_ft.errors import UserError
from lit_ft.report.scores import OF_FIT

REFUSED: dict[type[Callback], str] = {
    LearningRateFinder: "the schedule keeps its initial rate; set --model.learning_rate",
    BatchSizeFinder: "the schedule counts steps of data.batch_size; set --data.batch_size, or limit the "
    "memory of a batch with --data.token_budget",
    StochasticWeightAveraging: "checkpoints and model/ would hold the weights before averaging, and the "
    "learning rate would leave its schedule; use EMAWeightAveraging",
    GradientAccumulationScheduler: "the schedule counts equal steps, and would not fall to 0; set "
    "--trainer.accumulate_grad_batches",
    BackboneFinetuning: "the model has no attribute backbone, and its schedule covers the weights that train "
    "from the first step; leave it out",
    ModelPruning: "a resumed run would not know what was pruned, and model/ holds the best checkpoint, "
    "from before the last pruning; prune model/ afterwards",
    SpikeDetection: "Lightning 2.6.6 cannot resume a run with it; --on_nonfinite=skip skips steps with a "
    "non-finite loss",
}
NEED_A_LOGGER = (LearningRateMonitor, DeviceStatsMonitor, ThroughputMonitor)
TRAINING = ("train/loss", "train/grad_norm", "train/learning_rate")
VALIDATION = {f"val/{score.name}": score for score in OF_FIT}


def as_list(callbacks: Any) -> list[Callback]:
    """A list of the callbacks; the parser accepts one, several or none."""
    if callbacks is None:
        return []
    return [callbacks] if isinstance(callbacks, Callback) else list(callbacks)


def check_callbacks(callbacks: Sequence[Callback], settings: Any, command: str) -> None:
    """Refuse callbacks that fail in the middle of a run, or do not do what they say.

    Args:
        callbacks: The user's callbacks.
        settings: The Trainer's parsed settings.
        command: The command; only for `fit` it matters what callbacks do during training.

    Raises:
        UserError: The callback, what is wrong with it, and what to set.
    """
    for callback in callbacks:
        name = type(callback).__name__
        if type(callback).__module__.startswith("lit_ft."):
            if name == "SignalAt":  # of verify-resume
                continue
            raise UserError(f"trainer.callbacks: fit adds {name} itself; leave it out")
        for kind, why in REFUSED.items():
            if isinstance(callback, kind):
                raise UserError(f"trainer.callbacks: {name} does not work here: {why}")
        if isinstance(callback, NEED_A_LOGGER) and settings.logger is False and command == "fit":
            raise UserError(
                f"trainer.callbacks: {name} needs a logger, found trainer.logger false; leave one of them out"
            )
    _check_keys(callbacks)
    if command == "fit":
        _check_timers(callbacks, settings)
        _check_monitors(callbacks, settings)


def _check_keys(callbacks: Sequence[Callback]) -> None:
    """Refuse two callbacks with one state key: a checkpoint has one place for their states."""
    keys: set[str] = set()
    for callback in callbacks:
        if not is_overridden("state_dict", callback, parent=Callback):
            continue
        if callback.state_key in keys:
            what = getattr(callback, "monitor", None)
            of = f" of {what}" if what else ""
            raise UserError(
                f"trainer.callbacks: found {type(callback).__name__}{of} twice, but a checkpoint keeps the "
                "state of one; leave out the other"
            )
        keys.add(callback.state_key)


def _check_timers(callbacks: Sequence[Callback], settings: Any) -> None:
    timers = [callback for callback in callbacks if isinstance(callback, Timer)]
    if timers and settings.max_time is not None:
        raise UserError("trainer.callbacks: found a Timer and --trainer.max_time; leave one of them out")
    for timer in timers:
        check_duration(timer)


def check_duration(timer: Timer) -> None:
    """Refuse a time limit that leaves no time to train."""
    left = timer.time_remaining()
    if left is not None and left <= 0:
        raise UserError("expected --trainer.max_time (DD:HH:MM:SS) above 0, found 0")


def _check_monitors(callbacks: Sequence[Callback], settings: Any) -> None:
    theirs = all(type(callback).__module__.startswith("lightning.") for callback in callbacks)
    epochs, every = settings.max_epochs, settings.check_val_every_n_epoch
    seldom = epochs not in (None, -1) and every is not None and every > epochs
    for callback in callbacks:
        figure, name = getattr(callback, "monitor", None), type(callback).__name__
        if not isinstance(figure, str):
            continue
        known = (*VALIDATION, *TRAINING)
        if figure not in known and theirs:  # a callback of the user may log others
            close = difflib.get_close_matches(figure.replace("_", "/", 1), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise UserError(f"trainer.callbacks: {name} monitors {figure!r}, which is not measured; {hint}")
        never = seldom or settings.limit_val_batches == 0
        if figure in VALIDATION and getattr(callback, "strict", True) and never:
            limit = "check_val_every_n_epoch" if seldom else "limit_val_batches"
            raise UserError(
                f"trainer.callbacks: {name} monitors {figure}, but there is no validation with "
                f"--trainer.{limit}={settings[limit]}; leave one of them out"
            )
        mode, right = getattr(callback, "mode", None), _mode(figure)
        if mode is not None and figure in known and right not in (None, mode):
            better = "higher" if right == "max" else "lower"
            warn(f"{name} has mode {mode}, but {figure} is better when it is {better}; set mode: {right}")


def _mode(figure: str) -> str | None:
    better = VALIDATION[figure].higher_is_better if figure in VALIDATION else None
    if better is None:
        return "min" if figure == "train/loss" else None
    return "max" if better else "min"
