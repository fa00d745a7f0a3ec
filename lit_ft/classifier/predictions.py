"""`predictions.csv`: the input's rows in the input's order, with what the model says of each."""

import csv
import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from datasets import Dataset
from lightning import Callback

from lit_ft import runs
from lit_ft.data.files import find_files
from lit_ft.data.splits import Split
from lit_ft.errors import UserError

CHUNK_ROWS = 1000  # rows of the input read at a time
PREDICTED, PROBABILITY = "predicted", "probability_"
OURS = "lit_ft_"  # before the name of a column that the input has already
OVERWRITE = "set --data.predict_output to another file, or --overwrite true"


class PredictionWriter(Callback):
    """Writes predictions as they come; the file appears under its name only when it is complete.

    Batches of like length arrive out of order, but only within a stretch (batching.GROUP_BATCHES): the
    writer holds back no more rows than that. Each process writes one stretch of the input to a part
    file; the first one joins them.

    Args:
        path: The file to write.
        label_names: Display names of the classes, (C,).
    """

    def __init__(self, path: Path, label_names: tuple[str, ...]) -> None:
        self.path = path
        self.label_names = label_names
        self._waiting: dict[int, np.ndarray] = {}  # index in the split -> probabilities (C,)

    def _part(self, rank: int) -> Path:
        # Not by the file's own name, which may be as long as a file system takes.
        return self.path.with_name(f".predictions-{crc32(os.fsencode(self.path.name)):08x}.part{rank}")

    def columns(self, input_columns: list[str]) -> list[str]:
        """Names of the added columns; one that the input already has gets a prefix, then a number, too."""
        added = [PREDICTED, "confidence", *(f"{PROBABILITY}{name}" for name in self.label_names)]
        taken, names = {*input_columns}, []
        for name in added:
            again = (f"{OURS}{name}_{number}" for number in itertools.count(2))
            free = next(n for n in itertools.chain((name, f"{OURS}{name}"), again) if n not in taken)
            taken.add(free)
            names.append(free)
        return names

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Open this process's part."""
        self._split: Split = trainer.datamodule.splits["predict"]
        num_rows = len(self._split.source_rows)
        shares = np.array_split(np.arange(num_rows), trainer.world_size)
        mine = shares[trainer.global_rank]
        self._own = range(int(mine[0]), int(mine[-1]) + 1) if len(mine) else range(0)
        self._next = self._own.start if len(mine) else num_rows
        # Input rows without text stand between those of the split; each part ends where the next begins.
        ends = [int(self._split.source_rows[share[0]]) - 1 for share in shares[1:] if len(share)]
        bounds = [0, *ends, *([len(self._split.table)] * (trainer.world_size - len(ends)))]
        self._row, self._end = bounds[trainer.global_rank], bounds[trainer.global_rank + 1]
        self._open(trainer.global_rank)

    def _open(self, rank: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part(rank).open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        names = list(self._split.table.column_names)
        if rank == 0:
            self._writer.writerow([*names, *self.columns(names)])

    def write_header(self, split: Split) -> None:
        """All there is to write of an input without rows."""
        self._split = split
        self._open(0)
        self._file.close()
        self._part(0).replace(self.path)

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take up a batch: `index` (B,), `probabilities` (B, C); write what is next in order."""
        probabilities = outputs["probabilities"].cpu().numpy()
        for index, row in zip(outputs["index"].tolist(), probabilities, strict=True):
            if index in self._own:  # not so where no row is left for this process
                self._waiting[index] = row
        if len(self._waiting) >= CHUNK_ROWS:
            self._write_ready()

    def _write_ready(self, last: bool = False) -> None:
        """Write input rows up to the first whose prediction has not come yet."""
        source_rows = self._split.source_rows
        stop = self._next
        while stop in self._waiting:
            stop += 1
        end_row = self._end if last else (int(source_rows[stop - 1]) if stop > self._next else self._row)
        while self._row < end_row:
            chunk_end = min(self._row + CHUNK_ROWS, end_row)
            columns = self._split.table[self._row : chunk_end]
            for k, values in enumerate(zip(*columns.values(), strict=True), start=self._row):
                added: list[str] = [""] * (2 + len(self.label_names))  # a row without text
                if self._next < len(source_rows) and source_rows[self._next] == k + 1:
                    row = self._waiting.pop(self._next)
                    best = int(row.argmax())
                    added = [self.label_names[best], f"{row[best]:.6f}", *(f"{p:.6f}" for p in row)]
                    self._next += 1
                self._writer.writerow([*values, *added])
            self._row = chunk_end

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the rest; the first process joins the parts."""
        self._write_ready(last=True)
        assert not self._waiting
        self._file.close()
        trainer.strategy.barrier("predictions")
        if trainer.global_rank == 0:
            first = self._part(0)
            with first.open("ab") as whole:
                for rank in range(1, trainer.world_size):
                    with self._part(rank).open("rb") as part:
                        shutil.copyfileobj(part, whole)
                    self._part(rank).unlink()
            first.replace(self.path)
        trainer.strategy.barrier("predictions joined")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave no part behind."""
        if hasattr(self, "_file"):
            self._file.close()
            self._part(trainer.global_rank).unlink(missing_ok=True)


def check_output(path: Path, table: Dataset, inputs: list[str], run: Path | None, overwrite: bool) -> Path:
    """Refuse a place where no file can be written, or a file that this must not replace.

    Args:
        path: The file to write.
        table: The rows that are read.
        inputs: The files that they come from.
        run: The checkpoint's run folder, where it lies in one.
        overwrite: Whether any file may be replaced that is not read.

    Returns:
        The file itself, where `path` is a link.
    """
    what = "data.predict_output"
    if path.is_dir():
        raise UserError(f"expected a file for {what}, found the folder {path}; name a .csv in it")
    # Renaming onto /dev/null would put a file in its place; /dev/stdout may lead to one.
    if path.exists() and not (path.is_file() and path.parent != Path("/dev")):
        raise UserError(f"expected a file for {what}, found the device or pipe {path}; name a .csv")
    if str(path).startswith("~") and not Path(path.parts[0]).exists():
        raise UserError(f"{what}={path}: there is no user of that name; mend it")
    if path.suffix.lower() != ".csv":
        raise UserError(
            f"expected a .csv for {what}, found {path}; predict writes no other format: set "
            f"--{what}={path.with_suffix('.csv')}"
        )
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"expected a folder for {what}={path}, found that {folder} is a file")
    # The same file may have other names: by links, on a disk that does not tell capitals apart.
    if path.exists() and any(path.samefile(name) for name in inputs):
        raise UserError(f"{what}={path} is the file that is read; name another one")
    target = path.resolve()
    if not overwrite:
        _refuse_to_replace(path, target, table, run)
    return target


def _refuse_to_replace(path: Path, target: Path, table: Dataset, run: Path | None) -> None:
    own = None if run is None else run.resolve()
    other = next((folder for folder in target.parents if runs.is_run(folder) and folder != own), None)
    if other is not None:
        raise UserError(f"{path} lies in the folder of another run, {runs.shown(other)}; {OVERWRITE}")
    if own is not None and own / runs.MODEL in target.parents:
        raise UserError(f"{path} lies in model/, which is written anew as a whole; {OVERWRITE}")
    if target.exists() and not is_prediction_of(target, table):
        raise UserError(f"{path} is there, and is no prediction of the same input; {OVERWRITE}")


def is_prediction_of(path: Path, table: Dataset) -> bool:
    """Whether a file is what `predict` writes of these rows: their columns and values, and then its own."""
    names = list(table.column_names)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.field_size_limit(1 << 30)
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            added = [re.sub(rf"^{OURS}", "", name) for name in header[len(names) :]]
            if header[: len(names)] != names or len(added) < 2 or not added[0].startswith(PREDICTED):
                return False
            if not all(name.startswith(PROBABILITY) for name in added[2:]):
                return False
            for start in range(0, len(table), CHUNK_ROWS):
                for values in zip(*table[start : start + CHUNK_ROWS].values(), strict=True):
                    written = ["" if value is None else str(value) for value in values]
                    if next(reader, [])[: len(names)] != written:
                        return False
            return next(reader, None) is None
        except csv.Error:
            return False


def prediction_writer(
    settings: Any, run: Path | None, checkpoint: Path | None, model: Any, datamodule: Any
) -> PredictionWriter:
    """The writer of a `predict`.

    Args:
        settings: Of the command.
        run: The checkpoint's run folder, where it lies in one.
        checkpoint: The file.
        model: The classifier, which may be asked for calibrated probabilities.
        datamodule: With the labels and the rows.

    Raises:
        UserError: Some rows would get no prediction, or there is no place to write to.
    """
    output = settings.data.predict_output
    if settings.trainer.limit_predict_batches is not None or settings.trainer.fast_dev_run:
        raise UserError(
            "predict writes every row: leave out --trainer.limit_predict_batches and fast_dev_run"
        )
    if output is None and run is None:
        raise UserError(f"{checkpoint} is in no run folder: set --data.predict_output to a .csv file")
    if model.calibrate and model.temperature is None:
        raise UserError(f"{checkpoint} was saved without a validation: leave out --calibrate")
    path = Path(os.path.expanduser(output)) if output else run / "predictions.csv"  # type: ignore[operator]
    inputs = find_files([settings.data.predict_path], "--data.predict_path")
    table = datamodule.splits["predict"].table
    target = check_output(path, table, inputs, run, settings.overwrite)
    return PredictionWriter(target, datamodule.labels.names)
