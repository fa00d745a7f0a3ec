"""What to know before a model of several labels is used: its rules, beside those of `findings.py`. C labels.

Counts are at the chosen thresholds, which is what the model answers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lit_ft.report.findings import (
    LABELS,
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
from lit_ft.report.multi_label import CHOSEN, FEWEST_POSITIVES
from lit_ft.report.scores import SPLITS
from lit_ft.report.tables import number, percent

FEW = 50  # validation texts with a label, below which its threshold is a rough one
LEARN = "Train longer, or change the learning rate (--model.learning_rate)."


def main_figure(prefix: str, facts: Mapping[str, Any]) -> str:
    """The name of micro F1 that is the result: at the chosen thresholds, unless these rows chose them."""
    return "micro_f1" if facts["evaluations"][prefix].get("fitted_here") else f"micro_f1{CHOSEN}"


def same_for_all(case: Case) -> Finding | None:
    """It gives every text the same labels, perhaps none."""
    said = case.counts["predicted"]
    if ((said > 0) & (said < case.rows)).any():
        return None
    given = np.flatnonzero(said)
    what = case.named(given.tolist()) if len(given) else "no label"
    return Finding("bad", f"It gives {what} to all {case.rows:,} texts: it has learned nothing else.", LEARN)


def beside_the_commonest_set(case: Case) -> Finding | None:
    """It is no better than always giving the commonest set of labels."""
    given = case.baseline("commonest")
    if not given or given["model_better_by"][0] > 0 or same_for_all(case):
        return None
    labels = case.facts["baselines"]["commonest"]["labels"]
    what = case.named(labels) if labels else "no label"
    return Finding(
        "bad",
        f"Always answering {what} is as good: micro F1 {number(given['micro_f1'], 3)}, from 0.5 on.",
        LEARN,
    )


def beside_words_of_labels(case: Case) -> Finding | None:
    """Whether it beats counting words, on the same texts, both from probability 0.5 on."""
    words = case.baseline("words")
    if not words:
        return None
    theirs = f"micro F1 {number(words['micro_f1'], 3)}, from 0.5 on"
    better, low, high = words["model_better_by"]
    advice = "Train longer, with more texts or another learning rate; or use word counts."
    if high < 0:
        span = f"95 %: {number(-high, 3)} to {number(-low, 3)}"
        return Finding(
            "bad",
            f"Counting words does better ({theirs}): this model's is {number(-better, 3)} lower ({span}).",
            advice,
        )
    span = f"95 %: {number(low, 3)} to {number(high, 3)}"
    if better <= 0:
        return Finding(
            "bad",
            f"It is no better than counting words ({theirs}): the difference is {number(better, 3)} "
            f"({span}).",
            advice,
        )
    if low <= 0:
        return Finding(
            "note",
            f"It is not certain that it beats counting words ({theirs}): the difference is "
            f"{number(better, 3)} ({span}).",
            f"More {case.texts} would tell; more training texts or epochs may make it better.",
        )
    return Finding("good", f"It beats counting words ({theirs}) by {number(better, 3)} ({span}).")


def never_given(case: Case) -> Finding | None:
    """Labels that texts have, and that it never gives."""
    rows, said = case.counts["rows"], case.counts["predicted"]
    missing = np.flatnonzero((rows > 0) & (said == 0))
    if not len(missing) or same_for_all(case):
        return None
    first, what = classes_that(missing, rows, "is", "are", LABELS)
    return Finding(
        "bad",
        f"{what} never given: {case.named(first)} (on {rows[missing].sum():,} {case.texts}).",
        "Give them more texts, or set --model.class_weights=balanced, or train longer.",
    )


def without_any(case: Case) -> Finding | None:
    """Many texts get no label though they have one."""
    found = case.summary["without_label"]
    left = found["predicted"] - found["both"]
    if left < 0.1 * case.rows or same_for_all(case):
        return None
    return Finding(
        "note",
        f"{left:,} of {case.rows:,} texts have labels and get none ({found['given']:,} have none).",
        "A lower --data.threshold in `predict` gives more labels, right ones and wrong ones.",
    )


def thresholds(case: Case) -> Finding | None:
    """What the chosen thresholds are worth on texts that did not choose them."""
    half, chosen = case.figure("micro_f1"), case.figure(f"micro_f1{CHOSEN}")
    fixed = case.summary["fitted_here"] or len(set(case.summary["thresholds"])) == 1
    if half is None or chosen is None or fixed:
        return None
    figures = f"micro F1 {number(chosen, 3)}, and {number(half, 3)} from 0.5 on"
    if chosen < half - 0.005:
        return Finding(
            "note",
            f"The thresholds that validation chose do worse here than 0.5 for all: {figures}.",
            "Set --data.threshold=0.5, or validate on more texts.",
        )
    if chosen > half + 0.005:
        return Finding("good", f"The thresholds that validation chose help: {figures}.")
    return None


def few_for_a_threshold(case: Case) -> Finding | None:
    """Labels whose threshold was chosen on few texts, or not at all."""
    counts = np.asarray(case.facts["splits"].get("validation", {}).get("class_counts", []))
    trained = np.asarray(case.facts["splits"].get("train", {}).get("class_counts", []))
    if not len(counts) or case.facts.get("threshold") is not None:
        return None
    none = np.flatnonzero((counts < FEWEST_POSITIVES) & (trained > 0))
    few = np.flatnonzero((counts >= FEWEST_POSITIVES) & (counts < FEW))
    parts = []
    if len(few):
        first, what = classes_that(few, -counts, "has", "have", LABELS)
        parts.append(f"{what} a threshold chosen on fewer than {FEW} texts ({case.named(first)})")
    if len(none):
        first, what = classes_that(none, counts, "keeps", "keep", LABELS)
        parts.append(f"{what} 0.5, with fewer than {FEWEST_POSITIVES} validation texts ({case.named(first)})")
    if not parts:
        return None
    return Finding(
        "note",
        f"{'; '.join(parts)}.",
        "Hold out more (--data.validation_share), or give a validation file.",
    )


def most_errors(case: Case) -> Finding | None:
    """The label that is missed most often, and the one that is wrongly given most often."""
    missed = case.counts["rows"] - case.counts["right"]
    wrong = case.counts["predicted"] - case.counts["right"]
    if same_for_all(case) or missed.sum() + wrong.sum() < 10:
        return None
    parts = []
    for count, of, what, words in (
        (missed, case.counts["rows"], "missed", "that have it"),
        (wrong, case.counts["predicted"], "wrongly given", "that get it"),
    ):
        c = int(np.argmax(count))
        if count[c] >= 5:
            parts.append(
                f"most often {what} is {case.named([c])}, on {count[c]:,} of {of[c]:,} texts {words}"
            )
    if not parts:
        return None
    line = "; ".join(parts)
    return Finding("note", f"{line[0].upper()}{line[1:]}.", "Read some of these texts below.")


def few_texts_of_a_label(case: Case) -> Finding | None:
    """Labels that were trained on too few texts to be learned."""
    return few_trained(case, LABELS)


def unmeasured_labels(case: Case) -> Finding | None:
    """Labels that were trained, and that no text here has."""
    missing, trained = never_measured(case)
    if not len(missing):
        return None
    first, what = classes_that(missing, trained, "is", "are", LABELS)
    return Finding(
        "note",
        f"{what} on none of the {case.texts} ({case.named(first)}): how well it knows them is not measured, "
        "and they count as 0 in macro F1 and mean average precision.",
        "Measure it on texts of every label.",
    )


def few_tagged_texts(case: Case) -> Finding | None:
    """So few texts were measured that every figure is a rough one."""
    name = main_figure(case.prefix, case.facts)
    low, high = case.figure(f"{name}_low"), case.figure(f"{name}_high")
    if low is None or high is None or high - low < 0.1:
        return None
    return Finding(
        "note",
        f"There are few {case.texts} ({case.rows:,}): micro F1 may as well be {low:.2f} or {high:.2f}.",
        "Measure it on more texts before you rely on it.",
    )


def cut_tagged_texts(case: Case) -> Finding | None:
    """Whether texts that were cut get their labels less often."""
    found = cut_apart(case, case.rows - case.summary["num_mistakes"])
    if found is None or same_for_all(case):
        return None
    share, long, short, worse = found
    if worse:
        return Finding(
            "note",
            f"{share}; {percent(long)} of these have all labels right, {percent(short)} of the others.",
            "A larger --data.max_tokens, or --data.truncation=head_tail, may help.",
        )
    return Finding("good", f"{share}; their labels are not worse than those of the others.")


def labels_not_tested(case: Case) -> Finding | None:
    """The figures are from texts that chose the epoch and the thresholds."""
    if case.prefix != "val":
        return None
    chosen = ["the best epoch"] if len(case.facts.get("history", {}).get("validation", [])) > 1 else []
    chosen += ["the thresholds"] if case.summary["fitted_here"] else []
    what = f"also chose {' and '.join(chosen)}" if chosen else "are not a test"
    return Finding(
        "note",
        f"These are {SPLITS[case.prefix]} texts, which {what}: new texts will fare a little worse.",
        "`test` on a file of its own tells how much (--data.test_path).",
    )


# In the order in which they are told within a level.
RULES: tuple[Callable[[Case], Finding | None], ...] = (
    same_for_all,
    beside_the_commonest_set,
    beside_words_of_labels,
    never_given,
    copies,
    few_tagged_texts,
    unmeasured_labels,
    without_any,
    over_the_epochs,
    weak_slices,
    few_texts_of_a_label,
    few_for_a_threshold,
    thresholds,
    most_errors,
    cut_tagged_texts,
    labels_not_tested,
)


def tag_findings(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Finding]:
    """What the rules say of an evaluation, the most serious first."""
    return first_findings(RULES, Case(prefix, metrics, facts))
