"""Runs compared text by text: what each said of the same texts, and how certain a difference is.

The files are `test_predictions.parquet` and `val_predictions.parquet` of the run folders. Their columns:
`row` (from 1, in the source), `text_hash`, `text`, `label`, `predicted`, a `probability_...` for each class
(beyond 50 classes `likeliest` and `likeliest_probabilities`), `loss`, `cut`, and
a `slice_...` for each of `data.slice_columns`.

N texts, C classes, K cells, B draws.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from lit_ft import runs
from lit_ft.errors import shorten
from lit_ft.report.intervals import counts_of_draws, ends_of, f1_of_counts
from lit_ft.report.scores import CLASSIFIER

NOTE = b"lit_ft"  # the key of our entry in a file's metadata
NUM_DRAWS, LEAST_DRAWS = 2000, 200
MOST_DRAWN = 2_000_000  # cells times draws: with more cells there are fewer draws, to stay within a second
LEVELS = 256  # of a figure that is not counted, such as the loss
SEED = 0  # of the bootstrap: the same files give the same interval
CERTAIN = 0.05  # McNemar's p above it: a difference that may well be chance
MOST_SHOWN, MOST_LETTERS = 40, 600  # texts on which runs differ, and letters of each
POINTS = 100  # accuracy is told in points: hundredths


def with_note(schema: pa.Schema, note: dict[str, Any]) -> pa.Schema:
    """The schema with our entry in its metadata."""
    return schema.with_metadata({NOTE: json.dumps(note, ensure_ascii=False).encode()})


def note_of(path: Path) -> dict[str, Any]:
    """Our entry in a file's metadata: its split, step, labels and source; {} if it has none or is damaged."""
    try:
        note = json.loads((pa.parquet.read_schema(path).metadata or {})[NOTE])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


@dataclass(frozen=True)
class PerText:
    """What a run said of each text of a split.

    Attributes:
        path: The file.
        names: The classes, (C,).
        rows: In the source, from 1, ascending, (N,) int64.
        hashes: Of the texts, (N,) uint64.
        labels: (N,) int64, in `names`.
        predicted: (N,) int64, in `names`.
        loss: (N,) float64.
    """

    path: Path
    names: tuple[str, ...]
    rows: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    loss: np.ndarray

    def take(self, places: np.ndarray, names: Sequence[str]) -> "PerText":
        """The texts at these places, with the classes as positions in `names`."""
        place_of = {name: i for i, name in enumerate(names)}
        new = np.array([place_of[name] for name in self.names], np.int64)
        return PerText(
            self.path,
            tuple(names),
            self.rows[places],
            self.hashes[places],
            new[self.labels[places]],
            new[self.predicted[places]],
            self.loss[places],
        )


def read_per_text(run: Path, prefix: str, metrics: dict[str, Any]) -> PerText | str:
    """What a run said of the texts that its figures were measured on, or in words why that is not known.

    Args:
        run: The run folder.
        prefix: `test` or `val`.
        metrics: The run's `metrics.json`: the file must be that of these figures.
    """

    def accuracy(found: PerText) -> float:
        return float((found.labels == found.predicted).mean())

    return of_these_figures(run, prefix, metrics, _read, "accuracy", accuracy)


def _read(path: Path) -> PerText:
    columns = ["row", "text_hash", "label", "predicted", "loss"]
    table = pa.parquet.read_table(path, columns=columns, read_dictionary=["label", "predicted"])
    names = tuple(map(str, note_of(path)["labels"]))
    order = np.argsort(table["row"].to_numpy(), kind="stable")
    return PerText(
        path,
        names,
        table["row"].to_numpy()[order],
        table["text_hash"].to_numpy()[order],
        _positions(table["label"], names)[order],
        _positions(table["predicted"], names)[order],
        table["loss"].to_numpy().astype(np.float64)[order],
    )


def nearly(measured: float, reached: float) -> bool:
    """Whether shares are the same up to the digits of `metrics.json`."""
    return abs(measured - reached) < 1e-4


def of_these_figures(
    run: Path,
    prefix: str,
    metrics: dict[str, Any],
    read: Callable[[Path], Any],
    score: str,
    reached: Callable[[Any], float],
    same: Callable[[float, float], bool] = nearly,
) -> Any:
    """A file of texts as it is read, or in words why it is not that of the run's figures.

    Args:
        run: The run folder.
        prefix: `test` or `val`.
        metrics: The run's `metrics.json`.
        read: The path -> what the file says, with `rows`.
        score: The figure that tells whether it is.
        reached: What the file says -> that figure.
        same: The figure in `metrics.json`, and that of the file -> whether they are one.
    """
    path = run / runs.PER_TEXT[prefix]
    if not path.is_file():
        return f"there is no {path.name}"
    try:
        found = read(path)
        value = reached(found) if len(found.rows) else 0.0
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return f"{path.name} cannot be read"
    measured, step = metrics.get(f"{prefix}/{score}"), metrics.get(f"{prefix}/step")
    if measured is not None and same(measured, value) and note_of(path).get("step") == step:
        return found
    return f"{path.name} is not of the figures in {runs.METRICS}"


