"""What the predictions of one evaluation of a regression show. numpy only.

Numbers are in the user's units, float64. N rows, D draws, P predictions that are compared.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_ft.report import intervals

NUM_MISTAKES = 60  # kept with their texts: those with the largest errors
MOST_GROUPS = 5  # quantiles of the numbers, or levels if there are no more of them
MOST_LEVELS = 10
MOST_POINTS = 400  # drawn one by one; more would be one blot
GRID = 40  # squares along each axis that stand for more points
INSIDE = 0.998  # of the rows lie within the scatter's axes: a single one far away would leave it empty
# The bootstrap of N rows draws from a random part of at most so many, and narrows the interval for what is
# left out: by sqrt(part / N) (Bickel, Goetze and van Zwet 1997, "Resampling fewer than n observations").
MOST_DRAWN = 50_000
MOST_TAKEN = 30_000_000  # rows over all draws: about a second
FIGURES = ("mae", "rmse", "r2", "spearman")


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, (N,) float64; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[place]


def number_scores(labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """`mae`, `rmse`, `r2` and `spearman`; the last two only if two labels differ.

    Spearman's correlation of equal predictions, which rank nothing, is 0.

    Args:
        labels: (N,).
        predicted: (N,).
    """
    figures = _Figures(labels, predicted[None])
    found = figures.of(np.ones((1, len(labels))))
    return {name: float(values[0, 0]) for name, values in found.items()}


class _Figures:
    """The figures of P predictions of the same rows, under weights of the rows."""

    def __init__(self, labels: np.ndarray, several: np.ndarray) -> None:
        """Take labels (N,) and predictions (P, N)."""
        # In other units: the squares of 1e200 would be none, nor those of 1e9 + small differences.
        self.middle, self.unit = float(labels.mean()), float(np.abs(labels - labels.mean()).max()) or 1.0
        self.defined = len(labels) > 1 and bool((labels != labels[0]).any())
        errors = (several - labels) / self.unit
        self.sums = np.stack([np.ones(len(labels)), (labels - self.middle) / self.unit], 1)  # (N, 2)
        self.sums = np.concatenate([self.sums, self.sums[:, 1:] ** 2, np.abs(errors).T, (errors**2).T], 1)
        self.groups = [np.unique(values, return_inverse=True)[1] for values in (labels, *several)]
        self.count = len(several)

    def of(self, drawn: np.ndarray) -> dict[str, np.ndarray]:
        """How often each row was drawn (D', N) -> name of a figure -> (P, D')."""
        # Not by `@`: the threads of a BLAS would spin for as long as the rest takes.
        total, first, second, *errors = np.einsum("dn,nk->kd", drawn, self.sums)
        mae, mse = np.stack(errors[: self.count]) / total, np.stack(errors[self.count :]) / total
        found = {"mae": mae * self.unit, "rmse": np.sqrt(mse) * self.unit}
        if self.defined:
            spread = second / total - (first / total) ** 2
            spread = np.where(spread > 1e-12, spread, np.nan)  # of a draw of equal labels nothing is defined
            found["r2"] = 1 - mse / spread
            found["spearman"] = np.stack([self._spearman(weights) for weights in drawn], 1)
        return found

    def _spearman(self, weights: np.ndarray) -> np.ndarray:
        """The correlation of the ranks in one draw (N,) with the labels': (P,)."""
        total, centred = weights.sum(), []
        for group in self.groups:
            counts = np.bincount(group, weights)
            centred.append((counts.cumsum() - counts / 2 - total / 2)[group])
        given, *said = centred
        weighted = weights * given
        square = float((weighted * given).sum()) or np.nan
        products = np.array([(weighted * one).sum() for one in said])
        squares = np.array([(weights * one**2).sum() for one in said])
        return products / np.sqrt(np.maximum(square * squares, 1e-300))


