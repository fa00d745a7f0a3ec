"""How far the figures of an evaluation can be trusted: 95 % bootstrap intervals. numpy only.

N rows, C classes, D draws. A draw takes N of the rows with replacement. What depends on the labels and the
answers alone is drawn as counts of the confusion matrix's cells that are not empty, of which there are far
fewer than rows (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13: percentiles).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

DRAWS = 2_000
FEWEST_DRAWS = 200  # the ends of a 95 % interval are then the fifth values from each side
MOST_CELLS = 8_000_000  # drawn over all draws: a second or so
AT_ONCE = 500_000  # of these in one piece: some megabytes
MOST_ROWS = 5_000_000  # the same, of rows
MOST_CLASSES = 50  # of more the commonest ones get intervals of their own
SEED = 18  # of a generator of its own: a run's random streams are left alone
LEVEL = 0.95
NORMAL = 1.959964  # the quantile of the normal distribution that belongs to it


class Interval(NamedTuple):
    """The two ends."""

    low: float
    high: float


def wilson(right: float, total: float) -> Interval:
    """The interval of a share, which is not empty even if all or none are right (Wilson 1927).

    A bootstrap of rows that are all right draws nothing but right ones.
    """
    if total <= 0:
        return Interval(0.0, 1.0)
    share, square = right / total, NORMAL**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = NORMAL / (1 + square / total) * np.sqrt(share * (1 - share) / total + square / (4 * total**2))
    low, high = float(middle - half), float(middle + half)
    return Interval(low if right else 0.0, high if right < total else 1.0)  # exact despite rounding


def of_accuracy(right: int, total: int) -> Interval:
    """The interval of an accuracy alone, for each validation of a run."""
    if right in (0, total):
        return wilson(right, total)
    draws = np.random.default_rng(SEED).binomial(total, right / total, DRAWS) / total
    return ends_of(draws)


def of_answers(
    labels: np.ndarray, predicted: np.ndarray, num_classes: int, ordered: bool, work: float = 1.0
) -> dict[str, Any]:
    """The intervals of all that the labels and the answers say.

    Args:
        labels: (N,) int64.
        predicted: (N,) int64.
        num_classes: C.
        ordered: Whether the classes are steps of a scale: then there are `mae` and `kappa`.
        work: Share of the usual work, for one of several parts of the same rows.

    Returns:
        `scores`: name -> Interval of `accuracy`, `macro_f1` and, if ordered, `mae` and `kappa`. `classes`:
        class -> `precision`, `recall` and `f1`, each an Interval, of all classes or the `MOST_CLASSES`
        commonest. `draws`: D.
    """
    cells, counts = np.unique(labels * num_classes + predicted, return_counts=True)  # sorted by label
    given, said = np.divmod(cells, num_classes)
    shown = _commonest(labels, num_classes)
    num_draws = int(np.clip(work * MOST_CELLS // min(max(len(cells), 1), len(labels)), FEWEST_DRAWS, DRAWS))
    scores: dict[str, list[np.ndarray]] = {}
    classes: dict[str, list[np.ndarray]] = {}
    for drawn in _drawn_cells(counts, num_draws):
        for name, values in _scores(drawn, given, said, num_classes, ordered, shown).items():
            (classes if values.ndim == 2 else scores).setdefault(name, []).append(values)
    right = int(counts[given == said].sum())
    found = {name: ends_of(np.concatenate(values)) for name, values in scores.items()}
    found["accuracy"] = of_accuracy(right, len(labels))  # as a run shows it while it trains
    ends = {name: _ends_of_columns(np.concatenate(values)) for name, values in classes.items()}
    table = {int(c): {name: Interval(*ends[name][i]) for name in ends} for i, c in enumerate(shown)}
    _widen(table, given, said, counts)
    return {"scores": found, "classes": table, "draws": num_draws}


def scores_of(labels: np.ndarray, predicted: np.ndarray, num_classes: int, ordered: bool) -> dict[str, float]:
    """The scores themselves: `accuracy`, `macro_f1` and, if ordered, `mae` and quadratic `kappa`.

    Args:
        labels: (N,) int64.
        predicted: (N,) int64.
        num_classes: C.
        ordered: Whether the classes are steps of a scale.
    """
    cells, counts = np.unique(labels * num_classes + predicted, return_counts=True)
    given, said = np.divmod(cells, num_classes)
    found = _scores(counts[None].astype(float), given, said, num_classes, ordered, np.zeros(0, np.int64))
    return {name: float(values[0]) for name, values in found.items() if values.ndim == 1}


def _commonest(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The classes that get intervals of their own, in their order."""
    if num_classes <= MOST_CLASSES:
        return np.arange(num_classes)
    rows = np.bincount(labels, minlength=num_classes)
    return np.sort(np.argsort(-rows, kind="stable")[:MOST_CLASSES])


