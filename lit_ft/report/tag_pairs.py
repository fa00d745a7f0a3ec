"""Runs of several labels a text compared text by text, as `pairs.py` compares runs of one class a text.

Columns of their files: `row`, `text_hash`, `text`, `label` and `predicted` (lists of names), a
`probability_...` for each label (beyond 50 `likeliest` and `likeliest_probabilities`), `loss`, `cut`.

N texts, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from lit_ft.report.intervals import ends_of
from lit_ft.report.multi_label import CHOSEN, HALF, scores_of_tags, tag_differences
from lit_ft.report.pairs import (
    MOST_SHOWN,
    NUM_DRAWS,
    Difference,
    Pair,
    entries,
    mcnemar,
    note_of,
    of_these_figures,
)
from lit_ft.report.scores import MULTI_LABEL

OF_PAIRS = ("micro_f1", "macro_f1", "subset_accuracy")  # at the chosen thresholds


@dataclass(frozen=True)
class PerTags:
    """What a run said of each text of a split.

    Attributes:
        path: The file.
        names: The labels, (C,).
        rows: In the source, from 1, ascending, (N,) int64.
        hashes: Of the texts, (N,) uint64.
        labels: (N, C) bool.
        predicted: (N, C) bool, at the chosen thresholds.
        loss: (N,) float64.
    """

    path: Path
    names: tuple[str, ...]
    rows: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    loss: np.ndarray

    def take(self, places: np.ndarray, names: Sequence[str]) -> "PerTags":
        """The texts at these places, with the labels in the order of `names`."""
        new = [list(names).index(name) for name in self.names]
        columns = []
        for tags in (self.labels, self.predicted):
            column = np.zeros((len(places), len(names)), bool)
            column[:, new] = tags[places]
            columns.append(column)
        given, said = columns
        rows = self.path, tuple(names), self.rows[places], self.hashes[places]
        return PerTags(*rows, given, said, self.loss[places])


def read_tags(run: Path, prefix: str, metrics: dict[str, Any]) -> PerTags | str:
    """What a run said of the texts that its figures were measured on, or in words why that is not known.

    Args:
        run: The run folder.
        prefix: `test` or `val`.
        metrics: The run's `metrics.json`: the file must be that of these figures.
    """

    def micro_f1(found: PerTags) -> float:
        return scores_of_tags(found.labels, found.predicted)["micro_f1"]

    return of_these_figures(run, prefix, metrics, _read, f"micro_f1{CHOSEN}", micro_f1)


def _read(path: Path) -> PerTags:
    table = pa.parquet.read_table(path, columns=["row", "text_hash", "label", "predicted", "loss"])
    names = tuple(map(str, note_of(path)["labels"]))
    order = np.argsort(table["row"].to_numpy(), kind="stable")
    return PerTags(
        path,
        names,
        table["row"].to_numpy()[order],
        table["text_hash"].to_numpy()[order],
        tags_of_names(table["label"], names)[order],
        tags_of_names(table["predicted"], names)[order],
        table["loss"].to_numpy().astype(np.float64)[order],
    )


def read_at_half(run: Path, prefix: str, metrics: dict[str, Any]) -> PerTags | str:
    """The same with the labels at 0.5, as they are compared with those of baselines."""
    found = read_tags(run, prefix, metrics)
    if isinstance(found, str):
        return found
    columns = ["row", *(f"probability_{name}" for name in found.names)]
    if not set(columns) <= set(pa.parquet.read_schema(found.path).names):
        return f"{found.path.name} has not the probabilities of all labels"
    row, *shares = (
        column.to_numpy() for column in pa.parquet.read_table(found.path, columns=columns).columns
    )
    said = np.stack(shares, 1)[np.argsort(row, kind="stable")] >= HALF
    return replace(found, predicted=said)


def tags_of_names(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """A column of lists of names -> (N, C) bool."""
    flat = column.combine_chunks()
    flat = flat.combine_chunks() if isinstance(flat, pa.ChunkedArray) else flat
    tags = np.zeros((len(flat), len(names)), bool)
    places = pc.index_in(pc.list_flatten(flat), pa.array(names, pa.string()))
    tags[pc.list_parent_indices(flat).to_numpy(), places.to_numpy()] = True
    return tags


def compare_tags(one: PerTags, other: PerTags, ordered: bool = False) -> Pair:
    """Compare two runs whose texts are aligned; each draw of the bootstrap takes the same texts for both.

    Args:
        one: The first run.
        other: The second run.
        ordered: Labels have no order.
    """
    right, also = ((run.predicted == run.labels).all(1) for run in (one, other))
    only_one, only_other = int((right & ~also).sum()), int((~right & also).sum())
    p = mcnemar(only_one, only_other)
    found = tag_differences(one.labels, one.predicted, other.predicted, NUM_DRAWS)
    scores = {score.name: score for score in MULTI_LABEL}
    differences = []
    for name in OF_PAIRS:
        value, drawn = found[name]
        low, high = ends_of(drawn)
        score = scores[f"{name}{CHOSEN}"]
        differences.append(Difference(score, value, low, high, bool(low > 0 or high < 0)))
    return Pair(len(one.rows), only_one, only_other, p, differences)


def tags_apart(several: Sequence[PerTags]) -> tuple[int, list[dict[str, Any]]]:
    """How many aligned texts the runs do not give the same labels, and the most telling ones.

    Returns:
        The number, and at most `MOST_SHOWN` entries: `row`, `text` (shortened), `label`, `said` (one a run).
    """
    said = np.stack([one.predicted for one in several])  # (R, N, C)
    exact = (said == several[0].labels).all(2)
    losses = np.stack([one.loss for one in several])
    differ = np.flatnonzero((said != said[0]).any((0, 2)))
    order = np.lexsort((-np.ptp(losses[:, differ], axis=0), ~exact.any(0)[differ]))
    shown = differ[order[:MOST_SHOWN]]

    def named(tags: np.ndarray) -> str:
        return ", ".join(several[0].names[c] for c in np.flatnonzero(tags)) or "none"

    return len(differ), entries(
        several[0],
        shown,
        lambda i: named(several[0].labels[i]),
        lambda i: [(named(said[r, i]), bool(exact[r, i])) for r in range(len(several))],
    )
