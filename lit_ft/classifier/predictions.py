"""`predict`: the rows of the input in their order, each with what was predicted of it."""

import contextlib
import itertools
import os
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from lightning import Callback

from lit_ft import runs
from lit_ft.classifier.prediction_files import (
    CHUNK_ROWS,
    CUT,
    OURS,
    ROWS,
    Piece,
)
from lit_ft.data.formats import find_files
from lit_ft.data.splits import Split
from lit_ft.errors import UserError

OVERWRITE = "set --data.predict_output to another file, or --overwrite true"


class PredictionWriter(Callback):
    """Writes predictions as they come; the file gets its name only when it is complete.

    Batches of similar length arrive out of order, but only within a group (batching.GROUP_BATCHES), so the
    writer holds back no more rows than that. Each process writes its share of the input to a part file;
    process 0 joins them.

    Args:
        path: The file to write.
        answers: What is added to a row, such as `single_label.ClassAnswers`.
        suffix: The format: `.csv`, `.parquet` or `.jsonl`.
    """

    def __init__(self, path: Path, answers: Any, suffix: str = ".csv") -> None:
        self.path = path
        self.answers = answers
        self.format = ROWS[suffix]
        self._waiting: dict[int, list[Any]] = {}  # index in the split -> answer, probabilities (K,)
        self._nothing: tuple[np.ndarray, np.ndarray]  # those of no rows

    def _part(self, rank: int) -> Path:
        # Not the file's own name, which may be as long as the file system allows.
        return self.path.with_name(f".predictions-{crc32(os.fsencode(self.path.name)):08x}.part{rank}")

    def columns(self, input_columns: list[str]) -> dict[str, pa.DataType]:
        """The added columns and their types; a name that is taken gets a prefix, then a number as well."""
        columns = list(zip(self.answers.names, self.answers.types, strict=True))
        columns.insert(self.answers.num_fixed, (CUT, pa.bool_()))
        taken, names = {*input_columns}, {}
        for name, kind in columns:
            again = (f"{OURS}{name}_{number}" for number in itertools.count(2))
            free = next(n for n in itertools.chain((name, f"{OURS}{name}"), again) if n not in taken)
            taken.add(free)
            names[free] = kind
        return names

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Open this process's part."""
        self._split: Split = trainer.datamodule.splits["predict"]
        num_rows = len(self._split.source_rows)
        shares = np.array_split(np.arange(num_rows), trainer.world_size)
        mine = shares[trainer.global_rank]
        self._own = range(int(mine[0]), int(mine[-1]) + 1) if len(mine) else range(0)
        self._next = self._own.start if len(mine) else num_rows
        # Between the rows of the split are input rows without text. Each part ends where the next begins.
        ends = [int(self._split.source_rows[share[0]]) - 1 for share in shares[1:] if len(share)]
        bounds = [0, *ends, *([len(self._split.table)] * (trainer.world_size - len(ends)))]
        self._row, self._end = bounds[trainer.global_rank], bounds[trainer.global_rank + 1]
        self._cut = self._split.rows.were_cut(self._split.rows.positions)
        self._open(trainer.global_rank)

    def _open(self, rank: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = self._split.table
        self._file = self.format(self._part(rank), table, self.columns(list(table.column_names)), rank == 0)

    def write_header(self, split: Split) -> None:
        """Write a file without rows, for an input without rows."""
        self._split = split
        self._open(0)
        self._file.close()
        self._part(0).replace(self.path)

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch: `index` (B,), `predicted`, `probabilities` (B, K); write the rows that are next."""
        predicted, probabilities = (outputs[key].cpu().numpy() for key in ("predicted", "probabilities"))
        self._nothing = predicted[:0], probabilities[:0]
        for index, *row in zip(outputs["index"].tolist(), predicted, probabilities, strict=True):
            if index in self._own:  # false if no row was left for this process
                self._waiting[index] = row
        if len(self._waiting) >= CHUNK_ROWS:
            self._write_ready()

    def _write_ready(self, last: bool = False) -> None:
        """Write the input rows up to the first one whose prediction is missing."""
        source_rows = self._split.source_rows
        stop = self._next
        while stop in self._waiting:
            stop += 1
        end_row = self._end if last else (int(source_rows[stop - 1]) if stop > self._next else self._row)
        while self._row < end_row:
            chunk_end = min(self._row + CHUNK_ROWS, end_row)
            after = int(np.searchsorted(source_rows, chunk_end, side="right"))
            ready = range(self._next, after)
            rows = [self._waiting.pop(index) for index in ready]
            predicted, probabilities = self._nothing
            if rows:
                predicted, probabilities = (np.stack(values) for values in zip(*rows, strict=True))
            self.answers.count(predicted, probabilities)
            added = self.answers.columns(predicted, probabilities)
            added.insert(self.answers.num_fixed, self._cut[self._next : after])
            places = source_rows[self._next : after] - 1 - self._row
            self._file.write(Piece(self._row, chunk_end, places, added))
            self._row, self._next = chunk_end, after

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the rest; process 0 joins the parts."""
        self._write_ready(last=True)
        assert not self._waiting
        self._file.close()
        if trainer.world_size > 1:
            counts = torch.from_numpy(self.answers.counts).to(trainer.strategy.root_device)
            self.answers.counts = self.answers.joined(trainer.strategy.all_gather(counts).cpu().numpy())
        trainer.strategy.barrier("predictions")
        if trainer.global_rank == 0:
            parts = [self._part(rank) for rank in range(trainer.world_size)]
            self.format.join(parts)
            for part in parts[1:]:
                part.unlink()
            parts[0].replace(self.path)
        trainer.strategy.barrier("predictions joined")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Remove the part file."""
        if hasattr(self, "_file"):
            with contextlib.suppress(OSError, ValueError, pa.ArrowException):  # it may be what failed
                self._file.close()
            self._part(trainer.global_rank).unlink(missing_ok=True)


def check_output(path: Path, table: Dataset, inputs: list[str], run: Path | None, overwrite: bool) -> Path:
    """Refuse a path that cannot be written, or a file that must not be replaced.

    Args:
        path: The file to write.
        table: The input rows.
        inputs: The input files.
        run: The run folder of the checkpoint, or None.
        overwrite: Whether any file but the input may be replaced.

    Returns:
        The path with links resolved.
    """
    what = "data.predict_output"
    if path.is_dir():
        raise UserError(f"expected a file for {what}, found the folder {path}; name a .csv in it")
    # Renaming onto /dev/null would replace the device by a file; /dev/stdout may lead to a file.
    if path.exists() and not (path.is_file() and path.parent != Path("/dev")):
        raise UserError(f"expected a file for {what}, found the device or pipe {path}; name a .csv")
    if str(path).startswith("~") and not Path(path.parts[0]).exists():
        raise UserError(f"{what}={path}: there is no user of that name; correct it")
    if path.suffix.lower() not in ROWS:
        raise UserError(
            f"expected a .csv, .parquet or .jsonl for {what}, found {path}; set "
            f"--{what}={path.with_suffix('.csv')}"
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"expected a folder for {what}={path}, found that {folder} is a file")
    # The same file may have several names: by links, or on a file system that ignores case.
    if path.exists() and any(path.samefile(name) for name in inputs):
        raise UserError(f"{what}={path} is the input file; name another one")
    target = path.resolve()
    if not overwrite:
        _refuse_to_replace(path, target, table, run)
    return target


def _refuse_to_replace(path: Path, target: Path, table: Dataset, run: Path | None) -> None:
    own = None if run is None else run.resolve()
    other = next((folder for folder in target.parents if runs.is_run(folder) and folder != own), None)
    if other is not None:
        raise UserError(f"{path} is in the folder of another run, {runs.shown(other)}; {OVERWRITE}")
    if own is not None and own / runs.MODEL in target.parents:
        raise UserError(f"{path} is in model/, which is replaced as a whole; {OVERWRITE}")
    if own is not None and target.parent == own and target.name in runs.PER_TEXT.values():
        raise UserError(f"{path} is the name of a file that `fit`, `validate` or `test` writes; {OVERWRITE}")
    if target.exists() and not is_prediction_of(target, table, path.suffix.lower()):
        raise UserError(f"{path} exists, and is no prediction of the same input; {OVERWRITE}")


def is_prediction_of(path: Path, table: Dataset, suffix: str = ".csv") -> bool:
    """Whether a file is a prediction of these rows: their columns and values, then those of `predict`."""
    return ROWS[suffix].is_prediction_of(path, table)


def prediction_writer(
    settings: Any, run: Path | None, checkpoint: Path | None, model: Any, datamodule: Any
) -> PredictionWriter:
    """The callback of `predict` that writes the predictions.

    Args:
        settings: The settings of the command.
        run: The run folder of the checkpoint, or None.
        checkpoint: The checkpoint file.
        model: The classifier; it knows whether to calibrate, and the temperature.
        datamodule: The labels and the rows.

    Raises:
        UserError: Some rows would get no prediction, or the output cannot be written.
    """
    output = settings.data.predict_output
    if settings.trainer.limit_predict_batches is not None or settings.trainer.fast_dev_run:
        raise UserError(
            "predict writes every row: remove --trainer.limit_predict_batches and --trainer.fast_dev_run"
        )
    if output is None and run is None:
        raise UserError(
            f"{checkpoint} is not in a run folder: set --data.predict_output to a .csv, .parquet or .jsonl"
        )
    if model.calibrate and (why := model.kind.uncalibrated):
        raise UserError(
            f"--calibrate {why} with data.task={model.task.name} ({model.task.words}): remove --calibrate"
        )
    if model.calibrate and model.temperature is None:
        raise UserError(
            f"{checkpoint} was saved without a validation, so it has no temperature: remove --calibrate"
        )
    path = Path(os.path.expanduser(output)) if output else run / "predictions.csv"  # type: ignore[operator]
    inputs = find_files([settings.data.predict_path], "--data.predict_path")
    table = datamodule.splits["predict"].table
    target = check_output(path, table, inputs, run, settings.overwrite)
    everything = settings.data.predict_probabilities == "all"
    answers = model.kind.answers(model, everything)
    return PredictionWriter(target, answers, path.suffix.lower())
