"""What `fit` and `sft` write to TensorBoard in the same way: the layout, the settings, the event files."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

Layout = dict[str, dict[str, list[Any]]]

# Category -> chart -> tags. TensorBoard merges the layouts of all runs that it shows.
_OPTIMIZER: Layout = {
    "Optimizer": {
        "learning rate": ["Multiline", ["train/learning_rate"]],
        "gradient norm, before clipping": ["Multiline", ["train/grad_norm"]],
    },
    "Throughput": {
        "real tokens a second": ["Multiline", ["train/tokens_per_second"]],
        "samples a second": ["Multiline", ["train/samples_per_second"]],
        "share of computed tokens that are real": ["Multiline", ["train/real_share"]],
    },
    "Memory": {"peak, in GB": ["Multiline", ["train/peak_memory_gb"]]},
}
_LOSS: Layout = {"Loss": {"training and validation": ["Multiline", ["train/loss", "val/loss"]]}}
CLASSIFIER_LAYOUT: Layout = {
    **_LOSS,
    "Accuracy": {
        "accuracy and macro F1": ["Multiline", ["val/accuracy", "val/macro_f1"]],
        "calibration error, before and after": ["Multiline", ["val/ece", "val/ece_calibrated"]],
    },
    **_OPTIMIZER,
}
MASKED_LM_LAYOUT: Layout = {
    **_LOSS,
    "Masked tokens": {
        "share guessed right": ["Multiline", ["train/masked_accuracy", "val/masked_accuracy"]],
        "perplexity": ["Multiline", ["val/perplexity"]],
    },
    **_OPTIMIZER,
}


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under their flags: `{"data": {"seed": 1}}` -> `{"data.seed": 1}`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict) and value
        found |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def write_hparams(
    writer: SummaryWriter, settings: dict[str, Any], names: Sequence[str], metrics: Sequence[str]
) -> None:
    """Enter the run into the HPARAMS tab, which shows the last value of each metric's own curve.

    Not Lightning's `log_hyperparams`, which gives each metric a point of its own at step 0.

    Args:
        writer: Of the run folder.
        settings: As of `flat`.
        names: The settings that matter.
        metrics: Tags.
    """
    shown = {name: _plain(settings[name]) for name in names if settings.get(name) is not None}
    for summary in hparams(shown, dict.fromkeys(metrics, 0.0)):
        writer._get_file_writer().add_summary(summary)


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def wait_for_turn(folder: Path) -> None:
    """Wait, for a second at most, until a new event file will be read after those that are there.

    TensorBoard reads a folder's files in the order of their names: first the second of their start, then the
    host, the process and a count, all as text (`tensorboard.summary.writer.event_file_writer`). Of two that
    began within one second the file of the resumed run may come first; what it should hide would be shown.
    """
    now = time.time()
    if list(folder.glob(f"events.out.tfevents.{int(now):010d}.*")):
        time.sleep(int(now) + 1 - now)
