"""Scores of weighted texts, for each kind of label: of all texts, of a fold, of draws of a bootstrap.

A weight is how often a text counts. Each score is a function of sums over the texts, such as the texts of a
class that are right, so one product of two matrices gives it under any number of weights.

N texts, C classes or labels, F sums, W weights of the texts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, vstack

from lit_ft.report.intervals import DRAWS, FEWEST_DRAWS, SEED, scores_of_counts
from lit_ft.report.multi_label import CHOSEN, f1_of_labels
from lit_ft.report.number_pairs import read_numbers
from lit_ft.report.pairs import read_per_text
from lit_ft.report.tag_pairs import read_tags

MOST_TEXTS_DRAWN = 20_000_000  # over all draws: some seconds for a repeat of three seeds and five folds
TEXTS_AT_ONCE = 2_000_000  # of these: 16 MB
LEAST_SPREAD = 1e-12  # of labels in their own unit: below it R2 is not defined


class Sums(NamedTuple):
    """What the scores of one run need of each text.

    Attributes:
        texts: (F', N) float64. Texts that are alike, with the same label and answer, are one row.
        matrix: (F, F') float64, of these; None if they are the sums themselves.
        scores: Sums (F, W) -> name of a score -> (W,).
        each: Sums (F, W) -> F1 of each class or label, (C, W); None if there are none.
    """

    texts: csr_array
    matrix: csr_array | None
    scores: Callable[[np.ndarray], dict[str, np.ndarray]]
    each: Callable[[np.ndarray], np.ndarray] | None

    def of(self, weights: np.ndarray) -> np.ndarray:
        """The sums under weights of the texts, (N, W) -> (F, W)."""
        sums = self.texts @ weights
        return sums if self.matrix is None else self.matrix @ sums


def sums_of_classes(labels: np.ndarray, predicted: np.ndarray, num_classes: int, ordered: bool) -> Sums:
    """`accuracy`, `macro_f1` and, if ordered, `mae` and quadratic `kappa`, as in `intervals.scores_of`.

    Args:
        labels: (N,) int64.
        predicted: (N,) int64.
        num_classes: C.
        ordered: Whether the classes are steps of a scale.
    """
    cells, cell_of = np.unique(labels * num_classes + predicted, return_inverse=True)
    given, said = np.divmod(cells, num_classes)
    away = np.abs(given - said).astype(np.float64)
    every = np.ones(len(cells), bool)
    parts = [
        _counted(given, every, num_classes),
        _counted(said, every, num_classes),
        _counted(given, given == said, num_classes),
        csr_array(np.stack([away, away**2])),
    ]
    texts = _counted(cell_of, np.ones(len(labels), bool), len(cells))

    def scores(sums: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows, said, both = (sums[i * num_classes : (i + 1) * num_classes].T for i in range(3))  # (W, C) each
        return scores_of_counts(rows, said, both, (sums[-2], sums[-1]) if ordered else None)

    return Sums(texts, _stacked(parts), lambda sums: scores(sums)[0], lambda sums: scores(sums)[1].T)


def sums_of_labels(labels: np.ndarray, predicted: np.ndarray, num_labels: int, ordered: bool = False) -> Sums:
    """Micro and macro F1 and the share of texts whose labels are all right, at the chosen thresholds.

    Args:
        labels: (N, C) bool.
        predicted: (N, C) bool.
        num_labels: C.
        ordered: Labels have no order.
    """
    exact = (labels == predicted).all(1).astype(np.float64)
    parts = [
        *(csr_array(tags.T.astype(np.float64)) for tags in (labels, predicted, labels & predicted)),
        csr_array(np.stack([np.ones(len(labels)), exact])),
    ]

    def f1(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = (sums[i * num_labels : (i + 1) * num_labels].T for i in range(3))
        return f1_of_labels(*counts)

    def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
        each, micro = f1(sums)
        found = {"micro_f1": micro, "macro_f1": each.mean(-1), "subset_accuracy": sums[-1] / sums[-2]}
        return {f"{name}{CHOSEN}": values for name, values in found.items()}

    return Sums(_stacked(parts), None, scores, lambda sums: f1(sums)[0].T)


def sums_of_numbers(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int = 0, ordered: bool = True
) -> Sums:
    """`mae`, `rmse` and `r2`; the last is NaN if all labels that count are equal.

    Args:
        labels: (N,) float64.
        predicted: (N,) float64.
        num_classes: Numbers have no classes.
        ordered: Numbers always are.
    """
    # In other units: the squares of 1e200 would be none, nor those of 1e9 + small differences.
    middle = float(labels.mean())
    unit = float(np.abs(labels - middle).max()) or 1.0
    errors, given = (predicted - labels) / unit, (labels - middle) / unit
    rows = np.stack([np.ones(len(labels)), given, given**2, np.abs(errors), errors**2])

    def scores(sums: np.ndarray) -> dict[str, np.ndarray]:
        total, first, second, away, square = sums
        spread = second / total - (first / total) ** 2
        spread = np.where(spread > LEAST_SPREAD, spread, np.nan)
        mse = square / total
        return {"mae": away / total * unit, "rmse": np.sqrt(mse) * unit, "r2": 1 - mse / spread}

    return Sums(csr_array(rows), None, scores, None)


def _counted(classes: np.ndarray, counts: np.ndarray, num_classes: int) -> csr_array:
    """(C, N): 1 for the class of each text (N,) that counts (N,) bool."""
    places = np.flatnonzero(counts)
    return csr_array((np.ones(len(places)), (classes[places], places)), shape=(num_classes, len(classes)))


def _stacked(parts: list[csr_array]) -> csr_array:
    return csr_array(vstack(parts, format="csr"))


@dataclass(frozen=True)
class Weighed:
    """How runs of one kind are read and weighed.

    Attributes:
        read: Run folder, prefix and metrics -> what it said of each text, or why that is not known.
        sums: Labels, predictions, C and whether the labels have an order -> the sums of a run.
        shares: The scores between 0 and 1, whose interval is not empty even if all texts are right.
        linear: The scores that are means over the texts: their mean over folds is that of all texts.
    """

    read: Callable[[Path, str, dict[str, Any]], Any]
    sums: Callable[[np.ndarray, np.ndarray, int, bool], Sums]
    shares: tuple[str, ...]
    linear: tuple[str, ...]


# By the kind in report.json
WEIGHED = {
    "classifier": Weighed(
        read_per_text, sums_of_classes, ("accuracy", "macro_f1"), ("accuracy", "mae", "loss")
    ),
    "multi_label": Weighed(
        read_tags,
        sums_of_labels,
        tuple(f"{name}{CHOSEN}" for name in ("micro_f1", "macro_f1", "subset_accuracy")),
        ("subset_accuracy", f"subset_accuracy{CHOSEN}", "loss"),
    ),
    "regression": Weighed(read_numbers, sums_of_numbers, (), ("mae",)),
}


def num_draws(num_texts: int) -> int:
    """D, of so many texts: fewer of many, and never another number for the same texts."""
    return int(np.clip(MOST_TEXTS_DRAWN // max(num_texts, 1), FEWEST_DRAWS, DRAWS))


def drawn_texts(num_texts: int) -> Iterator[np.ndarray]:
    """How often each text is in each draw of N texts with replacement, some draws at a time: (N, D').

    The draws of N texts are always the same, so runs that were measured on the same texts are drawn alike.
    """
    generator = np.random.default_rng(SEED)
    left, at_once = num_draws(num_texts), max(8, TEXTS_AT_ONCE // num_texts)
    while left > 0:
        size = min(at_once, left)
        drawn = np.empty((num_texts, size))
        for d in range(size):
            drawn[:, d] = np.bincount(generator.integers(0, num_texts, num_texts), minlength=num_texts)
        yield drawn
        left -= size
