"""When the next timed save is due, and which settings may differ between a run and its resumption."""

import time
from pathlib import Path
from typing import Any

from lit_ft.errors import UserError

INTERVAL_SECONDS = 300.0  # the most work that a kill without a signal costs
MOST_SHARE = 0.03  # of the time, spent on saving by the clock: a slow disk saves less often


class SaveClock:
    """Says when the last save is too old; it begins anew with each, and asks for slow ones less often."""

    def __init__(self) -> None:
        self.interval = INTERVAL_SECONDS
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved_at >= self.interval

    def saved(self, begun: float) -> None:
        """A save has ended that began then, in seconds of `time.monotonic`."""
        self.restart()
        self.interval = max(INTERVAL_SECONDS, (self._saved_at - begun) / MOST_SHARE)


# What may differ between a run and its resumption: none of it changes a weight.
HARMLESS = {
    "data": {"predict_path", "predict_output", "test_path", "test_split", "num_workers", "eval_batch_size"},
    "model": {"allow_pickle"},
    "trainer": {
        "accelerator", "callbacks", "default_root_dir", "detect_anomaly", "enable_checkpointing", "logger",
        "enable_model_summary", "enable_progress_bar", "limit_predict_batches", "limit_test_batches",
        "log_every_n_steps", "max_time", "num_sanity_val_steps", "profiler",
    },
}  # fmt: skip


def lasting(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that a run and its resumption have in common."""
    return {
        group: {k: v for k, v in values.items() if k not in HARMLESS.get(group, ())}
        if isinstance(values, dict)
        else values
        for group, values in settings.items()
    }


def refuse_other_settings(checkpoint: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    """Refuse to go on with a run under other settings than it began with.

    Args:
        checkpoint: As opened.
        settings: Those of the present command, in the checkpoint's form.
        path: Where the checkpoint is, for the message.
    """
    differing = []
    for group, now in settings.items():
        then = checkpoint["settings"].get(group)
        if not isinstance(now, dict):
            if then != now:
                differing.append(f"{group}={now} (there {then})")
            continue
        for key, value in now.items():
            if key not in HARMLESS.get(group, ()) and then.get(key) != value:
                differing.append(f"{group}.{key}={value} (there {then.get(key)})")
    if differing:
        raise UserError(
            f"cannot resume {path} under other settings: {', '.join(differing)}; use the same ones, or "
            "leave out --ckpt_path to start a new run (from these weights: --model.pretrained=RUN/model)"
        )
