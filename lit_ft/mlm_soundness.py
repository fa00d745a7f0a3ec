"""Whether a masked-LM run is still sound: its figures are numbers, its newest checkpoint is whole."""

import math
import shutil
from pathlib import Path

from lit_ft.console import warn
from lit_ft.errors import UserError
from lit_ft.mlm_resume import PREFIX, fault_of, newest_checkpoint


def check_finite(what: str, value: float, step: int, checkpoints: Path) -> None:
    """Stop a run whose figure is no number.

    Args:
        what: The figure, for the message.
        value: It, the same on all processes.
        step: Optimizer steps taken so far.
        checkpoints: The run's folder of them.
    """
    if math.isfinite(value):
        return
    good = newest_checkpoint(checkpoints, before=step)  # one of this very step holds the weights that failed
    if good is None:
        advice = "no earlier checkpoint was saved; lower --model.learning_rate"
    else:
        advice = (
            f"the last good checkpoint is {good}; lower --model.learning_rate, and start again or from "
            f"there with --model.pretrained={good}"
        )
    raise UserError(f"{what} is {value} at step {step}; {advice}")


def discard_unfinished(checkpoints: Path, step: int) -> None:
    """Remove a checkpoint that was not written whole, for a full disk needs room; say which one is left."""
    path = checkpoints / f"{PREFIX}{step}"
    if not path.is_dir() or fault_of(path) is None:
        return
    shutil.rmtree(path, ignore_errors=True)
    good = newest_checkpoint(checkpoints)
    left = f"the last good checkpoint is {good}" if good else f"there is none yet in {checkpoints}"
    warn(f"{path} could not be written and is removed; {left}")
