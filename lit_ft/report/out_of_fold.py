"""`out_of_fold.parquet`: what the runs of a repeat said of each training text that they had left out.

One row a text, in the order of the source: `row`, `text_hash`, `text` (and `pair`), `label`, `fold`, the
answer of all seeds together `predicted`, that of each `predicted_<seed>`, then by the kind of label
- a class: `agreeing` (how many seeds answer the label), `label_probability`, a `probability_...` for each
  class (beyond 50 `likeliest` and `likeliest_probabilities`), averaged over the seeds;
- several labels: `agreeing`, a `probability_...` for each label, or the likeliest;
- a number: `error`, the averaged prediction minus the label;
and `loss`, averaged, and `cut`. Probabilities are the models' own, as in the runs' files: not calibrated.

S seeds, G rows read at a time, C classes or labels.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from lit_ft import runs
from lit_ft.errors import UserError, unusable
from lit_ft.report.pairs import note_of, with_note
from lit_ft.report.pooled import HELD_OUT, Repetition
from lit_ft.report.tag_pairs import tags_of_names
from lit_ft.tasks import TASKS, decided

GROUP_ROWS = 10_000  # of a row group, which is what is held in memory at a time
NUM_LIKELIEST = 5  # classes of a row, beyond the number that has a column each
PROBABILITY = "probability_"
TEXTS = ("text", "pair")
MEND = "what was trained on has changed: repeat it under another --name"


class Rows:
    """The rows of a file of texts, as many at a time as are asked for.

    Args:
        path: The file.
        texts: Whether to read the texts; one of a fold's files is enough.
    """

    def __init__(self, path: Path, texts: bool) -> None:
        self.path = path
        self.file = pa.parquet.ParquetFile(path)
        self.note = note_of(path)
        names = self.file.schema_arrow.names
        wanted = [n for n in names if not n.startswith("slice_") and (texts or n not in TEXTS)]
        self._batches = self.file.iter_batches(GROUP_ROWS, columns=wanted)
        self._rest = self.file.schema_arrow.empty_table().select(wanted)

    def numbers(self) -> np.ndarray:
        """All source rows, ascending, (N,) int64."""
        return self.file.read(columns=["row"])["row"].to_numpy()

    def take(self, count: int) -> pa.Table:
        """The next rows."""
        while self._rest.num_rows < count:
            self._rest = pa.concat_tables([self._rest, pa.Table.from_batches([next(self._batches)])])
        taken, self._rest = self._rest.slice(0, count), self._rest.slice(count)
        return taken


@dataclass(frozen=True)
class Fold:
    """What all seeds said of the texts of one fold.

    Attributes:
        number: Of the fold, from 1.
        seeds: Those with a file, (S,).
        files: Of each.
        names: The classes or labels of all folds, (C,).
        decide: How a class is chosen: `model.decide`.
        sparse: Whether there are more classes than columns.
    """

    number: int
    seeds: tuple[int, ...]
    files: tuple[Rows, ...]
    names: tuple[str, ...]
    decide: Any
    sparse: bool

    def thresholds(self) -> np.ndarray:
        """From which probability on a text gets each label, averaged over the seeds, (C,)."""
        found = np.full((len(self.files), len(self.names)), 0.5)
        for s, file in enumerate(self.files):
            places = [self.names.index(name) for name in map(str, file.note["labels"])]
            found[s, places] = file.note.get("thresholds") or 0.5
        return found.mean(0)


# ---- the columns of each kind of label --------------------------------------------------------------


def _of_classes(parts: Sequence[pa.Table], fold: Fold) -> dict[str, Any]:
    names = pa.array(fold.names, pa.string())
    labels = pc.index_in(parts[0]["label"], names).to_numpy()  # (G,)
    said = np.stack([pc.index_in(part["predicted"], names).to_numpy() for part in parts])  # (S, G)
    if fold.sparse:
        shares = _likeliest(parts, fold)
        # The loss is that of the label's probability, whether or not it is among the likeliest.
        own = np.exp(-np.stack([part["loss"].to_numpy() for part in parts]).astype(np.float64)).mean(0)
        # Their probabilities are not all known. In the middle of one, three, ... seeds' answers.
        counts = (said[:, None] == said).sum(0)  # (S, G): how many say the same
        voted = said[counts.argmax(0), np.arange(said.shape[1])]
        answer = voted if fold.decide == "mode" else np.sort(said, axis=0)[(len(said) - 1) // 2]
    else:
        values = np.mean([_dense(part, fold.names) for part in parts], axis=0)  # (G, C)
        own = values[np.arange(len(labels)), labels]
        if len(parts) == 1:
            answer = said[0]  # what was said
        elif fold.decide == "mode":
            answer = decided(values, fold.decide)
        else:
            answer = decided(_calibrated(parts, fold), fold.decide)
        shares = {f"{PROBABILITY}{n}": values[:, c].astype(np.float32) for c, n in enumerate(fold.names)}
    return {
        "predicted": names.take(pa.array(answer)),
        **_by_seed(parts, fold),
        "agreeing": pa.array((said == labels).sum(0), pa.int32()),
        "label_probability": own.astype(np.float32),
        **shares,
    }


def _calibrated(parts: Sequence[pa.Table], fold: Fold) -> np.ndarray:
    """The probabilities of which the runs took the median or the mean, averaged over the seeds, (G, C)."""
    found = []
    for part, file in zip(parts, fold.files, strict=True):
        sharper = _dense(part, fold.names) ** (1 / (file.note.get("temperature") or 1.0))
        found.append(sharper / sharper.sum(1, keepdims=True))
    return np.mean(found, axis=0)


def _of_tags(parts: Sequence[pa.Table], fold: Fold) -> dict[str, Any]:
    given = tags_of_names(parts[0]["label"], fold.names)  # (G, C)
    said = np.stack([tags_of_names(part["predicted"], fold.names) for part in parts])  # (S, G, C)
    if fold.sparse:
        answer, shares = said.mean(0) > 0.5, _likeliest(parts, fold)
    else:
        values = np.mean([_dense(part, fold.names) for part in parts], axis=0)
        answer = values >= fold.thresholds()
        shares = {f"{PROBABILITY}{n}": values[:, c].astype(np.float32) for c, n in enumerate(fold.names)}
    if len(parts) == 1:
        answer = said[0]  # what was said, whatever rounding makes of a probability at its threshold
    return {
        "predicted": _lists(answer, fold.names),
        **_by_seed(parts, fold),
        "agreeing": pa.array((said == given).all(2).sum(0), pa.int32()),
        **shares,
    }


def _of_numbers(parts: Sequence[pa.Table], fold: Fold) -> dict[str, Any]:
    answer = np.mean([part["predicted"].to_numpy() for part in parts], axis=0)
    errors = answer - parts[0]["label"].to_numpy()
    return {"predicted": answer, **_by_seed(parts, fold), "error": errors}


def _by_seed(parts: Sequence[pa.Table], fold: Fold) -> dict[str, Any]:
    return {f"predicted_{s}": part["predicted"] for s, part in zip(fold.seeds, parts, strict=True)}


def _dense(part: pa.Table, names: Sequence[str]) -> np.ndarray:
    """The probabilities (G, C) float64; a class that a run does not know has none."""
    found = np.zeros((part.num_rows, len(names)))
    for c, name in enumerate(names):
        if f"{PROBABILITY}{name}" in part.column_names:
            found[:, c] = part[f"{PROBABILITY}{name}"].to_numpy()
    return found


def _likeliest(parts: Sequence[pa.Table], fold: Fold) -> dict[str, pa.Array]:
    """The likeliest classes of each row; one that is not among a seed's likeliest counts 0 there."""
    num_rows, num_names = parts[0].num_rows, len(fold.names)
    keys, values = [], []
    for part in parts:
        rows, classes, shares = listed_shares(part, fold.names)
        keys.append(rows * num_names + classes)
        values.append(shares)
    known, places = np.unique(np.concatenate(keys), return_inverse=True)
    means = np.bincount(places, np.concatenate(values), len(known)) / len(parts)
    rows, classes = known // num_names, known % num_names
    order = np.lexsort((-means, rows))
    starts = np.searchsorted(rows, np.arange(num_rows))
    kept = order[np.arange(len(rows)) - starts[rows] < NUM_LIKELIEST]  # `rows` ascend, so do `rows[order]`
    counts = np.bincount(rows[kept], minlength=num_rows)
    offsets = pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())
    shown = pa.array(fold.names, pa.string()).take(pa.array(classes[kept]))
    return {
        "likeliest": pa.ListArray.from_arrays(offsets, shown),
        "likeliest_probabilities": pa.ListArray.from_arrays(offsets, pa.array(means[kept], pa.float32())),
    }