def of_draws(labels: np.ndarray, several: np.ndarray, work: float = 1.0) -> tuple[dict[str, np.ndarray], int]:
    """Figures of P predictions and of bootstrap draws of them, the same rows drawn for all.

    Args:
        labels: (N,).
        several: (P, N).
        work: Share of the draws that may be taken, of the rows of a slice.

    Returns:
        Name of a figure -> (P, 1 + D), the value itself first, and D. A draw's distance from the value is
        narrowed if only a part of the rows is drawn from. NaN where a draw of few rows leaves it undefined.
    """
    whole = _Figures(labels, several).of(np.ones((1, len(labels))))
    generator = np.random.default_rng(intervals.SEED)
    size = min(len(labels), MOST_DRAWN)
    part = np.arange(size) if size == len(labels) else generator.permutation(len(labels))[:size]
    figures = _Figures(labels[part], several[:, part])
    num_draws = int(np.clip(MOST_TAKEN * work // size, intervals.FEWEST_DRAWS, intervals.DRAWS))
    at_once = max(1, intervals.AT_ONCE // size)
    drawn: dict[str, list[np.ndarray]] = {}
    for start in range(0, num_draws, at_once):
        rows = generator.integers(0, size, (min(at_once, num_draws - start), size), np.int32)
        weights = np.stack([np.bincount(one, minlength=size) for one in rows]).astype(np.float64)
        for name, values in figures.of(weights).items():
            drawn.setdefault(name, []).append(values)
    centre = whole if size == len(labels) else figures.of(np.ones((1, size)))
    narrower = np.sqrt(size / len(labels))
    found = {}
    for name, value in whole.items():
        if name in drawn:
            around = value + (np.concatenate(drawn[name], 1) - centre[name]) * narrower
            found[name] = np.concatenate([value, around], 1)
    return found, num_draws


def number_intervals(
    labels: np.ndarray, predicted: np.ndarray, deviation: float, work: float = 1.0
) -> dict[str, Any]:
    """The 95 % intervals of an evaluation as plain values: `scores` and the number of `draws`.

    Args:
        labels: (N,).
        predicted: (N,).
        deviation: By which the loss is standardised: it is (RMSE / deviation) squared.
        work: As in `of_draws`.
    """
    found, num_draws = of_draws(labels, predicted[None], work)
    scores = {name: ends_of_draws(values[0, 1:]) for name, values in found.items()}
    scores["loss"] = intervals.Interval(*((end / deviation) ** 2 for end in scores["rmse"]))
    return {"scores": {name: list(ends) for name, ends in scores.items()}, "draws": num_draws}


def ends_of_draws(draws: np.ndarray) -> intervals.Interval:
    """The 95 % interval of a figure from its value in each draw, (D,), without those that are NaN."""
    return intervals.ends_of(draws[np.isfinite(draws)])


def gain_over(labels: np.ndarray, predicted: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """How much smaller the mean absolute error is than that of other predictions, and its 95 % interval.

    Args:
        labels: (N,).
        predicted: (N,).
        other: (N,).
    """
    gains = np.abs(other - labels) - np.abs(predicted - labels)
    half = intervals.NORMAL * float(gains.std(ddof=min(1, len(gains) - 1))) / len(gains) ** 0.5
    gain = float(gains.mean())
    return gain, gain - half, gain + half


def groups_of(values: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> list[dict[str, float]]:
    """The errors by level of some values: one entry for each of at most ten levels, or for each fifth.

    Args:
        values: What is divided, the labels or the predictions, (N,).
        labels: (N,).
        predicted: (N,).

    Returns:
        `low` and `high` of the values, `rows`, `mae`, and `bias`, the mean of prediction minus label.
    """
    levels = np.unique(values)
    if len(levels) > MOST_LEVELS:
        levels = np.unique(np.quantile(values, np.arange(MOST_GROUPS) / MOST_GROUPS))
    place = np.searchsorted(levels, values, side="right") - 1
    errors, found = predicted - labels, []
    for group in np.unique(place):
        inside = place == group
        found.append(
            {
                "low": float(values[inside].min()),
                "high": float(values[inside].max()),
                "rows": int(inside.sum()),
                "mae": float(np.abs(errors[inside]).mean()),
                "bias": float(errors[inside].mean()),
            }
        )
    return found


def scatter_points(labels: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    """The points of a scatter: one by one, or counted in squares if there are many.

    Args:
        labels: (N,).
        predicted: (N,).

    Returns:
        `low` and `high` of both axes, how many rows are `outside`, and `points` (x, y) or `squares` (column,
        row, rows in it), as many a `side` as it says.
    """
    ends = np.quantile(np.concatenate([labels, predicted]), [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    most = np.array([min(labels.min(), predicted.min()), max(labels.max(), predicted.max())])
    wide = ends[1] - ends[0]
    if len(labels) <= MOST_POINTS or most[1] - most[0] < 1.5 * wide:
        ends = most
    low, high = float(ends[0]), float(ends[1])
    inside = (labels >= low) & (labels <= high) & (predicted >= low) & (predicted <= high)
    found: dict[str, Any] = {"low": low, "high": high, "outside": int((~inside).sum())}
    x, y = labels[inside], predicted[inside]
    if len(labels) <= MOST_POINTS:
        return found | {"points": np.stack([x, y], 1).tolist()}
    places = [np.minimum(((v - low) / (high - low or 1.0) * GRID).astype(np.int64), GRID - 1) for v in (x, y)]
    cells, counts = np.unique(np.stack(places), axis=1, return_counts=True)
    return found | {"side": GRID, "squares": np.vstack([cells, counts]).T.tolist()}


def summarise_numbers(
    labels: np.ndarray,
    predicted: np.ndarray,
    index: np.ndarray,
    cut: np.ndarray | None = None,
    clipped: int = 0,
) -> dict[str, Any]:
    """Everything that a report shows of one evaluation, as plain values without texts.

    Args:
        labels: (N,).
        predicted: (N,).
        index: The position of each row in its table, (N,) int64.
        cut: Whether the row was cut to `max_tokens`, (N,) bool.
        clipped: How many predictions were moved into `model.clip`.
    """
    away = np.abs(predicted - labels)
    worst = np.argsort(-away, kind="stable")[:NUM_MISTAKES]
    summary: dict[str, Any] = {
        "rows": len(labels),
        "labels": _moments(labels),
        "predictions": _moments(predicted),
        "by_label": groups_of(labels, labels, predicted),
        "by_prediction": groups_of(predicted, labels, predicted),
        "scatter": scatter_points(labels, predicted),
        "within": {name: float(np.quantile(away, q)) for name, q in (("half", 0.5), ("most", 0.9))},
        "mistakes": [
            {"index": int(index[i]), "label": float(labels[i]), "predicted": float(predicted[i])}
            for i in worst
        ],
        "clipped": clipped,
    }
    if cut is not None:
        known = [away[cut], away[~cut]]
        summary["cut"] = {
            "rows": int(cut.sum()),
            **{
                name: {"mae": float(of.mean()), "deviation": float(of.std())}
                for name, of in zip(("long", "short"), known, strict=True)
                if len(of)
            },
        }
    return summary


def _moments(values: np.ndarray) -> dict[str, float]:
    found: Mapping[str, Any] = {
        "mean": values.mean(), "deviation": values.std(), "low": values.min(), "high": values.max()
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}
