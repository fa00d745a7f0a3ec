"""When the next timed save is due, and which settings may change when a run is resumed."""

import time
from pathlib import Path
from typing import Any

from lit_ft.errors import UserError, as_written

INTERVAL_SECONDS = 300.0  # the most work that SIGKILL or a power cut costs
MOST_SHARE = 0.03  # of the time may go into timed saves: on a slow disk they are rarer


class SaveClock:
    """Says when the next timed save is due; slow saves lengthen the interval."""

    def __init__(self) -> None:
        self.interval = INTERVAL_SECONDS
        self.restart()

    def restart(self) -> None:
        """Count the interval from now on."""
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether a save is due."""
        return time.monotonic() - self._saved_at >= self.interval

    def saved(self, begun: float) -> None:
        """Note a save that has just ended and began at `begun`, in seconds of `time.monotonic`."""
        self.restart()
        self.interval = max(INTERVAL_SECONDS, (self._saved_at - begun) / MOST_SHARE)


# What may change when a run is resumed: none of it affects the weights.
HARMLESS = {
    "data": {
        "predict_path", "predict_output", "predict_probabilities", "test_path", "test_split", "num_workers",
        "eval_batch_size", "slice_columns",
    },
    "model": {"allow_pickle"},
    "trainer": {
        "accelerator", "callbacks", "default_root_dir", "detect_anomaly", "enable_checkpointing", "logger",
        "enable_model_summary", "enable_progress_bar", "limit_predict_batches", "limit_test_batches",
        "log_every_n_steps", "max_time", "num_sanity_val_steps", "profiler",
    },
}  # fmt: skip


def lasting(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that must not change when a run is resumed."""
    return {
        group: {k: v for k, v in values.items() if k not in HARMLESS.get(group, ())}
        if isinstance(values, dict)
        else values
        for group, values in settings.items()
    }


def refuse_other_settings(checkpoint: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run with other settings than it began with.

    Args:
        checkpoint: The opened checkpoint.
        settings: The present command's settings, nested as in the checkpoint.
        path: The checkpoint's path, for the message.
    """
    differing = []
    for group, now in settings.items():
        then = checkpoint["settings"].get(group)
        if not isinstance(now, dict):
            if then != now:
                differing.append(f"{group}={as_written(now)} (there {as_written(then)})")
            continue
        for key, value in now.items():
            if key not in HARMLESS.get(group, ()) and then.get(key) != value:
                differing.append(f"{group}.{key}={as_written(value)} (there {as_written(then.get(key))})")
    if differing:
        raise UserError(
            f"cannot resume {path} with other settings: {', '.join(differing)}; use the same ones, or "
            "leave out --ckpt_path to start a new run (from these weights: --model.pretrained=RUN/model)"
        )
