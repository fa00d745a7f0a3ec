"""What to know before a model is used: sentences by rules, from `metrics.json` and `report.json`.

A rule looks at a `Case` and says at most one thing. Here are those of every kind of label. `RULES` in
`classifier_findings`, `multi_label_findings` and `regression_findings` are the rules of a kind in their
order.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lit_ft.errors import one_line, shorten
from lit_ft.report.analysis import per_class
from lit_ft.report.intervals import NORMAL
from lit_ft.report.scores import SPLITS
from lit_ft.report.slices import told_of_slices
from lit_ft.report.tables import percent

MOST_FINDINGS = 7
MOST_NAMED = 3
LEVELS = ("bad", "note", "good")  # in the order in which they are told
CLASSES, LABELS = ("class", "classes"), ("label", "labels")  # what there is one of a text, or any number
# Around a name in a sentence, so that an Arabic one does not turn the rest round (Unicode UAX 9: FSI, PDI).
ISOLATE, END = "\u2068", "\u2069"
OPENED, CLOSED = f"\u201c{ISOLATE}", f"{END}\u201d"  # around a class: it may be called 4


@dataclass(frozen=True)
class Finding:
    """One sentence, and what to do.

    Attributes:
        level: `bad`: don't use it before this is mended; `note`: to know; `good`.
        text: The sentence.
        advice: What to do; "" if nothing is.
    """

    level: Literal["bad", "note", "good"]
    text: str
    advice: str = ""

    def plain(self) -> str:
        """Both as one line for a terminal or a file, without invisible characters."""
        line = f"{self.text} {self.advice}".strip()
        return line.replace(OPENED, '"').replace(CLOSED, '"')


@dataclass(frozen=True)
class Case:
    """One evaluation of a run, as the rules see it. C classes.

    Attributes:
        prefix: `test` or `val`: the evaluation that is the result.
        metrics: `metrics.json`.
        facts: `report.json`.
    """

    prefix: str
    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def summary(self) -> Mapping[str, Any]:
        return self.facts["evaluations"][self.prefix]

    @property
    def names(self) -> Sequence[str]:
        return self.facts["labels"]

    @property
    def rows(self) -> int:
        return self.summary["rows"]

    @property
    def texts(self) -> str:
        """`test texts`."""
        return f"{SPLITS[self.prefix]} texts"

    @functools.cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """`rows`, `predicted` and `right` of each class, (C,) each."""
        return {key: np.asarray(values) for key, values in self.summary["class_counts"].items()}

    @property
    def accuracy(self) -> float:
        return float(self.counts["right"].sum()) / max(self.rows, 1)

    def figure(self, name: str) -> float | None:
        """A score of this evaluation."""
        return self.metrics.get(f"{self.prefix}/{name}")

    def baseline(self, name: str) -> Mapping[str, Any] | None:
        """What a baseline made of the same texts; None if it was not measured."""
        found = self.facts.get("baselines", {}).get("evaluations", {})
        return found.get(self.prefix, {}).get(name)

    def named(self, classes: Sequence[int]) -> str:
        """The first of some classes by name, and how many more there are."""
        names = [shorten(one_line(self.names[c]), 60) for c in classes[:MOST_NAMED]]
        shown = [f"{OPENED}{name}{CLOSED}" for name in names]
        more = len(classes) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")


def classes_that(
    classes: np.ndarray, by: np.ndarray, one: str, more: str, nouns: tuple[str, str] = CLASSES
) -> tuple[list[int], str]:
    """Classes, those first of which `by` (C,) is largest, and how many they are: `1 class is`."""
    ordered = classes[np.argsort(-by[classes], kind="stable")].tolist()
    return ordered, f"1 {nouns[0]} {one}" if len(ordered) == 1 else f"{len(ordered):,} {nouns[1]} {more}"


# ---- rules of every kind of label ---------------------------------------------------------------


def copies(case: Case) -> Finding | None:
    """Validation texts that are training texts, too."""
    found = case.facts.get("copies", 0)
    rows = int(case.metrics.get("val/rows", 0)) or case.facts["splits"].get("validation", {}).get("rows", 0)
    if not found or not rows:
        return None
    return Finding(
        "bad" if found > 0.05 * rows else "note",
        f"{found:,} of {rows:,} validation texts are copies of training texts: the validation figures are "
        "too good.",
        "`check` shows them; remove them.",
    )


def over_the_epochs(case: Case) -> Finding | None:
    """Whether the validation loss still fell at the end, or had turned before."""
    history = case.facts.get("history", {}).get("validation", [])
    losses = [point["val/loss"] for point in history if point.get("val/loss") is not None]
    if len(losses) < 2:
        return None
    least = min(losses)
    if losses[-1] == least and losses[-2] - least > max(0.02 * losses[-2], 0.005):
        return Finding(
            "note",
            f"It was still improving when training ended: the validation loss fell from {losses[-2]:.3f} to "
            f"{least:.3f}.",
            "Train for more epochs (--trainer.max_epochs).",
        )
    sample = case.facts["evaluations"].get("val", {}).get("train_sample")
    accuracy = case.metrics.get("val/accuracy", case.metrics.get("val/subset_accuracy"))
    if not sample or accuracy is None:
        return None
    trained = sample["right"] / sample["rows"]
    if trained - accuracy > 0.1 and losses[-1] > 1.05 * least:
        return Finding(
            "note",
            f"It knows its training texts by heart: {percent(trained)} of a sample of them right, "
            f"{percent(accuracy)} of the validation texts; the validation loss rose from {least:.3f} to "
            f"{losses[-1]:.3f}.",
            "Fewer epochs cost nothing; more texts would help.",
        )
    return None


def weak_slices(case: Case) -> Finding | None:
    """Slices that are clearly below the rest."""
    told = told_of_slices(case.summary, lambda name: f"{OPENED}{name}{CLOSED}")
    return Finding("note", *told) if told else None


def few_trained(case: Case, nouns: tuple[str, str] = CLASSES) -> Finding | None:
    """Classes that were trained on too few texts to be learned."""
    trained = np.asarray(case.facts["splits"].get("train", {}).get("class_counts", []))
    rare = np.flatnonzero(trained < 20)
    if not len(rare):
        return None
    first, what = classes_that(rare, -trained, "has", "have", nouns)
    classes = per_class(case.summary["class_counts"])
    weak = [c for c in rare.tolist() if classes[c]["rows"]]
    mean = f"; their mean F1 is {np.mean([classes[c]['f1'] for c in weak]):.2f}" if weak else ""
    return Finding(
        "note",
        f"{what} fewer than 20 training texts ({case.named(first)}){mean}.",
        f"Collect more of them, or join them with a {nouns[0]} that is close.",
    )


def never_measured(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Classes that were trained and no text here has, (M,), and the training texts of each class, (C,)."""
    trained = np.asarray(case.facts["splits"].get("train", {}).get("class_counts", []))
    if len(trained) != len(case.counts["rows"]):
        return np.zeros(0, np.int64), trained
    return np.flatnonzero((trained > 0) & (case.counts["rows"] == 0)), trained


