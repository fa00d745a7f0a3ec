"""What the probabilities of one multi-label evaluation show: figures, thresholds, intervals. numpy only.

N rows, C labels, D draws of N rows with replacement. A text gets the labels whose probability reaches their
threshold: 0.5, or the one that validation chose. F1 of all labels counts them together (micro) or is the mean
of each label's (macro), as in scikit-learn and torchmetrics; a label that nobody gives or has counts as 0.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_ft.report.intervals import (
    AT_ONCE,
    DRAWS,
    FEWEST_DRAWS,
    MOST_CLASSES,
    MOST_ROWS,
    SEED,
    Interval,
    ends_of,
    wilson,
)

HALF = 0.5
FEWEST_POSITIVES = 10  # of a label in the validation texts; with fewer its threshold is 0.5
DIGITS = 6  # of a threshold
MOST_DRAWN = 250_000_000  # rows times labels times draws, of average precisions: beyond, they get no interval
MOST_IN_TABLE = 12  # labels that get a table of pairs
NUM_PAIRS = 40  # most frequent pairs that are kept
NUM_MISTAKES = 60
STEPS = [round(0.05 * i, 2) for i in range(1, 20)]  # thresholds of the chart
CHOSEN = "_chosen"  # the end of the name of a figure at the chosen thresholds


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits (N, C) -> probabilities (N, C) float64."""
    return 1 / (1 + np.exp(-logits.astype(np.float64).clip(-500, 500)))


def count_labels(tags: np.ndarray, said: np.ndarray) -> dict[str, list[int]]:
    """For each label the `rows` that have it, those `predicted` to have it, and those `right`ly so.

    `tags` and `said` are (N, C) bool.
    """
    found = {"rows": tags, "predicted": said, "right": tags & said}
    return {name: values.sum(0).tolist() for name, values in found.items()}