def _drawn_cells(counts: np.ndarray, num_draws: int) -> Iterator[np.ndarray]:
    """Counts of the cells (K,) in each draw, some draws at a time: (D', K) float64."""
    generator = np.random.default_rng(SEED)
    total, num_cells = int(counts.sum()), len(counts)
    few = num_cells * 8 < total  # else drawing the rows one by one is faster
    row_cells = None if few else np.repeat(np.arange(num_cells), counts)
    at_once = max(1, AT_ONCE // max(num_cells, 0 if few else total))
    for start in range(0, num_draws, at_once):
        size = min(at_once, num_draws - start)
        if row_cells is None:
            drawn = generator.multinomial(total, counts / total, size)
        else:
            rows = generator.integers(0, total, (size, total))
            drawn = _by_draw(row_cells[rows], num_cells)
        yield drawn.astype(np.float64)


def _by_draw(groups: np.ndarray, num_groups: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Groups of the rows in each draw (D', N), and their weights -> sums (D', G)."""
    places = groups + num_groups * np.arange(len(groups))[:, None]
    heavy = None if weights is None else weights.ravel()
    return np.bincount(places.ravel(), heavy, num_groups * len(groups)).reshape(len(groups), num_groups)


def _scores(
    drawn: np.ndarray, given: np.ndarray, said: np.ndarray, num_classes: int, ordered: bool, shown: np.ndarray
) -> dict[str, np.ndarray]:
    """The figures of each draw: (D',) a score, (D', classes shown) a figure of classes."""
    rows, predicted, right = counts_of_draws(drawn, given, said, num_classes)
    away = np.abs(given - said).astype(np.float64) if ordered else None
    distances = None if away is None else (drawn @ away, drawn @ away**2)
    found, f1 = scores_of_counts(rows, predicted, right, distances)
    found["precision"] = (right / np.maximum(predicted, 1))[:, shown]
    found["recall"] = (right / np.maximum(rows, 1))[:, shown]
    found["f1"] = f1[:, shown]
    return found


def counts_of_draws(
    drawn: np.ndarray, given: np.ndarray, said: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Texts of each class, of those said to be of it, and of those rightly so, in each draw: (D', C) each.

    Args:
        drawn: Counts of the cells in each draw, (D', K).
        given: The label of each cell, (K,).
        said: What was said of it, (K,).
        num_classes: C.
    """
    rows, predicted = (_sums(drawn, groups, num_classes) for groups in (given, said))
    return rows, predicted, _sums(drawn[:, given == said], given[given == said], num_classes)


def scores_of_counts(
    rows: np.ndarray,
    predicted: np.ndarray,
    right: np.ndarray,
    distances: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Accuracy, macro F1 and, if there are distances, MAE and quadratic kappa, (D',) each; F1 (D', C).

    Args:
        rows: From `counts_of_draws`, as the next two.
        predicted: The same.
        right: The same.
        distances: Between label and answer, summed over the texts, and their squares, (D',) each; None
            without an order.
    """
    total = rows.sum(1)
    f1, macro_f1 = f1_of_counts(rows, predicted, right)
    found = {"accuracy": right.sum(1) / total, "macro_f1": macro_f1}
    if distances is not None:
        found["mae"] = distances[0] / total
        places = np.arange(rows.shape[1], dtype=np.float64)
        by_chance = _by_chance(rows, predicted, places)  # mean squared distance of independent answers
        kappa = 1 - distances[1] / np.maximum(total * by_chance, 1e-300)
        found["kappa"] = kappa.round(12) + 0.0  # 0 but for rounding, and not -0
    return found, f1


def f1_of_counts(rows: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each class (D', C), and its mean (D',), from `counts_of_draws`.

    As torchmetrics has it: a class that is neither a label nor said in a draw counts in no mean.
    """
    total = rows + predicted
    f1 = 2 * right / np.maximum(total, 1)
    return f1, f1.sum(1) / np.maximum((total > 0).sum(1), 1)


def _sums(drawn: np.ndarray, groups: np.ndarray, num_groups: int) -> np.ndarray:
    """Columns (D', K) summed by their group: (D', C)."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sums = np.zeros((len(drawn), num_groups))
    if len(starts):
        sums[:, groups[order][starts]] = np.add.reduceat(drawn[:, order], starts, axis=1)
    return sums


def _by_chance(rows: np.ndarray, predicted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The expected squared distance if answers did not depend on labels, (D',): from first two moments."""
    total = rows.sum(1)
    first = [counts @ places / total for counts in (rows, predicted)]
    second = [counts @ places**2 / total for counts in (rows, predicted)]
    return second[0] + second[1] - 2 * first[0] * first[1]


def _widen(
    table: dict[int, dict[str, Interval]], given: np.ndarray, said: np.ndarray, counts: np.ndarray
) -> None:
    """Give classes that are always or never right the interval that so few rows allow."""
    size = max([*given.tolist(), *said.tolist(), *table]) + 1
    rows, predicted = (np.bincount(c, counts, size) for c in (given, said))
    right = np.bincount(given[given == said], counts[given == said], size)
    for c, ends in table.items():
        for name, of in (("precision", predicted[c]), ("recall", rows[c])):
            if right[c] in (0, of):
                ends[name] = wilson(right[c], of)
        if right[c] == 0 or right[c] == rows[c] == predicted[c]:
            least, most = ends["recall"], ends["precision"]
            low, high = (
                2 * a * b / max(a + b, 1e-12) for a, b in ((least.low, most.low), (least.high, most.high))
            )
            ends["f1"] = Interval(low, high)


def of_rows(
    losses: np.ndarray, bins: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], work: float = 1.0
) -> dict[str, Any]:
    """The intervals of the mean loss and of the calibration errors, over rows; the latter without their bias.

    Args:
        losses: Of each row, (N,).
        bins: Name of an error -> for each row its bin (N,) int64, its confidence (N,), whether it is right
            (N,) bool.
        work: As in `of_answers`.
    """
    generator = np.random.default_rng(SEED)
    num_draws = int(np.clip(work * MOST_ROWS // len(losses), FEWEST_DRAWS, DRAWS))
    gaps = {name: (place, confidence - right) for name, (place, confidence, right) in bins.items()}
    drawn: dict[str, list[np.ndarray]] = {"loss": [], **{name: [] for name in bins}}
    at_once = max(1, AT_ONCE // len(losses))
    for start in range(0, num_draws, at_once):
        rows = generator.integers(0, len(losses), (min(at_once, num_draws - start), len(losses)))
        drawn["loss"].append(losses[rows].mean(1))
        for name, (place, gap) in gaps.items():
            sums = _by_draw(place[rows], int(place.max()) + 1, gap[rows])
            drawn[name].append(np.abs(sums).sum(1) / len(losses))
    found = {"loss": ends_of(np.concatenate(drawn.pop("loss")))}
    for name, values in drawn.items():
        place, gap = gaps[name]
        error = float(np.abs(np.bincount(place, gap)).sum() / len(losses))
        draws = np.concatenate(values)
        # A draw adds noise of its own to each bin, whose size counts: on average it is too large by that.
        low, high = ends_of(draws - (draws.mean() - error))
        found[name] = Interval(max(low, 0.0), high)
    return found


def ends_of(draws: np.ndarray) -> Interval:
    """The 95 % interval of a figure from its value in each draw, (D,): percentiles."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def _ends_of_columns(draws: np.ndarray) -> list[Any]:
    return np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).T.tolist()
