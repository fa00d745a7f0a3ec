"""What `fit` and `sft` both write to TensorBoard: layout, settings, command; and the order of event files."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lit_ft.report.scores import CURVES
from lit_ft.report.tables import table


def layout(kind: str) -> dict[str, dict[str, list[Any]]]:
    """Category -> chart -> tags of a command. TensorBoard merges the layouts of all runs that it shows."""
    found: dict[str, dict[str, list[Any]]] = {}
    for curve in CURVES:
        if kind in curve.kinds:
            found.setdefault(curve.category, {})[curve.title] = ["Multiline", list(curve.lines.values())]
    return found


def begin(
    writer: SummaryWriter,
    kind: str,
    settings: dict[str, Any],
    names: Sequence[str],
    metrics: Sequence[str],
    texts: dict[str, str],
    step: int,
) -> None:
    """Write what is known before the first step: the layout of the curves, the settings and texts.

    The HPARAMS tab shows the last value of each metric's own curve. Lightning's `log_hyperparams` would give
    each metric a point of its own at step 0.

    Args:
        writer: The open event file.
        kind: `classifier` or `masked_lm`.
        settings: Flag -> value, from `tables.flat`.
        names: The settings that the HPARAMS tab shows.
        metrics: The tags that it shows.
        texts: Tag -> Markdown.
        step: 0, or the step of the checkpoint that the run resumes from.
    """
    writer.add_custom_scalars(layout(kind))
    shown = {name: _plain(settings[name]) for name in names if settings.get(name) is not None}
    for summary in hparams(shown, dict.fromkeys(metrics, 0.0)):
        writer._get_file_writer().add_summary(summary)
    for tag, text in texts.items():
        writer.add_text(tag, text, step)


def command_text(command: str, hardware: str, versions: dict[str, str]) -> dict[str, str]:
    """Tag and Markdown of the command that was given, and what it runs on."""
    rows = [("command", command), ("hardware", hardware), *versions.items()]
    return {"run/command_and_versions": table(("what", "value"), rows)}


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def wait_for_turn(folder: Path) -> None:
    """Wait, for a second at most, until a new event file sorts after the existing ones.

    TensorBoard reads the files of a folder in the order of their names: the second in which they were opened,
    then host, process and a count, all as text (`tensorboard.summary.writer.event_file_writer`). If two were
    opened within one second, that of the resumed run may sort first, and would not purge the older points.
    """
    now = time.time()
    if list(folder.glob(f"events.out.tfevents.{int(now):010d}.*")):
        time.sleep(int(now) + 1 - now)