def cut_apart(case: Case, right: int) -> tuple[str, float, float, bool] | None:
    """Texts that were cut, beside the others; None if there are few of either.

    Args:
        case: The evaluation.
        right: Texts of all that are right.

    Returns:
        A sentence's start, which shares of cut texts and of others are right, and whether the first is lower.
    """
    cut = case.summary.get("cut")
    if not cut or cut["rows"] < 20 or case.rows - cut["rows"] < 20:
        return None
    whole = case.rows - cut["rows"]
    short, long = (right - cut["right"]) / whole, cut["right"] / cut["rows"]
    spread = NORMAL * (short * (1 - short) / whole + long * (1 - long) / cut["rows"]) ** 0.5
    return cut_share(case), long, short, short - long > spread


def cut_share(case: Case) -> str:
    """`12 % of the test texts are longer than 128 tokens and were cut`."""
    share = percent(case.summary["cut"]["rows"] / case.rows)
    return f"{share} of the {case.texts} are longer than {case.facts['max_tokens']} tokens and were cut"


def first_findings(rules: Sequence[Callable[[Case], Finding | None]], case: Case) -> list[Finding]:
    """What some rules say of a case, the most serious first."""
    told = [finding for rule in rules if (finding := rule(case)) is not None]
    told.sort(key=lambda finding: LEVELS.index(finding.level))
    return told[:MOST_FINDINGS]
