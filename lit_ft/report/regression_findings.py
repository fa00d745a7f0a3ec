"""What to know before a model that predicts numbers is used: its rules, beside those of `findings.py`.

Errors are in the unit of the numbers; a `bias` is prediction minus label.
"""

from collections.abc import Callable, Mapping
from typing import Any

from lit_ft.errors import one_line, shorten
from lit_ft.report.findings import (
    CLOSED,
    OPENED,
    Case,
    Finding,
    copies,
    cut_share,
    first_findings,
    over_the_epochs,
    weak_slices,
)
from lit_ft.report.intervals import NORMAL
from lit_ft.report.scores import decimals_of
from lit_ft.report.tables import number

HARDLY = 0.1  # of the labels' standard deviation: predictions that vary less are one and the same
CLEAR = 0.5  # of the labels' standard deviation: an error of the lowest or highest fifth that is told
LEARN = "Train longer, or change the learning rate (--model.learning_rate)."


def unit_of(facts: Mapping[str, Any]) -> Callable[[float], str]:
    """How a number of this run is written: with the decimal places that its spread needs."""
    digits = decimals_of(facts["numbers"]["deviation"])
    return lambda value: number(float(value), digits)


def name_of(facts: Mapping[str, Any]) -> str:
    """The number's name, in quotes."""
    return f"{OPENED}{shorten(one_line(facts['labels'][0]), 60)}{CLOSED}"


def hardly_varies(case: Case) -> Finding | None:
    """It gives nearly the same number to every text."""
    shown, labels, said = unit_of(case.facts), case.summary["labels"], case.summary["predictions"]
    if not labels["deviation"] or said["deviation"] >= HARDLY * labels["deviation"]:
        return None
    return Finding(
        "bad",
        f"It gives nearly the same number to all {case.rows:,} texts, {shown(said['low'])} to "
        f"{shown(said['high'])}; the true ones go from {shown(labels['low'])} to {shown(labels['high'])}.",
        LEARN,
    )


def best_constant(case: Case) -> tuple[str, Mapping[str, Any]] | None:
    """`mean` or `median`, whichever is off by less if it is always answered, and what it reached."""
    known = [(name, found) for name in ("median", "mean") if (found := case.baseline(name))]
    return min(known, key=lambda pair: pair[1]["mae"], default=None)


def beside_a_constant(case: Case) -> Finding | None:
    """It is no better than always giving one number."""
    best = best_constant(case)
    if best is None or case.rows < 2 or best[1]["gain"][1] > 0 or hardly_varies(case):
        return None
    shown, (name, found) = unit_of(case.facts), best
    value = shown(case.facts["baselines"][name]["value"])
    always = f"always answering the training {name} ({value})"
    gain, low, high = map(shown, found["gain"])
    if found["gain"][0] <= 0:
        text = f"It is no better than {always}, which is off by {shown(found['mae'])} on average."
        return Finding("bad", text, LEARN)
    return Finding(
        "note",
        f"It is not certain that it is better than {always}: that is off by {gain} more (95 %: {low} to "
        f"{high}).",
        f"More {case.texts} would tell; more training texts or epochs may make it better.",
    )


def beside_ridge(case: Case) -> Finding | None:
    """Whether it beats ridge regression on word counts, on the same texts."""
    words = case.baseline("words")
    if not words or case.rows < 2:
        return None
    shown = unit_of(case.facts)
    theirs, (gain, low, high) = f"off by {shown(words['mae'])}", words["gain"]
    span = f"95 %: {shown(low)} to {shown(high)}"
    advice = "Train longer, with more texts or another learning rate; or use word counts."
    if high < 0:
        by = f"by {shown(-gain)} (95 %: {shown(-high)} to {shown(-low)})"
        return Finding("bad", f"Counting words does better: {theirs}. This model is worse {by}.", advice)
    if gain <= 0:
        return Finding("bad", f"It is no better than counting words ({theirs}; {span}).", advice)
    if low <= 0:
        return Finding(
            "note",
            f"It is not certain that it beats counting words ({theirs}): it is off by {shown(gain)} less "
            f"({span}).",
            f"More {case.texts} would tell; more training texts or epochs may make it better.",
        )
    return Finding("good", f"It beats counting words ({theirs}) by {shown(gain)} ({span}).")


def not_defined(case: Case) -> Finding | None:
    """All numbers are the same, so nothing can be explained or ordered."""
    labels = case.summary["labels"]
    if case.figure("r2") is not None:
        return None
    if case.rows == 1:
        text = "A single text was measured: its error says nothing about others."
        return Finding("note", text, "Measure it on more texts before you rely on it.")
    return Finding(
        "note",
        f"All {case.rows:,} {case.texts} have the same number, {unit_of(case.facts)(labels['mean'])}: R2 and "
        "Spearman's correlation are not defined.",
        "Measure it on texts with different numbers.",
    )


