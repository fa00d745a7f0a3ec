"""`test_predictions.parquet`, `fold_...` and `val_...`: what the model said of each text of a split.

`report` pairs runs by them (report/pairs.py has their columns), and people read them. N rows, C classes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from lightning import Callback

from lit_ft import runs
from lit_ft.classifier.dashboard import Dashboard
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.kinds import KINDS, Kind
from lit_ft.classifier.metrics import Outcomes
from lit_ft.classifier.slices import values_of_slices
from lit_ft.console import say, warn
from lit_ft.data.source import SplitName
from lit_ft.data.splits import Split
from lit_ft.data.targets import Labels
from lit_ft.data.text_columns import PAIR, TEXT, pairs_of
from lit_ft.errors import unwritable
from lit_ft.launcher import global_rank
from lit_ft.models.names import shown_name
from lit_ft.report.pairs import note_of, with_note

GROUP_ROWS, GROUP_VALUES = 10_000, 4_000_000  # of a row group, which is what is held in memory at a time
HASH_OF_PAIR = "xxh3_64 of the xxh3_64 of both texts in UTF-8, 8 bytes each in native order"
# Prefix of the tags -> split
SPLIT: dict[str, SplitName] = {"test": "test", "fold": "fold", "val": "validation"}


def write_per_text(
    run: Path,
    prefix: str,
    outcomes: Outcomes,
    datamodule: YelpDataModule,
    step: int,
    model: Any,
) -> Path:
    """Write what was said of each text, in the order of the input, and return the path.

    A write that fails leaves no file: the one before has other figures.

    Args:
        run: The run folder.
        prefix: `val`, `fold` or `test`.
        outcomes: The logits and labels of the texts that were measured.
        datamodule: The texts.
        step: The step of the weights.
        model: It holds the temperature that calibrates, which the probabilities in the file are without, or
            the thresholds of labels.
    """
    split, labels = datamodule.splits[SPLIT[prefix]], datamodule.labels
    assert labels is not None
    names, kind = list(labels.names), KINDS[labels.task.report]
    note = {
        "kind": labels.task.report,
        "split": SPLIT[prefix],
        **_origin(datamodule, SPLIT[prefix]),
        **({"part": split.part} if split.part else {}),
        "fingerprint": split.fingerprint,
        "step": step,
        "labels": names,
        kind.fitted: getattr(model, kind.fitted),
        "max_tokens": datamodule.hparams["max_tokens"],
        "text_hash": "xxh3_64 of the text in UTF-8" if pairs_of(split.texts) is None else HASH_OF_PAIR,
    }
    rows = max(1, min(GROUP_ROWS, GROUP_VALUES // len(names)))
    schema = with_note(_columns(split, outcomes, np.arange(0), labels, kind).schema, note)
    path = run / runs.PER_TEXT[prefix]
    try:
        with runs.written_whole(path) as file, pa.parquet.ParquetWriter(file, schema) as writer:
            for start in range(0, len(outcomes.labels), rows):
                group = np.arange(start, min(start + rows, len(outcomes.labels)))
                writer.write_table(_columns(split, outcomes, group, labels, kind).cast(schema))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _origin(datamodule: YelpDataModule, split: SplitName) -> dict[str, Any]:
    """Where the texts come from, without what leads to a folder on this machine."""
    source = datamodule.text_source
    held_out = source.origin(split) is None
    named: SplitName = "train" if held_out else split
    where = source.facts(named)
    shown = where["where"] if where["from_hub"] else _shown(str(where["where"]))
    return {"file": shown, "held_out": held_out}


def _shown(where: str) -> str:
    path = Path(where)
    if path.is_absolute() or where.startswith("~"):
        path = path.expanduser()
        return str(runs.shown(path)) if path.is_relative_to(Path.cwd()) else path.name
    return path.name if ".." in path.parts else shown_name(where)


def _columns(split: Split, outcomes: Outcomes, group: np.ndarray, labels: Labels, kind: Kind) -> pa.Table:
    """The columns of some rows of the outcomes, (G,) positions."""
    index = outcomes.index[group]
    places = np.searchsorted(split.rows.positions, index)  # in the split, whose rows are in the input's order
    columns: dict[str, Any] = {
        "row": pa.array(split.source_rows[places], pa.int64()),
        "text_hash": pa.array(split.keys[places], pa.uint64()),
        **{name: _texts(split, name, index) for name in (TEXT, PAIR) if name in split.texts.column_names},
        "label": labels.shown(split.labels_of(index)),
        "predicted": labels.shown(outcomes.predicted[group]),
        **kind.columns(outcomes, group, labels),
    }
    losses = labels.task.row_losses(outcomes.logits[group], outcomes.labels[group])
    columns["loss"] = pa.array(losses.astype(np.float32))
    columns["cut"] = pa.array(split.rows.were_cut(index))
    for values in values_of_slices(split, index):
        names_of = [*values.names, None]  # -1, no value, is the last
        columns[f"slice_{values.column}"] = pa.array([names_of[code] for code in values.codes], pa.string())
    return pa.table(columns)


def _texts(split: Split, name: str, index: np.ndarray) -> pa.ChunkedArray:
    """The texts at these positions, ascending; taken from each chunk, as `take` would join them all first."""
    column = split.texts.data.column(name)
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    parts = []
    for k in range(len(ends)):
        start = ends[k] - len(column.chunk(k))
        low, high = np.searchsorted(index, [start, ends[k]])
        if low < high:
            parts.append(column.chunk(k).take(pa.array(index[low:high] - start)))
    return pa.chunked_array(parts, pa.string())


class BestTexts(Callback):
    """Writes `val_predictions.parquet` whenever a validation is the best so far.

    A file that cannot be written does not end the run: it is told, and `keep_current` tells what is missing.

    Args:
        run: The run folder.
        dashboard: It knows which validation is the best.
    """

    def __init__(self, run: Path, dashboard: Dashboard) -> None:
        self.run = run
        self.dashboard = dashboard

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Write, by process 0, which has the outcomes of all."""
        unwanted = trainer.sanity_checking or trainer.fast_dev_run or trainer.state.fn != "fit"
        if unwanted or global_rank() != 0 or "val" not in pl_module.outcomes:
            return
        step = trainer.global_step
        if not self.dashboard.is_best(step):
            return
        try:
            outcomes = pl_module.outcomes["val"]
            write_per_text(self.run, "val", outcomes, trainer.datamodule, step, pl_module)
        except OSError as error:
            if (problem := unwritable(error)) is None:
                raise
            reason = problem.partition(":")[0].partition(", working in")[0]
            warn(f"{self.run / runs.PER_TEXT['val']} could not be written ({reason}); the run continues")


def keep_current(run: Path, step: int, which: str) -> None:
    """Remove the files of other weights than those that a fit exports, and say what brings them back.

    Args:
        run: The run folder.
        step: The step of the exported weights.
        which: The checkpoint that holds them: `best`, or `last` if they were not validated.
    """
    checkpoint = run / runs.CHECKPOINTS / f"{which}.ckpt"
    for prefix, name in runs.PER_TEXT.items():
        path, command = run / name, "validate" if prefix == "val" else "test"
        again = f"`{command} --ckpt_path {checkpoint}` writes it"
        if path.is_file() and (found := note_of(path).get("step")) != step:
            path.unlink()
            kind = "cannot be read" if found is None else f"was of step {found}, model/ is of step {step}"
            say(f"{path} {kind}: removed; {again}")
        elif prefix == "val" and which == "best" and not path.is_file():
            say(f"there is no {path}; {again}")
