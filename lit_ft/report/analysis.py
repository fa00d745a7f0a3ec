"""What the probabilities of one evaluation show beyond its scores. numpy only.

N rows, C classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_ft.report import intervals
from lit_ft.tasks import DECISIONS, decided, row_cross_entropies

CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2
TEMPERATURES = (0.1, 10.0)  # outside these a model is right, or wrong, on nearly every validation row
NUM_CONFUSIONS = 40  # frequent ones that are kept
NUM_MISTAKES = 60  # kept with their texts: the worst ones, and some of each frequent confusion
SURE = 0.5  # least probability of the class that a label is to be checked against
MOST_SOUND = 0.4  # share of the labels to check that may be expected of sound ones
UNLIKELY = np.geomspace(1e-5, 0.05, 20)  # probabilities of a label that may be doubted
MOST_VALUES = 20_000_000  # probabilities that are counted; of more rows a part
MOST_SUSPECT = 0.05  # of the texts; more doubtful labels are a doubtful model
MOST_IN_MATRIX = 100  # classes; more get no confusion matrix: 1,500 classes have 2,250,000 cells
ROWS_AT_ONCE = 256  # with a thousand classes their probabilities still fit in the processor's cache


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Logits (N, C) -> probabilities (N, C) float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T that maximises the likelihood of `softmax(logits / T)` (Guo et al. 2017, section 4.2).

    The loss is convex in b = 1 / T. Its derivative is mean(sum_c p_c z_c - z_label), so at the minimum the
    mean expected logit equals the mean logit of the labels. Found by bisection on a logarithmic scale.

    Args:
        logits: (N, C) of rows that were not trained on.
        labels: (N,) int64.

    Returns:
        T within `TEMPERATURES`; above 1 the model is overconfident.
    """
    z = logits.astype(np.float64)
    given = z[np.arange(len(z)), labels].mean()
    expected = np.empty(len(z))
    low, high = np.log(TEMPERATURES)
    for _ in range(40):  # to 1e-12 of the range
        middle = (low + high) / 2
        for start in range(0, len(z), ROWS_AT_ONCE):
            part = z[start : start + ROWS_AT_ONCE]
            expected[start : start + len(part)] = (softmax(part, float(np.exp(middle))) * part).sum(-1)
        # Expected above given: the model is too sure, so the temperature is too low.
        low, high = (middle, high) if expected.mean() > given else (low, middle)
    return float(np.exp((low + high) / 2))


def confidence_in(probabilities: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The probability (N,) of each row's predicted class (N,), among (N, C)."""
    return probabilities[np.arange(len(predicted)), predicted]


def bins_of(confidence: np.ndarray, num_bins: int = CALIBRATION_BINS) -> np.ndarray:
    """The bin of each confidence, (N,) -> (N,) int64."""
    edges = np.linspace(0, 1, num_bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, num_bins - 1)


def reliability(
    probabilities: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray | None = None,
    num_bins: int = CALIBRATION_BINS,
) -> list[dict[str, float]]:
    """The accuracy at each level of confidence: one entry for each bin that has rows.

    Args:
        probabilities: (N, C).
        labels: (N,) int64.
        predicted: (N,) int64; by default the likeliest class.
        num_bins: Equal intervals of the confidence from 0 to 1, with the edges of torchmetrics 1.9
            (functional/classification/calibration_error.py).

    Returns:
        The bin's `low` and `high`, and the mean `confidence`, `accuracy` and `count` of its rows.
    """
    predicted = probabilities.argmax(-1) if predicted is None else predicted
    confidence, correct = confidence_in(probabilities, predicted), predicted == labels
    edges = np.linspace(0, 1, num_bins + 1)
    place = bins_of(confidence, num_bins)
    bins = []
    for i in range(num_bins):
        if (inside := place == i).any():
            bins.append(
                {
                    "low": float(edges[i]),
                    "high": float(edges[i + 1]),
                    "confidence": float(confidence[inside].mean()),
                    "accuracy": float(correct[inside].mean()),
                    "count": int(inside.sum()),
                }
            )
    return bins


def calibration_error(bins: list[dict[str, float]]) -> float:
    """The expected calibration error from `reliability`: the mean gap, weighted by rows."""
    total = sum(entry["count"] for entry in bins)
    gaps = (entry["count"] * abs(entry["confidence"] - entry["accuracy"]) for entry in bins)
    return sum(gaps) / max(total, 1)


def count_confusions(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> list[list[int]] | None:
    """The confusion matrix, (C true, C predicted); None for more than `MOST_IN_MATRIX` classes."""
    if num_classes > MOST_IN_MATRIX:
        return None
    counts = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).tolist()


def frequent_confusions(labels: np.ndarray, predicted: np.ndarray) -> list[list[int]]:
    """The `NUM_CONFUSIONS` most frequent mistakes: true class, predicted class, number of rows."""
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]]), axis=1, return_counts=True)
    first = np.argsort(-counts, kind="stable")[:NUM_CONFUSIONS]
    return np.vstack([pairs, counts])[:, first].T.tolist()