def _positions(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """A column of names -> (N,) int64, positions in `names`."""
    places = {name: i for i, name in enumerate(names)}
    parts = [np.empty(0, np.int64)]
    for chunk in column.chunks:  # each has a dictionary of its own
        known = np.array([places[name] for name in chunk.dictionary.to_pylist()], np.int64)
        parts.append(known[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def align(several: Sequence[PerText]) -> list[PerText]:
    """The texts that all of the runs were measured on, in the order of their rows, under one list of classes.

    A text is the same if its row and its hash are.
    """
    rows = several[0].rows
    for other in several[1:]:
        rows = np.intersect1d(rows, other.rows)
    places = [np.searchsorted(one.rows, rows) for one in several]
    hashes = np.stack([one.hashes[place] for one, place in zip(several, places, strict=True)])
    same = (hashes == hashes[0]).all(0)
    names = list(dict.fromkeys(name for one in several for name in one.names))
    return [one.take(place[same], names) for one, place in zip(several, places, strict=True)]


@dataclass(frozen=True)
class Difference:
    """One figure of a run minus that of another, on the same texts.

    Attributes:
        score: Its row of `scores.CLASSIFIER`.
        value: The difference.
        low: Of the 95 % interval.
        high: Of the 95 % interval.
        certain: Whether the interval leaves out 0, and McNemar's test agrees.
    """

    score: Any
    value: float
    low: float
    high: float
    certain: bool

    @property
    def shown(self) -> tuple[tuple[float, float, float], int, str]:
        """Value, low and high as they are shown, rounded; their digits, and the unit after them."""
        points = self.score.name == "accuracy"
        scale, digits = (POINTS, 1) if points else (1, self.score.digits if self.score.in_unit else 3)
        # A value that is rounded to 0 has no sign.
        value, low, high = (round(v * scale, digits) + 0.0 for v in (self.value, self.low, self.high))
        return (value, low, high), digits, " points" if points else ""

    def told(self, other: str, one: str, verdict: bool = True) -> str:
        """`B - A: +3.3 points (95 %: -0.1 to +6.7): not certain`."""
        values, digits, unit = self.shown
        value, low, high = (f"{v:+.{digits}f}" for v in values)
        line = f"{other} - {one}: {value}{unit} (95 %: {low} to {high})"
        return f"{line}: {self.verdict(other, one)}" if verdict else line

    def verdict(self, other: str, one: str) -> str:
        """Which run is better, if that is certain."""
        if self.value == self.low == self.high == 0:
            return "the same"
        if not self.certain:
            return "not certain"
        return f"{other if (self.value > 0) == bool(self.score.higher_is_better) else one} is better"


def seeds_apart(own: Sequence[float], other: Sequence[float]) -> bool | None:
    """Whether no seed of one setting reaches those of another; None if one seed says nothing of that.

    An interval over texts averages the seeds: it leaves open whether another seed would say otherwise.
    """
    if min(len(own), len(other)) < 2:
        return None
    return max(own) < min(other) or max(other) < min(own)


@dataclass(frozen=True)
class Pair:
    """Two runs on the same texts.

    Attributes:
        rows: N.
        only_one: Texts of which only the first run is right.
        only_other: Texts of which only the second is.
        p: Of McNemar's exact test.
        differences: Second minus first, for each figure that both have.
    """

    rows: int
    only_one: int
    only_other: int
    p: float
    differences: list[Difference]


def compare_pair(one: PerText, other: PerText, ordered: bool) -> Pair:
    """Compare two runs whose texts are aligned.

    The bootstrap draws texts with replacement, the same for both runs. Texts with the same label and the same
    two predictions are alike, so a draw is the number of each kind: multinomial over the K that occur.

    Args:
        one: The first run.
        other: The second run.
        ordered: Whether the distance between classes means something.
    """
    right, also = one.predicted == one.labels, other.predicted == other.labels
    only_one, only_other = int((right & ~also).sum()), int((~right & also).sum())
    p = mcnemar(only_one, only_other)
    cells, counts = np.unique(
        np.stack([one.labels, one.predicted, other.predicted]), axis=1, return_counts=True
    )
    num_rows, num_cells = len(one.rows), cells.shape[1]
    rng = np.random.default_rng(SEED)
    num_draws = int(np.clip(MOST_DRAWN // num_cells, LEAST_DRAWS, NUM_DRAWS))
    draws = np.vstack(
        [counts, rng.multinomial(num_rows, counts / num_rows, num_draws)]
    )  # (1 + B, K); first as it is
    truth, first, second = cells
    found = {
        "accuracy": draws @ ((second == truth).astype(float) - (first == truth)) / num_rows,
        "macro_f1": macro_f1_of_draws(draws, truth, second) - macro_f1_of_draws(draws, truth, first),
        "loss": _mean_draws(other.loss - one.loss, rng),
    }
    if ordered:
        found["mae"] = draws @ (abs(second - truth) - abs(first - truth)).astype(float) / num_rows
    differences = []
    for score in CLASSIFIER:
        if score.name in found:
            value, drawn = float(found[score.name][0]), found[score.name][1:]
            low, high = ends_of(drawn)
            certain = bool(low > 0 or high < 0) and (score.name != "accuracy" or p < CERTAIN)
            differences.append(Difference(score, value, low, high, certain))
    return Pair(num_rows, only_one, only_other, p, differences)


def mcnemar(only_one: int, only_other: int) -> float:
    """The exact two-sided p of so many texts of which only one run is right (McNemar 1947): a fair coin's."""
    if only_one + only_other == 0:
        return 1.0
    from scipy.stats import binomtest  # a second to import

    return float(binomtest(only_one, only_one + only_other).pvalue)


def macro_f1_of_draws(draws: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The macro F1 of each draw, (B,).

    Args:
        draws: How often each cell was drawn, (B, K).
        truth: The class of each cell, (K,).
        predicted: What was said of it, (K,).
    """
    known, places = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    given, said = places[: len(truth)], places[len(truth) :]
    return f1_of_counts(*counts_of_draws(draws, given, said, len(known)))[1]


def _mean_draws(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of values (N,), then of draws of them with replacement, (1 + B,).

    Values that are nearly equal are drawn as one, by their mean: a 256th of the range changes an interval's
    width by far less than a percent.
    """
    low, high = values.min(), values.max()
    levels = np.minimum((values - low) / (high - low or 1) * LEVELS, LEVELS - 1).astype(np.int64)
    counts = np.bincount(levels, minlength=LEVELS)
    means = np.bincount(levels, values, LEVELS)[counts > 0] / counts[counts > 0]
    counts = counts[counts > 0]
    draws = np.vstack([counts, rng.multinomial(len(values), counts / len(values), NUM_DRAWS)])
    return draws @ means / len(values)


def disagreements(several: Sequence[PerText]) -> tuple[int, list[dict[str, Any]]]:
    """How many aligned texts the runs do not say the same of, and the most telling ones.

    Texts of which some runs are right and others wrong come first, then those whose losses differ most.

    Returns:
        The number, and at most `MOST_SHOWN` entries: `row`, `text` (shortened), `label`, `said` (one a run).
    """
    said = np.stack([one.predicted for one in several])  # (R, N)
    right = (said == several[0].labels).any(0)
    losses = np.stack([one.loss for one in several])
    differ = np.flatnonzero((said != said[0]).any(0))
    order = np.lexsort((-np.ptp(losses[:, differ], axis=0), ~right[differ]))
    shown = differ[order[:MOST_SHOWN]]
    names, labels = several[0].names, several[0].labels
    return len(differ), entries(
        several[0],
        shown,
        lambda i: names[labels[i]],
        lambda i: [(names[c], bool(c == labels[i])) for c in said[:, i]],
    )


def entries(
    one: Any, shown: np.ndarray, label: Callable[[int], str], said: Callable[[int], list[tuple[str, bool]]]
) -> list[dict[str, Any]]:
    """Texts on which runs differ: `row`, `text` (shortened), `label`, `said` (one a run, and whether right).

    Args:
        one: The first run.
        shown: The places of the texts.
        label: A place -> its label in words.
        said: A place -> what each run says of it.
    """
    texts = texts_of(one.path, one.rows[shown])
    return [
        {
            "row": int(one.rows[i]),
            "text": shorten(texts[int(one.rows[i])], MOST_LETTERS),
            "label": label(i),
            "said": said(i),
        }
        for i in shown
    ]


def texts_of(path: Path, rows: np.ndarray) -> dict[int, str]:
    """The texts of some source rows, read from the row groups that hold them."""
    found: dict[int, str] = {}
    with pa.parquet.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            numbers = file.read_row_group(group, columns=["row"])["row"].to_numpy()
            places = np.flatnonzero(np.isin(numbers, rows))
            if len(places):
                texts = file.read_row_group(group, columns=["text"])["text"].take(pa.array(places))
                found |= dict(zip(numbers[places].tolist(), texts.to_pylist(), strict=True))
    return found
