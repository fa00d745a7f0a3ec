"""What `fit` and `sft` both write to TensorBoard: layout, settings, command; and the order of event files."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from lit_ft.errors import shorten
from lit_ft.report.scores import CURVES
from lit_ft.report.tables import table


def layout(kind: str) -> dict[str, dict[str, list[Any]]]:
    """Category -> chart -> tags of a command. TensorBoard merges the layouts of all runs that it shows."""
    found: dict[str, dict[str, list[Any]]] = {}
    for curve in CURVES:
        if kind in curve.kinds:
            charts = found.setdefault(curve.category, {})
            for label, tag in curve.lines.items():
                title = curve.title if len(curve.lines) == 1 else f"{label} {curve.title}".strip()
                charts[title] = ["Multiline", [tag]]
    return found


MOST_LETTERS = 200  # of a setting in the HPARAMS tab
# What is no setting of the training, or follows from another.
UNTOLD = {
    *("name", "ckpt_path", "probes", "trial", "data.tokenizer", "data.seed"),
    *("data.predict_path", "data.predict_output"),
    *("trainer.logger", "trainer.enable_progress_bar", "trainer.default_root_dir"),
    *("trainer.log_every_n_steps", "logging_steps"),
}


def told_settings(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], always: Sequence[str]
) -> dict[str, Any]:
    """Flag -> value of the settings that the HPARAMS tab shows: `always`, and what differs from the default.

    Args:
        settings: The run's settings, nested as in its config.
        defaults: The same of a run without a config and flags.
        always: Flags that are shown in any case, unless they are null.
    """
    given, usual = _by_flag(settings), _by_flag(defaults)
    names = [*always, *(name for name in given if name not in always and name not in UNTOLD)]
    return {
        name: _plain(given[name])
        for name in names
        if given.get(name) is not None and (name in always or _plain(given[name]) != _plain(usual.get(name)))
    }


def _by_flag(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"data": {"seed": 1}}` -> `{"data.seed": 1}`; mappings within a group stay."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= (
            {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
        )
    return found


def begin(
    writer: SummaryWriter,
    kind: str,
    settings: Mapping[str, Any],
    texts: dict[str, str],
    step: int,
) -> None:
    """Write what is known before the first step: the layout of the curves, the settings and texts.

    The HPARAMS tab shows the last value of each curve. Lightning's `log_hyperparams` would give each metric a
    point of its own at step 0. No columns are written: TensorBoard 2.21 (hparams/backend_context.py) would
    take those of one run for all runs, and so makes them itself, what differs between the runs first.

    Args:
        writer: The open event file.
        kind: `classifier` or `masked_lm`.
        settings: Flag -> value, from `told_settings`: what the HPARAMS tab shows.
        texts: Tag -> Markdown.
        step: 0, or the step of the checkpoint that the run resumes from.
    """
    writer.add_custom_scalars(layout(kind))
    _, *session = hparams(dict(settings), {})  # without the first, the columns
    for summary in session:
        writer._get_file_writer().add_summary(summary)
    for tag, text in texts.items():
        writer.add_text(tag, text, step)


def command_text(command: str, hardware: str, versions: dict[str, str]) -> dict[str, str]:
    """Tag and Markdown of the command that was given, and what it runs on."""
    rows = [("command", command), ("hardware", hardware), *versions.items()]
    return {"run/command_and_versions": table(("what", "value"), rows)}


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, (bool, int, float)) else shorten(str(value), MOST_LETTERS)


def wait_for_turn(folder: Path) -> None:
    """Wait, for a second at most, until a new event file sorts after the existing ones.

    TensorBoard reads the files of a folder in the order of their names: the second in which they were opened,
    then host, process and a count, all as text (`tensorboard.summary.writer.event_file_writer`). If two were
    opened within one second, that of the resumed run may sort first, and would not purge the older points.
    """
    now = time.time()
    if list(folder.glob(f"events.out.tfevents.{int(now):010d}.*")):
        time.sleep(int(now) + 1 - now)