def listed_shares(part: pa.Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of a table, the classes in `names` and the probabilities that it knows, three times (M,)."""
    if "likeliest" not in part.column_names:
        shares = _dense(part, names)
        rows, classes = np.nonzero(shares)
        return rows, classes, shares[rows, classes]
    lists = part["likeliest"].combine_chunks()
    rows = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
    classes = pc.index_in(pc.list_flatten(lists), pa.array(names, pa.string())).to_numpy().astype(np.int64)
    shares = pc.list_flatten(part["likeliest_probabilities"].combine_chunks()).to_numpy()
    return rows, classes, shares.astype(np.float64)


def _lists(tags: np.ndarray, names: Sequence[str]) -> pa.Array:
    offsets = pa.array(np.concatenate([[0], tags.sum(1).cumsum()]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(names, pa.string()).take(pa.array(np.nonzero(tags)[1])))


# Kind of report -> what is made of the parts of a fold, one a seed, with the same rows.
COLUMNS: dict[str, Callable[[Sequence[pa.Table], Fold], dict[str, Any]]] = {
    "classifier": _of_classes,
    "multi_label": _of_tags,
    "regression": _of_numbers,
}
assert COLUMNS.keys() == {task.report for task in TASKS.values()}


# ---- the file ----------------------------------------------------------------------------------------


def write_out_of_fold(repetitions: Sequence[Repetition], path: Path) -> Path:
    """Write what the runs of a repeat said of the texts that they had not trained on, and return the path.

    Rows of a run without a file are averaged over the other seeds, and left out if there are none; the file's
    note has the `missing` runs.

    Args:
        repetitions: The runs; those without a fold, or on less than the largest share, are left out.
        path: The file to write.

    Raises:
        UserError: No run has a file, or they did not have the same texts and labels.
    """
    largest = max((one.share for one in repetitions), default=1.0)
    of_folds = [one for one in repetitions if one.fold is not None and one.share == largest]
    there = [one for one in of_folds if (one.folder / runs.PER_TEXT[HELD_OUT]).is_file()]
    if not there:
        where = of_folds[0].folder if of_folds else path.parent
        raise UserError(
            f"expected {runs.PER_TEXT[HELD_OUT]} of a run that left a fold out, found none in {where}; "
            "repeat with --folds=5"
        )
    with contextlib.ExitStack() as opened:
        files: list[Rows] = []
        for i, one in enumerate(there):
            file = one.folder / runs.PER_TEXT[HELD_OUT]
            with unusable(str(file), f"repeat the run: delete {one.folder} and give the same `repeat` again"):
                files.append(Rows(file, one.fold not in {other.fold for other in there[:i]}))
            opened.callback(files[-1].file.close)
        folds = _folds_of(there, files)
        seeds = tuple(dict.fromkeys(one.seed for one in there))
        first = files[0].note
        note = {
            **{key: first.get(key) for key in ("kind", "file", "max_tokens", "text_hash")},
            "split": HELD_OUT,
            "labels": list(folds[0].names),
            "ordered": bool(runs.read_facts(there[0].folder).get("ordered")),
            "decide": folds[0].decide,
            "seeds": seeds,
            "folds": [fold.number for fold in folds],
            "missing": [{"seed": one.seed, "fold": one.fold} for one in of_folds if one not in there],
        }
        _write(path, folds, seeds, note)
    return path


def _folds_of(there: Sequence[Repetition], files: Sequence[Rows]) -> list[Fold]:
    """The runs by their folds, ascending."""
    kinds = [file.note.get("kind") for file in files]
    if len(set(kinds)) > 1 or kinds[0] not in COLUMNS:
        raise UserError(f"expected runs of one kind of label, found {sorted(set(map(str, kinds)))}; {MEND}")
    # The run that knows the most classes has them in their order; a fold can have all rows of one.
    most = sorted(files, key=lambda file: -len(file.note["labels"]))
    names = tuple(dict.fromkeys(str(name) for file in most for name in file.note["labels"]))
    decide = runs.read_facts(there[0].folder).get("decide") or "mode"
    sparse = any("likeliest" in file.file.schema_arrow.names for file in files)
    found = []
    for number in sorted({one.fold for one in there if one.fold is not None}):
        of = [(one.seed, file) for one, file in zip(there, files, strict=True) if one.fold == number]
        seeds, held = zip(*of, strict=True)
        found.append(Fold(number, seeds, held, names, decide, sparse))
    return found


def _write(path: Path, folds: Sequence[Fold], seeds: Sequence[int], note: dict[str, Any]) -> None:
    """Write the rows of all folds in the order of the source, a group at a time."""
    numbers = [fold.files[0].numbers() for fold in folds]
    _check_rows(folds, numbers)
    rows = np.concatenate(numbers)
    fold_of = np.repeat(np.arange(len(folds)), [len(held) for held in numbers])
    fold_of = fold_of[np.argsort(rows, kind="stable")]  # (N,): in the order of the source
    schema = None
    with runs.written_whole(path) as file, contextlib.ExitStack() as opened:
        writer = None
        for start in range(0, max(len(fold_of), 1), GROUP_ROWS):
            counts = np.bincount(fold_of[start : start + GROUP_ROWS], minlength=len(folds))
            parts = [_columns(fold, int(count), seeds) for fold, count in zip(folds, counts, strict=True)]
            group = pa.concat_tables([part for part in parts if part.num_rows] or parts[:1])
            if writer is None:
                schema = with_note(group.schema, note)
                writer = opened.enter_context(pa.parquet.ParquetWriter(file, schema))
            writer.write_table(group.sort_by("row").cast(schema))


def _check_rows(folds: Sequence[Fold], numbers: Sequence[np.ndarray]) -> None:
    """Refuse files that are not of the same rows in each seed, or of the same rows in two folds."""
    for fold, held in zip(folds, numbers, strict=True):
        for seed, file in zip(fold.seeds[1:], fold.files[1:], strict=True):
            if not np.array_equal(theirs := file.numbers(), held):
                raise UserError(
                    f"expected the same rows in fold {fold.number} of seeds {fold.seeds[0]} and {seed}, "
                    f"found {len(held):,} and {len(theirs):,} rows, not all the same; {MEND}"
                )
    found, counts = np.unique(np.concatenate(numbers), return_counts=True)
    if (counts > 1).any():
        row = int(found[counts > 1][0])
        of = [fold.number for fold, held in zip(folds, numbers, strict=True) if row in held]
        raise UserError(f"expected each row in one fold, found row {row:,} in folds {of}; {MEND}")


def _columns(fold: Fold, count: int, seeds: Sequence[int]) -> pa.Table:
    """The columns of the next rows of a fold."""
    parts = [file.take(count) for file in fold.files]
    first = parts[0]
    for seed, part in zip(fold.seeds[1:], parts[1:], strict=True):
        for name in ("text_hash", "label"):
            if not part[name].equals(first[name]):
                both = zip(first[name].to_pylist(), part[name].to_pylist(), strict=True)
                row = first["row"][next(i for i, (one, other) in enumerate(both) if one != other)].as_py()
                what = "text" if name == "text_hash" else "label"
                raise UserError(
                    f"expected the same {what} in row {row:,} in seeds {fold.seeds[0]} and {seed}, found "
                    f"another; {MEND}"
                )
    columns: dict[str, Any] = {
        name: first[name] for name in ("row", "text_hash", *TEXTS, "label") if name in first.column_names
    }
    columns["fold"] = pa.array(np.full(count, fold.number), pa.int32())
    of_kind = COLUMNS[fold.files[0].note["kind"]](parts, fold)
    nothing = pa.nulls(count, first["predicted"].type)  # of a seed without a run on this fold
    for name, column in of_kind.items():
        columns[name] = column
        if name == "predicted":
            columns |= {f"predicted_{seed}": nothing for seed in seeds}
    losses = np.mean([part["loss"].to_numpy() for part in parts], axis=0)
    columns["loss"] = pa.array(losses, pa.float32())
    columns["cut"] = first["cut"]
    return pa.table(columns)