def f1_of_labels(rows: np.ndarray, predicted: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 of each label (..., C), and of all labels counted together (...), from counts (..., C)."""
    total = rows + predicted
    each = 2 * right / np.maximum(total, 1)
    return each, 2 * right.sum(-1) / np.maximum(total.sum(-1), 1)


def scores_of_tags(tags: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """`micro_f1`, `macro_f1`, and `subset_accuracy`, the share of texts whose labels are all right.

    `tags` and `said` are (N, C) bool.
    """
    each, micro = f1_of_labels(*(np.asarray(counts) for counts in count_labels(tags, said).values()))
    exact = float((tags == said).all(1).mean())
    return {"micro_f1": float(micro), "macro_f1": float(each.mean()), "subset_accuracy": exact}


def average_precisions(tags: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The average precision of each label, (C,), as in scikit-learn; NaN for one that no row has."""
    found = np.full(tags.shape[1], np.nan)
    for c in range(tags.shape[1]):
        order, ends = _ranked(probabilities[:, c])
        right = tags[order, c].cumsum()[ends]
        if right[-1]:
            found[c] = (np.diff(right, prepend=0) * right / (ends + 1)).sum() / right[-1]
    return found


def mean_of(precisions: np.ndarray) -> float:
    """The mean over all labels, (C,) -> (); one that no row has counts as 0, as it does in scikit-learn."""
    return float(np.nan_to_num(precisions).mean())


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions from the highest value to the lowest, and where each run of equal ones ends."""
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])


def choose_thresholds(probabilities: np.ndarray, tags: np.ndarray) -> list[float]:
    """For each label the threshold with the highest F1 on these rows, of equal ones the nearest to 0.5.

    It lies in the middle between two probabilities. A label with fewer than `FEWEST_POSITIVES` rows gets 0.5.

    Args:
        probabilities: (N, C), of validation rows.
        tags: (N, C) bool.
    """
    found = []
    for c in range(tags.shape[1]):
        positives = int(tags[:, c].sum())
        if positives < FEWEST_POSITIVES:
            found.append(HALF)
            continue
        order, ends = _ranked(probabilities[:, c])
        values, right = probabilities[order, c][ends], tags[order, c].cumsum()[ends]
        f1 = 2 * right / (ends + 1 + positives)
        middles = (values + np.append(values[1:], 0.0)) / 2
        best = np.flatnonzero(f1 >= f1.max() - 1e-12)
        # 0.5 itself, where it divides the rows as the best middle does
        within = (values[best] >= HALF) & (np.append(values[1:], 0.0)[best] < HALF)
        chosen = HALF if within.any() else float(middles[best[np.argmin(np.abs(middles[best] - HALF))]])
        found.append(float(np.clip(round(chosen, DIGITS), 10.0**-DIGITS, 1 - 10.0**-DIGITS)))
    return found


# ---- intervals ---------------------------------------------------------------------------------------


def _drawn_rows(num_rows: int, num_draws: int) -> Any:
    """How often each row is in each draw, some draws at a time: (D', N) float32."""
    generator = np.random.default_rng(SEED)
    at_once = max(1, AT_ONCE // num_rows)
    for start in range(0, num_draws, at_once):
        size = min(at_once, num_draws - start)
        rows = generator.integers(0, num_rows, (size, num_rows)) + num_rows * np.arange(size)[:, None]
        yield np.bincount(rows.ravel(), minlength=size * num_rows).reshape(size, num_rows).astype(np.float32)


def tag_intervals(
    probabilities: np.ndarray, tags: np.ndarray, said: np.ndarray, losses: np.ndarray
) -> dict[str, Any]:
    """The 95 % intervals of an evaluation as plain values: `scores`, `classes` and the number of `draws`.

    Args:
        probabilities: (N, C).
        tags: (N, C) bool.
        said: The labels at the chosen thresholds, (N, C) bool.
        losses: Of each row, (N,).

    Returns:
        `scores`: name -> ends. `classes`: label -> `precision`, `recall`, `f1` at the chosen thresholds, each
        with its ends, of all labels or the commonest ones.
    """
    num_rows = len(tags)
    answers = {"": probabilities >= HALF, CHOSEN: said}
    drawn: dict[str, list[np.ndarray]] = {}

    def keep(name: str, values: np.ndarray) -> None:
        drawn.setdefault(name, []).append(values)

    num_draws = int(np.clip(MOST_ROWS // num_rows, FEWEST_DRAWS, DRAWS))
    given = tags.astype(np.float32)
    parts = {
        end: (
            one.astype(np.float32),
            (one & tags).astype(np.float32),
            (one == tags).all(1).astype(np.float32),
        )
        for end, one in answers.items()
    }
    for weights in _drawn_rows(num_rows, num_draws):
        rows = weights @ given
        keep("loss", weights @ losses.astype(np.float32) / num_rows)
        for end, (one, both, exact) in parts.items():
            predicted, right = weights @ one, weights @ both
            each, micro = f1_of_labels(rows, predicted, right)
            keep(f"micro_f1{end}", micro)
            keep(f"macro_f1{end}", each.mean(-1))
            keep(f"subset_accuracy{end}", weights @ exact / num_rows)
            if end == CHOSEN:
                keep("precision of each", right / np.maximum(predicted, 1))
                keep("recall of each", right / np.maximum(rows, 1))
                keep("f1 of each", each)
                keep("without_label", weights @ (~said).all(1).astype(np.float32) / num_rows)
    whole = {name: np.concatenate(values) for name, values in drawn.items()}
    scores = {name: list(ends_of(values)) for name, values in whole.items() if values.ndim == 1}
    for end, one in answers.items():
        counts = [int(values.sum()) for values in (tags, one, tags & one)]
        if counts[2] == 0 or counts[0] == counts[1] == counts[2]:
            ends = list(_f1_of_few(*counts))
            scores |= {f"micro_f1{end}": ends, f"macro_f1{end}": ends}
    shares = {f"subset_accuracy{end}": (one == tags).all(1) for end, one in answers.items()}
    for name, of in {**shares, "without_label": ~said.any(1)}.items():
        if (count := int(of.sum())) in (0, num_rows):  # a bootstrap draws nothing else
            scores[name] = list(wilson(count, num_rows))
    if num_rows * tags.shape[1] * FEWEST_DRAWS <= MOST_DRAWN and tags.any():
        scores["average_precision"] = list(_of_average_precision(probabilities, tags))
    return {"scores": scores, "classes": _of_each(whole, tags, said), "draws": num_draws}


def _of_average_precision(probabilities: np.ndarray, tags: np.ndarray) -> Interval:
    """Of the mean over the labels, from `FEWEST_DRAWS` draws."""
    num_rows = len(tags)
    weights = np.concatenate(list(_drawn_rows(num_rows, FEWEST_DRAWS))).T.copy()  # (N, D)
    total = np.zeros(weights.shape[1])
    for c in np.flatnonzero(tags.any(0)):
        order, ends = _ranked(probabilities[:, c])
        # Only runs of equal probabilities with a row that has the label count; those between are summed up.
        has = np.add.reduceat(tags[order, c], np.r_[0, ends[:-1] + 1]) > 0
        stops = ends[has]
        starts = np.r_[0, stops[:-1] + 1]
        held = weights[order[: stops[-1] + 1]]
        rows = np.add.reduceat(held, starts).cumsum(0)  # (runs, D)
        own = np.add.reduceat(held * tags[order[: stops[-1] + 1], c, None], starts)
        right = own.cumsum(0)
        total += (own * right / np.maximum(rows, 1)).sum(0) / np.maximum(right[-1], 1)
    return ends_of(total / tags.shape[1])


def _of_each(whole: Mapping[str, np.ndarray], tags: np.ndarray, said: np.ndarray) -> dict[str, Any]:
    """The ends of precision, recall and F1 of each label; Wilson's where all or none is right."""
    counts = {name: np.asarray(values) for name, values in count_labels(tags, said).items()}
    shown = np.sort(np.argsort(-counts["rows"], kind="stable")[:MOST_CLASSES])
    table: dict[str, Any] = {}
    for c in shown.tolist():
        rows, predicted, right = (int(counts[name][c]) for name in ("rows", "predicted", "right"))
        ends = {name: ends_of(whole[f"{name} of each"][:, c]) for name in ("precision", "recall", "f1")}
        for name, of in (("precision", predicted), ("recall", rows)):
            if right in (0, of):
                ends[name] = wilson(right, of)
        if right == 0 or right == rows == predicted:
            ends["f1"] = _f1_of_few(rows, predicted, right)
        table[str(c)] = {name: list(pair) for name, pair in ends.items()}
    return table


def _f1_of_few(rows: int, predicted: int, right: int) -> Interval:
    """The ends of an F1 of 0 or 1, of which a bootstrap draws nothing else: from those of its two shares."""
    recall, precision = wilson(right, rows), wilson(right, predicted)
    pairs = (recall.low, precision.low), (recall.high, precision.high)
    return Interval(*(2 * a * b / max(a + b, 1e-12) for a, b in pairs))


def tag_differences(
    tags: np.ndarray, one: np.ndarray, other: np.ndarray, num_draws: int = DRAWS
) -> dict[str, tuple[float, np.ndarray]]:
    """How much better another answer is on the same rows: of each figure the difference, and its draws (D,).

    Args:
        tags: (N, C) bool.
        one: What one says, (N, C) bool.
        other: What the other says, (N, C) bool.
        num_draws: At most.
    """
    there, here = scores_of_tags(tags, other), scores_of_tags(tags, one)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in here}
    kept = tags.any(0) | one.any(0) | other.any(0)  # all others are 0 in every draw
    given = tags[:, kept].astype(np.float32)
    said = [answer[:, kept].astype(np.float32) for answer in (other, one)]
    exact = (tags == other).all(1).astype(np.float32) - (tags == one).all(1)
    num_draws = int(np.clip(MOST_ROWS // len(tags), FEWEST_DRAWS, num_draws))
    for weights in _drawn_rows(len(tags), num_draws):
        rows = weights @ given
        found = [f1_of_labels(rows, weights @ answer, weights @ (answer * given)) for answer in said]
        drawn["micro_f1"].append(found[0][1] - found[1][1])
        drawn["macro_f1"].append((found[0][0] - found[1][0]).sum(-1) / tags.shape[1])
        drawn["subset_accuracy"].append(weights @ exact / len(tags))
    return {name: (there[name] - here[name], np.concatenate(values)) for name, values in drawn.items()}


# ---- one evaluation ----------------------------------------------------------------------------------


def figures_of_tags(probabilities: np.ndarray, tags: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Every figure but the loss: at 0.5, and with `_chosen` at the chosen thresholds, (N, C) each."""
    chosen = {f"{name}{CHOSEN}": value for name, value in scores_of_tags(tags, said).items()}
    return {
        **scores_of_tags(tags, probabilities >= HALF),
        "average_precision": mean_of(average_precisions(tags, probabilities)),
        **chosen,
        "without_label": float((~said).all(1).mean()),
    }


def summarise_tags(
    probabilities: np.ndarray,
    tags: np.ndarray,
    said: np.ndarray,
    losses: np.ndarray,
    index: np.ndarray,
    thresholds: list[float],
    cut: np.ndarray | None = None,
) -> dict[str, Any]:
    """Everything that a report shows of one evaluation, as plain values without texts.

    Args:
        probabilities: (N, C).
        tags: (N, C) bool.
        said: The labels at the thresholds, (N, C) bool.
        losses: Of each row, (N,).
        index: The position of each row in its table, (N,) int64.
        thresholds: Of each label, (C,).
        cut: Whether the row was cut to `max_tokens`, (N,) bool.
    """
    wrong = (tags != said).any(1)
    half = probabilities >= HALF
    summary: dict[str, Any] = {
        "rows": len(tags),
        "class_counts": count_labels(tags, said),
        "class_counts_at_half": count_labels(tags, half),
        "average_precisions": [
            None if np.isnan(v) else float(v) for v in average_precisions(tags, probabilities)
        ],
        "thresholds": thresholds,
        "without_label": {
            "given": int((~tags.any(1)).sum()),
            "predicted": int((~said.any(1)).sum()),
            "at_half": int((~half.any(1)).sum()),
            "both": int((~tags.any(1) & ~said.any(1)).sum()),
        },
        "a_text": {"given": float(tags.sum(1).mean()), "predicted": float(said.sum(1).mean())},
        "pairs": frequent_pairs(tags, said),
        "curve": threshold_curve(probabilities, tags),
        "together": None,
        "mistakes": tag_mistakes(probabilities, tags, said, losses, index),
        "num_mistakes": int(wrong.sum()),
    }
    if tags.shape[1] <= MOST_IN_TABLE:
        summary["together"] = {
            name: _together(of).tolist() for name, of in (("given", tags), ("predicted", said))
        }
    if cut is not None:
        summary["cut"] = {"rows": int(cut.sum()), "right": int((cut & ~wrong).sum())}
    return summary


def _together(tags: np.ndarray) -> np.ndarray:
    """Rows that have two labels, (C, C); in the diagonal those that have the one."""
    found = tags.astype(np.float32)
    return (found.T @ found).round().astype(np.int64)


def frequent_pairs(tags: np.ndarray, said: np.ndarray) -> list[list[int]]:
    """Pairs of labels that a text has or gets: both labels, rows given both, rows predicted to have both."""
    given, predicted = _together(tags), _together(said)
    first, second = np.triu_indices(tags.shape[1], 1)
    counts = np.stack([first, second, given[first, second], predicted[first, second]], 1)
    order = np.argsort(-counts[:, 2:].max(1), kind="stable")[:NUM_PAIRS]
    return [pair for pair in counts[order].tolist() if pair[2] or pair[3]]


def threshold_curve(probabilities: np.ndarray, tags: np.ndarray) -> list[list[float]]:
    """Threshold, precision and recall of all labels together, for one threshold of all."""
    positives, rows = max(int(tags.sum()), 1), []
    for t in STEPS:
        said = probabilities >= t
        right, predicted = int((said & tags).sum()), int(said.sum())
        if predicted:
            rows.append([t, right / predicted, right / positives])
    return rows


def tag_mistakes(
    probabilities: np.ndarray, tags: np.ndarray, said: np.ndarray, losses: np.ndarray, index: np.ndarray
) -> list[dict[str, Any]]:
    """At most `NUM_MISTAKES` texts whose labels are not all right, the largest loss first.

    Half of the places are for the labels: of each at least a missed and a wrongly given one.
    """
    wrong = np.flatnonzero((tags != said).any(1))
    wrong = wrong[np.argsort(-losses[wrong], kind="stable")]
    chosen = wrong[: NUM_MISTAKES - NUM_MISTAKES // 2].tolist()
    for c in np.argsort(-(tags != said).sum(0), kind="stable")[:NUM_MISTAKES]:
        for kind in (tags[wrong, c] & ~said[wrong, c], ~tags[wrong, c] & said[wrong, c]):
            chosen += wrong[kind][:2].tolist()
    kept = set(list(dict.fromkeys([*chosen, *wrong.tolist()]))[:NUM_MISTAKES])

    def likely(row: Any, labels: np.ndarray) -> list[list[float]]:
        return [[int(c), round(float(probabilities[row, c]), 4)] for c in np.flatnonzero(labels)]

    return [
        {
            "index": int(index[row]),
            "missed": likely(row, tags[row] & ~said[row]),
            "wrong": likely(row, ~tags[row] & said[row]),
            "right": [int(c) for c in np.flatnonzero(tags[row] & said[row])],
            "loss": float(losses[row]),
        }
        for row in wrong
        if row in kept
    ]