def class_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, list[int]]:
    """For each class the number of its `rows`, of rows `predicted` as it, and of those that are `right`.

    `labels` and `predicted` are (N,) int64.
    """
    classes = {"rows": labels, "predicted": predicted, "right": labels[labels == predicted]}
    return {key: np.bincount(values, minlength=num_classes).tolist() for key, values in classes.items()}


def per_class(counts: dict[str, list[int]]) -> list[dict[str, float]]:
    """Precision, recall, F1 and number of rows of each class, from `class_counts`."""
    right, rows, predicted = (
        np.asarray(counts[key], dtype=np.float64) for key in ("right", "rows", "predicted")
    )
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(rows, 1)
    f1 = 2 * right / np.maximum(rows + predicted, 1)
    return [
        {"precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for p, r, f, n in zip(precision, recall, f1, rows, strict=True)
    ]


def worst_mistakes(
    probabilities: np.ndarray, labels: np.ndarray, predicted: np.ndarray, count: int = NUM_MISTAKES
) -> np.ndarray:
    """At most `count` misclassified rows, those first whose label the model finds least likely.

    Half of the places are for the frequent confusions: two each, or more by their share of all mistakes.
    """
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]
    chosen = wrong[: count - count // 2].tolist()
    for label, said, rows in frequent_confusions(labels, predicted):
        places = max(2, count // 2 * rows // len(wrong))
        chosen += wrong[(labels[wrong] == label) & (predicted[wrong] == said)][:places].tolist()
    kept = list(dict.fromkeys([*chosen, *wrong.tolist()]))[:count]
    return wrong[np.isin(wrong, kept)]


def label_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Rows whose label may be wrong, likeliest first; none where sound labels explain what is seen.

    Of sound labels a calibrated model gives a probability of at most t to as many as it says itself: to the
    sum of its probabilities up to t over all rows and classes. If labels that unlikely are far more frequent,
    most of them are wrong. Taken is the largest t at which at most the share `MOST_SOUND` of them is expected
    of sound labels, and only rows of which the model is `SURE`. It is about the likeliest class, whatever is
    decided for the row.

    Args:
        probabilities: (N, C), calibrated.
        labels: (N,) int64.
    """
    num_rows, num_classes = probabilities.shape
    given = probabilities[np.arange(num_rows), labels]
    some = np.random.default_rng(0).permutation(num_rows)[: max(1, MOST_VALUES // num_classes)]
    places = np.searchsorted(UNLIKELY, probabilities[some].ravel())
    sums = np.bincount(places, probabilities[some].ravel(), len(UNLIKELY) + 1)
    expected = sums.cumsum()[:-1] * num_rows / len(some)
    seen = np.searchsorted(np.sort(given), UNLIKELY, side="right")
    enough = (expected <= MOST_SOUND * seen) & (seen > expected + 2 * np.sqrt(expected) + 1)
    if not enough.any():
        return np.zeros(0, np.int64)
    found = np.flatnonzero((given <= UNLIKELY[enough][-1]) & (probabilities.max(-1) >= SURE))
    found = found[probabilities[found].argmax(-1) != labels[found]]
    return found[np.argsort(given[found], kind="stable")][: int(MOST_SUSPECT * num_rows)]


def accepted(
    probabilities: np.ndarray, labels: np.ndarray, predicted: np.ndarray | None = None
) -> dict[str, list[int]]:
    """For each least confidence 0.00, 0.01, ... 0.99: how many rows it accepts, how many of these are right.

    Args:
        probabilities: (N, C).
        labels: (N,) int64.
        predicted: (N,) int64; by default the likeliest class.

    Returns:
        `accepted` and `right`, 100 counts each.
    """
    predicted = probabilities.argmax(-1) if predicted is None else predicted
    percent = np.clip((confidence_in(probabilities, predicted) * 100 + 1e-9).astype(np.int64), 0, 99)
    found = {"accepted": percent, "right": percent[predicted == labels]}
    return {n: np.bincount(v, minlength=100)[::-1].cumsum()[::-1].tolist() for n, v in found.items()}


def summarise(
    logits: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    index: np.ndarray,
    temperature: float,
    cut: np.ndarray | None = None,
) -> dict[str, Any]:
    """Everything that a report shows of one evaluation, as plain values without texts.

    Args:
        logits: (N, C).
        labels: (N,) int64.
        predicted: (N,) int64.
        index: The position of each row in its table, (N,) int64.
        temperature: From `fit_temperature`.
        cut: Whether the row was cut to `max_tokens`, (N,) bool.
    """
    plain, calibrated = softmax(logits), softmax(logits, temperature)
    suspects = label_errors(calibrated, labels)
    doubted = set(suspects.tolist())

    def entries(rows: np.ndarray) -> list[dict[str, Any]]:
        return [
            {
                "index": int(index[i]),
                "label": int(labels[i]),
                "predicted": int(predicted[i]),
                "confidence": float(plain[i, predicted[i]]),
                "label_probability": float(plain[i, labels[i]]),
                "suspect": int(i) in doubted,
            }
            for i in rows
        ]

    summary = {
        "rows": len(labels),
        "class_counts": class_counts(labels, predicted, logits.shape[1]),
        "confusions": frequent_confusions(labels, predicted),
        "temperature": temperature,
        "reliability": reliability(plain, labels, predicted),
        "reliability_calibrated": reliability(calibrated, labels, predicted),
        "accepted": accepted(plain, labels, predicted),
        "accepted_calibrated": accepted(calibrated, labels, predicted),
        "mistakes": entries(worst_mistakes(plain, labels, predicted)),
        "num_mistakes": int((predicted != labels).sum()),
        "num_label_errors": len(suspects),
    }
    if cut is not None:
        right = predicted == labels
        summary["cut"] = {"rows": int(cut.sum()), "right": int(right[cut].sum())}
    return summary


def summary_intervals(
    logits: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    temperature: float,
    ordered: bool,
    work: float = 1.0,
) -> dict[str, Any]:
    """The 95 % intervals of an evaluation as plain values: `scores`, `classes` and the number of `draws`.

    Args:
        logits: (N, C).
        labels: (N,) int64.
        predicted: (N,) int64.
        temperature: From `fit_temperature`.
        ordered: Whether the classes are steps of a scale.
        work: Share of the usual work, for one of several parts of the same rows.
    """
    right, bins = predicted == labels, {}
    for name, by in (("ece", 1.0), ("ece_calibrated", temperature)):
        confidence = confidence_in(softmax(logits, by), predicted)
        bins[name] = bins_of(confidence), confidence, right
    found = intervals.of_answers(labels, predicted, logits.shape[1], ordered, work)
    found["scores"] |= intervals.of_rows(row_cross_entropies(logits, labels), bins, work)
    return {
        "scores": {name: list(ends) for name, ends in found["scores"].items()},
        "classes": {
            str(c): {name: list(ends) for name, ends in of.items()} for c, of in found["classes"].items()
        },
        "draws": found["draws"],
    }


def side_by_side(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, Any]]:
    """What each decision of `model.decide` reaches on these rows.

    Args:
        probabilities: (N, C), calibrated, of classes that are steps of a scale.
        labels: (N,) int64.

    Returns:
        Decision -> `accuracy`, `mae` and `kappa`, each with the ends of its 95 % interval as `..._low` and
        `..._high`.
    """
    found: dict[str, dict[str, Any]] = {}
    num_classes = probabilities.shape[1]
    for how in DECISIONS:
        answers = labels, decided(probabilities, how), num_classes, True
        ends, values = intervals.of_answers(*answers)["scores"], intervals.scores_of(*answers)
        found[how] = {
            key: value
            for name in ("accuracy", "mae", "kappa")
            for key, value in zip(
                (name, f"{name}_low", f"{name}_high"), (values[name], *ends[name]), strict=True
            )
        }
    return found


def calibration_of(summary: Mapping[str, Any]) -> tuple[dict[str, list[dict[str, float]]], str]:
    """The curves and the title of the reliability diagram."""
    before, after = summary["reliability"], summary["reliability_calibrated"]
    errors = f"{calibration_error(before):.3f}, {calibration_error(after):.3f} after scaling"
    return {"before": before, "after scaling": after}, f"Calibration error {errors}"