def biased_at_the_ends(case: Case) -> Finding | None:
    """The lowest numbers are predicted too high, or the highest too low."""
    groups, spread = case.summary["by_label"], case.summary["labels"]["deviation"]
    if len(groups) < 3 or hardly_varies(case):
        return None
    shown, low, high = unit_of(case.facts), groups[0], groups[-1]
    parts = []
    if low["bias"] > CLEAR * spread:
        parts.append(
            f"the lowest ones (up to {shown(low['high'])}) are predicted {shown(low['bias'])} too high"
        )
    if -high["bias"] > CLEAR * spread:
        parts.append(f"the highest ones (from {shown(high['low'])}) {shown(-high['bias'])} too low")
    if not parts:
        return None
    if len(parts) == 1 and parts[0].startswith("the highest"):
        parts = [parts[0].replace(") ", ") are predicted ", 1)]
    return Finding(
        "note",
        f"It stays near the middle: {' and '.join(parts)}, on average.",
        "More training texts with such numbers, or more epochs, may help.",
    )


def biased(case: Case) -> Finding | None:
    """All predictions together are too high or too low."""
    labels, said = case.summary["labels"], case.summary["predictions"]
    off, rmse = said["mean"] - labels["mean"], case.figure("rmse")
    if rmse is None or abs(off) < max(0.1 * labels["deviation"], 2 * NORMAL * rmse / case.rows**0.5):
        return None
    way, train = "high" if off > 0 else "low", case.facts["numbers"]["mean"]
    shown = unit_of(case.facts)
    return Finding(
        "note",
        f"Its predictions are {shown(abs(off))} too {way} on average: their mean is {shown(said['mean'])}, "
        f"that of the {case.texts} {shown(labels['mean'])}, that of training {shown(train)}.",
        "If new texts are like these, train on such texts as well.",
    )


def outside_of_training(case: Case) -> Finding | None:
    """Numbers that training had none of."""
    found, shown = case.summary.get("outside", 0), unit_of(case.facts)
    if found < max(1, 0.01 * case.rows):
        return None
    known = case.facts["numbers"]
    return Finding(
        "note",
        f"{found:,} of the {case.rows:,} {case.texts} have a number outside those of training, "
        f"{shown(known['low'])} to {shown(known['high'])}: it has learned none of that size.",
        "Train on texts with such numbers.",
    )


def few_measured(case: Case) -> Finding | None:
    """So few texts were measured that the error is a rough one."""
    low, high, mae = case.figure("mae_low"), case.figure("mae_high"), case.figure("mae")
    if low is None or high is None or not mae or high - low < 0.25 * mae:
        return None
    shown = unit_of(case.facts)
    return Finding(
        "note",
        f"There are few {case.texts} ({case.rows:,}): the error may as well be {shown(low)} or "
        f"{shown(high)}.",
        "Measure it on more texts before you rely on it.",
    )


def few_to_choose_by(case: Case) -> Finding | None:
    """Too few texts to tell one epoch from another."""
    low, high, mae = (case.metrics.get(f"val/mae{end}") for end in ("_low", "_high", ""))
    rows = int(case.metrics.get("val/rows", 0))
    if low is None or high is None or not mae or high - low < 0.1 * mae:
        return None
    if len(case.facts.get("history", {}).get("validation", [])) < 2:
        return None
    luck = unit_of(case.facts)((high - low) / 2)
    return Finding(
        "note",
        f"Only {rows:,} texts chose the best epoch: differences below {luck} between the errors of epochs "
        "may be luck.",
        "Hold out more (--data.validation_share), or give a validation file.",
    )


def few_training_texts(case: Case) -> Finding | None:
    """It was trained on too few texts to learn a number from."""
    rows = case.facts["splits"].get("train", {}).get("rows", 0)
    if not 0 < rows < 200:
        return None
    return Finding("note", f"It was trained on {rows:,} texts only.", "More training texts would help most.")


def cut_off(case: Case) -> Finding | None:
    """Whether texts that were cut are predicted worse."""
    cut = case.summary.get("cut")
    if not cut or cut["rows"] < 20 or case.rows - cut["rows"] < 20:
        return None
    whole, shown = case.rows - cut["rows"], unit_of(case.facts)
    long, short = cut["long"], cut["short"]
    spread = NORMAL * (long["deviation"] ** 2 / cut["rows"] + short["deviation"] ** 2 / whole) ** 0.5
    share = cut_share(case)
    if long["mae"] - short["mae"] > spread:
        return Finding(
            "note",
            f"{share}; these are off by {shown(long['mae'])} on average, the others by "
            f"{shown(short['mae'])}.",
            "A larger --data.max_tokens, or --data.truncation=head_tail, may help.",
        )
    return Finding("good", f"{share}; they are not predicted worse than the others.")


def untested(case: Case) -> Finding | None:
    """The figures are from texts that chose the epoch."""
    if case.prefix != "val":
        return None
    chose = len(case.facts.get("history", {}).get("validation", [])) > 1
    also = ", which also chose the best epoch: new texts will fare a little worse" * chose
    return Finding(
        "note",
        f"These are validation texts{also or ': it is not tested yet'}.",
        "`test` on a file of its own tells how much (--data.test_path).",
    )


# In the order in which they are told within a level; of too many the last are left out.
RULES: tuple[Callable[[Case], Finding | None], ...] = (
    hardly_varies,
    beside_a_constant,
    beside_ridge,
    copies,
    few_measured,
    not_defined,
    outside_of_training,
    over_the_epochs,
    weak_slices,
    biased,
    biased_at_the_ends,
    few_training_texts,
    few_to_choose_by,
    cut_off,
    untested,
)


def regression_findings(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[Finding]:
    """What the rules say of an evaluation, the most serious first."""
    return first_findings(RULES, Case(prefix, metrics, facts))
