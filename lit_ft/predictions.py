"""`predictions.csv`: the input's rows in the input's order, with what the model says of each."""

import csv
import glob
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from lightning import Callback

from lit_ft.data import Split
from lit_ft.errors import UserError

CHUNK_ROWS = 1000  # rows of the input read at a time


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
        return self.path.with_name(f".{self.path.name}.part{rank}")

    def columns(self, input_columns: list[str]) -> list[str]:
        """Names of the added columns; a name that the input already uses gets a prefix."""
        added = ["predicted", "confidence", *(f"probability_{name}" for name in self.label_names)]
        return [f"lit_ft_{name}" if name in input_columns else name for name in added]

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Open this process's part."""
        self._split: Split = trainer.datamodule.splits["predict"]
        num_rows = len(self._split.source_rows)
        shares = np.array_split(np.arange(num_rows), trainer.world_size)
        mine = shares[trainer.global_rank]
        self._next = int(mine[0]) if len(mine) else num_rows
        # Input rows without text stand between those of the split; each part ends where the next begins.
        ends = [int(self._split.source_rows[share[0]]) - 1 for share in shares[1:] if len(share)]
        bounds = [0, *ends, *([len(self._split.table)] * (trainer.world_size - len(ends)))]
        self._row, self._end = bounds[trainer.global_rank], bounds[trainer.global_rank + 1]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part(trainer.global_rank).open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        names = list(self._split.table.column_names)
        if trainer.global_rank == 0:
            self._writer.writerow([*names, *self.columns(names)])

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take up a batch: `index` (B,), `probabilities` (B, C); write what is next in order."""
        probabilities = outputs["probabilities"].cpu().numpy()
        for index, row in zip(outputs["index"].tolist(), probabilities, strict=True):
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


def check_output(path: Path, source: str) -> Path:
    """Refuse a place where no file can be written, or where the input lies, before anything is predicted.

    Args:
        path: The file to write.
        source: The file or glob that is read.
    """
    if path.is_dir():
        raise UserError(
            f"expected a file for data.predict_output, found the folder {path}; name a .csv in it"
        )
    if path.exists() and not path.is_file():  # renaming onto /dev/null would put a file in its place
        raise UserError(
            f"expected a file for data.predict_output, found the device or pipe {path}; name a .csv"
        )
    if path.exists() and path.resolve() in {Path(name).resolve() for name in glob.glob(source)}:
        raise UserError(f"data.predict_output={path} is the file that is read; name another one")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise UserError(f"expected a folder for data.predict_output={path}, found that {folder} is a file")
    return path


def prediction_writer(
    settings: Any, run: Path | None, checkpoint: Path | None, model: Any, datamodule: Any
) -> PredictionWriter:
    """The writer of a `predict`.

    Args:
        settings: Of the command.
        run: The checkpoint's run folder, where it lies in one.
        checkpoint: The file.
        model: The classifier, which may be asked for calibrated probabilities.
        datamodule: With the labels.

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
    path = Path(output) if output else run / "predictions.csv"  # type: ignore[operator]
    return PredictionWriter(check_output(path, settings.data.predict_path), datamodule.labels.names)
