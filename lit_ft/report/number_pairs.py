"""Runs that predict numbers compared text by text, as `pairs.py` compares runs that predict classes.

Columns of their files: `row`, `text_hash`, `text`, `label`, `predicted`, `error`, `loss`, `cut`; N texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from lit_ft.report.pairs import MOST_SHOWN, Difference, Pair, entries, mcnemar, of_these_figures
from lit_ft.report.regression import ends_of_draws, of_draws
from lit_ft.report.scores import REGRESSION, decimals_of

APART = 0.1  # of the labels' standard deviation: predictions that differ by more are shown


@dataclass(frozen=True)
class PerNumber:
    """What a run said of each text of a split.

    Attributes:
        path: The file.
        rows: In the source, from 1, ascending, (N,) int64.
        hashes: Of the texts, (N,) uint64.
        labels: (N,) float64.
        predicted: (N,) float64.
        names: Of classes: none.
    """

    path: Path
    rows: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    names: tuple[str, ...] = ()

    def take(self, places: np.ndarray, names: Sequence[str]) -> "PerNumber":
        """The texts at these places; there are no names."""
        columns = (self.rows, self.hashes, self.labels, self.predicted)
        return PerNumber(self.path, *(column[places] for column in columns))


def read_numbers(run: Path, prefix: str, metrics: dict[str, Any]) -> PerNumber | str:
    """What a run said of the texts that its figures were measured on, or in words why that is not known.

    Args:
        run: The run folder.
        prefix: `test` or `val`.
        metrics: The run's `metrics.json`: the file must be that of these figures.
    """

    def mae(found: PerNumber) -> float:
        return float(np.abs(found.predicted - found.labels).mean())

    def same(measured: float, reached: float) -> bool:
        return abs(measured - reached) <= 1e-4 * abs(reached) + 1e-6

    return of_these_figures(run, prefix, metrics, _read, "mae", mae, same)


def _read(path: Path) -> PerNumber:
    table = pa.parquet.read_table(path, columns=["row", "text_hash", "label", "predicted"])
    columns = [table[name].to_numpy() for name in table.column_names]
    order = np.argsort(columns[0], kind="stable")
    return PerNumber(path, *(column[order] for column in columns))


def compare_numbers(one: PerNumber, other: PerNumber, ordered: bool = True) -> Pair:
    """Compare two runs whose texts are aligned; each draw of the bootstrap takes the same texts for both.

    Args:
        one: The first run.
        other: The second run.
        ordered: Numbers always are.
    """
    errors, theirs = np.abs(one.predicted - one.labels), np.abs(other.predicted - one.labels)
    closer, less = int((errors < theirs).sum()), int((theirs < errors).sum())
    found, _ = of_draws(one.labels, np.stack([one.predicted, other.predicted]))
    digits = decimals_of(float(one.labels.std()) or 1.0) + 1
    differences = []
    for score in REGRESSION:
        if score.name in found:
            value, *drawn = found[score.name][1] - found[score.name][0]
            low, high = ends_of_draws(np.array(drawn))
            shown = replace(score, digits=digits if score.in_unit else 3)
            differences.append(Difference(shown, float(value), low, high, bool(low > 0 or high < 0)))
    return Pair(len(one.rows), closer, less, mcnemar(closer, less), differences)


def furthest_apart(several: Sequence[PerNumber]) -> tuple[int, list[dict[str, Any]]]:
    """On how many aligned texts the predictions clearly differ, and the texts where they differ most.

    Returns:
        The number, and at most `MOST_SHOWN` entries: `row`, `text` (shortened), `label`, `said` (one a run).
    """
    labels = several[0].labels
    said = np.stack([one.predicted for one in several])  # (R, N)
    spread, least = np.ptp(said, axis=0), APART * float(labels.std())
    digits = decimals_of(float(labels.std()) or 1.0)
    shown = np.argsort(-spread, kind="stable")[:MOST_SHOWN]
    shown = shown[spread[shown] > least]
    return int((spread > least).sum()), entries(
        several[0],
        shown,
        lambda i: f"{labels[i]:,.{digits}f}",
        lambda i: [(f"{value:,.{digits}f}", False) for value in said[:, i]],
    )
