"""What to know before a classifier of one class a text is used: its rules, beside those of `findings.py`."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lit_ft.report.findings import (
    Case,
    Finding,
    classes_that,
    copies,
    cut_apart,
    few_trained,
    first_findings,
    never_measured,
    over_the_epochs,
    weak_slices,
)
from lit_ft.report.intervals import NORMAL
from lit_ft.report.tables import percent


def paired(first_only: int, second_only: int, rows: int) -> tuple[float, float, float]:
    """The difference of two accuracies on the same texts, and its 95 % interval (normal approximation).

    Args:
        first_only: Texts that only the first answers right.
        second_only: Texts that only the second answers right.
        rows: All texts.
    """
    difference = (first_only - second_only) / rows
    # With half a text more of each of the four kinds no interval of a few texts is empty (Agresti, Min 2005).
    total, both = rows + 2, first_only + second_only + 1
    middle = (first_only - second_only) / total
    half = NORMAL * ((both / total - middle**2) / total) ** 0.5
    return difference, max(middle - half, -1.0), min(middle + half, 1.0)


def points(share: float) -> str:
    """0.042 -> 4.2."""
    return f"{100 * share:.1f}"


def one_answer(case: Case) -> Finding | None:
    """It gives every text the same class."""
    said = np.flatnonzero(case.counts["predicted"])
    if len(said) != 1 or np.count_nonzero(case.counts["rows"]) < 2:  # of texts of one class that may be right
        return None
    return Finding(
        "bad",
        f"It answers {case.named(said.tolist())} to all {case.rows:,} texts: it has learned nothing else.",
        "Train longer, or change the learning rate (--model.learning_rate).",
    )


def beside_the_commonest(case: Case) -> Finding | None:
    """It is no better than always giving the commonest class of training."""
    given, commonest = case.baseline("commonest"), case.facts.get("baselines", {}).get("commonest", {})
    if not given or given["accuracy"] < case.accuracy or one_answer(case):
        return None
    return Finding(
        "bad",
        f"Always answering {case.named([commonest['class']])} is right "
        f"{'more' if given['accuracy'] > case.accuracy else 'as'} often: "
        f"{percent(given['accuracy'])}.",
        "Train longer, or change the learning rate (--model.learning_rate).",
    )


def beside_word_counts(case: Case) -> Finding | None:
    """Whether it beats counting words, on the same texts."""
    words = case.baseline("words")
    if not words:
        return None
    counts = words["only_model_right"], words["only_baseline_right"], case.rows
    better, low, high = paired(*counts)
    theirs = percent(words["accuracy"])
    span = f"95 %: {points(low)} to {points(high)}"
    if high < 0:
        return Finding(
            "bad",
            f"Counting words does better: {theirs}. This model is {points(-better)} points worse (95 %: "
            f"{points(-high)} to {points(-low)}).",
            "Train longer, with more texts or another learning rate; or use word counts.",
        )
    if better <= 0:
        return Finding(
            "bad",
            f"It is no better than counting words ({theirs}): the difference is {points(better)} points "
            f"({span}).",
            "Train longer, with more texts or another learning rate; or use word counts.",
        )
    if low <= 0:
        return Finding(
            "note",
            f"It is not certain that it beats counting words ({theirs}): the difference is {points(better)} "
            f"points ({span}).",
            f"More {case.texts} would tell; more training texts or epochs may make it better.",
        )
    return Finding(
        "good",
        f"It beats counting words ({theirs}) by {points(better)} points ({span}).",
    )


def never_predicted(case: Case) -> Finding | None:
    """Classes that have texts, and that it never answers."""
    rows, said = case.counts["rows"], case.counts["predicted"]
    missing = np.flatnonzero((rows > 0) & (said == 0))
    if not len(missing) or one_answer(case):
        return None
    first, what = classes_that(missing, rows, "is", "are")
    return Finding(
        "bad",
        f"{what} never predicted: {case.named(first)} ({rows[missing].sum():,} {case.texts}).",
        "Give them more texts, or set --model.class_weights=balanced, or train longer.",
    )


def commonest_confusion(case: Case) -> Finding | None:
    """One pair of classes that makes up much of all mistakes."""
    mistakes = case.summary["num_mistakes"]
    if not case.summary["confusions"] or one_answer(case):
        return None
    label, said, count = case.summary["confusions"][0]
    if count < 5 or count < 0.1 * mistakes:
        return None
    pair = f"{case.named([label])} taken for {case.named([said])}"
    of, share = int(case.counts["rows"][label]), f"{100 * count / mistakes:.0f}\u2009%"
    return Finding(
        "note",
        f"The most frequent mistake: {pair}, {count:,} of {of:,} texts; {share} of all mistakes.",
        "Read some of these texts; if people would disagree as well, join the two classes.",
    )


def few_validation_texts(case: Case) -> Finding | None:
    """Too few texts to tell one epoch from another."""
    low, high = (case.metrics.get(f"val/accuracy_{end}") for end in ("low", "high"))
    rows = int(case.metrics.get("val/rows", 0))
    if low is None or high is None or not rows or high - low < 0.05:
        return None
    if len(case.facts.get("history", {}).get("validation", [])) < 2:
        return None
    return Finding(
        "note",
        f"Only {rows:,} texts chose the best epoch and the temperature: differences below "
        f"{100 * (high - low) / 2:.0f} points between epochs may be luck.",
        "Hold out more (--data.validation_share), or give a validation file.",
    )


def calibration(case: Case) -> Finding | None:
    """How far the confidence is off, and whether the temperature helps."""
    before, after = case.figure("ece"), case.figure("ece_calibrated")
    if before is None or after is None or case.rows < 100 or one_answer(case):
        return None
    bins = case.summary["reliability"]
    confidence = sum(entry["confidence"] * entry["count"] for entry in bins) / case.rows
    way = "too high" if confidence > case.accuracy else "too low"
    off = f"{points(before)} points"
    if before < 0.03:
        return Finding("good", f"Its confidence can be taken at its word: it is off by {off} on average.")
    if case.prefix != "val" and before - after > 0.01:
        return Finding(
            "note",
            f"Its confidence is {way}, by {off} on average; calibrated it is off by {points(after)}.",
            "Use `predict --calibrate true`, and the second table of shares below.",
        )
    return Finding(
        "note",
        f"Its confidence is {way}, by {off} on average, and calibrating it hardly helps.",
        "A confidence of 0.80 does not mean that 80\u2009% are right: the report's table of what can be "
        "accepted says how many are.",
    )


def cut_texts(case: Case) -> Finding | None:
    """Whether texts that were cut are answered worse."""
    found = cut_apart(case, int(case.counts["right"].sum()))
    if found is None or one_answer(case):
        return None
    share, long, short, worse = found
    if worse:
        return Finding(
            "note",
            f"{share}; of these {percent(long)} are right, of the others {percent(short)}.",
            "A larger --data.max_tokens, or --data.truncation=head_tail, may help.",
        )
    return Finding("good", f"{share}; they are not answered worse than the others.")


def unmeasured_classes(case: Case) -> Finding | None:
    """Classes that were trained, and that no text here has."""
    missing, trained = never_measured(case)
    if not len(missing):
        return None
    first, what = classes_that(missing, trained, "has", "have")
    return Finding(
        "note",
        f"{what} no {case.texts} ({case.named(first)}): how well it knows them is not measured.",
        "Measure it on texts of every class.",
    )


def few_texts(case: Case) -> Finding | None:
    """So few texts were measured that every figure is a rough one."""
    low, high = case.figure("accuracy_low"), case.figure("accuracy_high")
    if low is None or high is None or high - low < 0.1:
        return None
    return Finding(
        "note",
        f"There are few {case.texts} ({case.rows:,}): the accuracy may as well be {low:.0%} or "
        f"{high:.0%}.".replace("%", "\u2009%"),
        "Measure it on more texts before you rely on it.",
    )


def not_tested(case: Case) -> Finding | None:
    """The figures are from texts that chose the epoch."""
    if case.prefix != "val":
        return None
    chose = len(case.facts.get("history", {}).get("validation", [])) > 1
    return Finding(
        "note",
        "These are validation texts, which also chose the best epoch: new texts will fare a little worse."
        if chose
        else "These are validation texts, by which the temperature was chosen: it is not tested yet.",
        "`test` on a file of its own tells how much (--data.test_path).",
    )


# In the order in which they are told within a level; of more than `MOST_FINDINGS` the last are left out.
RULES: tuple[Callable[[Case], Finding | None], ...] = (
    one_answer,
    beside_the_commonest,
    beside_word_counts,
    never_predicted,
    copies,
    few_texts,
    unmeasured_classes,
    over_the_epochs,
    weak_slices,
    commonest_confusion,
    few_trained,
    few_validation_texts,
    calibration,
    cut_texts,
    not_tested,
)


def class_findings(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Finding]:
    """What the rules say of an evaluation, the most serious first.

    Args:
        prefix: `test` or `val`.
        metrics: `metrics.json`.
        facts: `report.json`.
    """
    return first_findings(RULES, Case(prefix, metrics, facts))


def labels_may_be_doubted(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the model is good enough to doubt a label: it clearly beats its baselines.

    Without baselines it has to be right more often than not.
    """
    case = Case(prefix, metrics, facts)
    words, commonest = case.baseline("words"), case.baseline("commonest")
    low = case.figure("accuracy_low") or 0.0
    if commonest and low <= commonest["accuracy"]:
        return False
    if words:
        return paired(words["only_model_right"], words["only_baseline_right"], case.rows)[1] > 0
    return low > 0.5
