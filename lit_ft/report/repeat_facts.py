"""What `repeat.json` holds: the plan of a repeat, what its runs say together, and what that is worth beside
baselines. The page and the lines of the terminal are made of it alone.

N texts, R runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any

import numpy as np

from lit_ft import runs
from lit_ft.errors import one_line, shorten
from lit_ft.report.classifier_findings import paired
from lit_ft.report.intervals import NORMAL
from lit_ft.report.multi_label import CHOSEN
from lit_ft.report.pooled import HELD_OUT, Pooled, Repetition, f1_of_each, figures, pool
from lit_ft.report.regression import groups_of
from lit_ft.report.scores import SPLITS
from lit_ft.report.tables import number, percent
from lit_ft.report.weighted import WEIGHED

SECONDS = "fit/seconds"  # of a fit, from reading the data to its report
BASELINES = {  # in the order in which they are shown
    "commonest": "always the commonest answer",
    "mean": "always the mean",
    "median": "always the median",
    "words": "counting words",
}


def _gain_of_answers(found: Sequence[Mapping[str, Any]], rows: np.ndarray) -> tuple[float, float, float]:
    """How much more often the model is right than word counts, and the ends of its 95 % interval."""
    ours, theirs = (sum(one[f"only_{which}_right"] for one in found) for which in ("model", "baseline"))
    return paired(ours, theirs, int(rows.sum()))


def _gain_of_errors(found: Sequence[Mapping[str, Any]], rows: np.ndarray) -> tuple[float, float, float]:
    """How much less the model is off than word counts, and the ends of its 95 % interval.

    The squares within runs and between them are those of all texts: a run on two texts knows no variance.
    """
    gains, lows, highs = np.array([one["gain"] for one in found], float).T
    total, gain = rows.sum(), float(np.average(gains, weights=rows))
    variances = ((highs - lows) / (2 * NORMAL)) ** 2 * rows  # of a text; 0 of a run on one text
    squares = float((variances * (rows - 1) + rows * (gains - gain) ** 2).sum())
    half = NORMAL * (squares / max(total - 1, 1) / total) ** 0.5
    return gain, gain - half, gain + half


@dataclass(frozen=True)
class Headline:
    """The first figure of a kind, in words.

    Attributes:
        score: Its name.
        sentence: With `value`, `texts` ("the 5,000 texts") and `name` (of a number).
        beside: The score of baselines that is shown beside it; they have no thresholds of their own.
        gain: What `report.json` of runs on different texts says of word counts, and the texts of each (R,)
            -> the gain over them and the ends of its interval; None if nothing does.
        points: Whether differences are told in hundredths.
        levels: Whether errors have levels of the true number.
        noun: What F1 is of.
    """

    score: str
    sentence: str
    beside: str
    gain: Callable[[Sequence[Mapping[str, Any]], np.ndarray], tuple[float, float, float]] | None
    points: bool = False
    levels: bool = False
    noun: str = "class"


HEADLINES = {
    "classifier": Headline(
        "accuracy", "{value} of {texts} are right", "accuracy", _gain_of_answers, points=True
    ),
    "multi_label": Headline(
        f"micro_f1{CHOSEN}", "micro F1 {value} on {texts}", "micro_f1", None, noun="label"
    ),
    "regression": Headline(
        "mae", "{name}: off by {value} on average on {texts}", "mae", _gain_of_errors, levels=True
    ),
}
SHARES = ("accuracy", f"subset_accuracy{CHOSEN}")  # shown in percent


def shown(name: str, score: Mapping[str, Any], value: float | None) -> str:
    """A value of a score as a person reads it: `62.9 %`, `0.612`."""
    if value is None:
        return "\u2013"
    if name in SHARES:
        return percent(value)
    return number(value, score["digits"])


def spread(name: str, score: Mapping[str, Any], value: float | None) -> str:
    """A standard deviation of a score, in the unit in which it is shown: `\u00b1 0.8` of percent."""
    if value is None:
        return "\u2013"
    return f"\u00b1 {100 * value:.1f}" if name in SHARES else f"\u00b1 {number(value, score['digits'])}"


# ---- put together ------------------------------------------------------------------------------------


def pooled_results(repetitions: Sequence[Repetition]) -> list[Pooled]:
    """What the runs on the largest share said of each split that they were measured on, the result first.

    Args:
        repetitions: All that were planned.

    Raises:
        UserError: No run is done, or they saw different data.
    """
    largest = max(one.share for one in repetitions)
    whole = [one for one in repetitions if one.share == largest]
    metrics = [runs.read_metrics(one.folder) for one in whole]
    measured = [prefix for prefix in SPLITS if any(f"{prefix}/rows" in found for found in metrics)]
    if HELD_OUT in measured:  # the result comes first
        measured = [HELD_OUT, *(prefix for prefix in measured if prefix != HELD_OUT)]
    # Validation chose the checkpoints: it is the result only if there is no other.
    unmeasured = ["test" if whole[0].fold is None else HELD_OUT]
    measured = [prefix for prefix in measured if prefix != "val"] or measured or unmeasured
    return [pool(whole, prefix) for prefix in measured]


def repeat_facts(
    folder: Path, repetitions: Sequence[Repetition], plan: Mapping[str, Any], pooled: Sequence[Pooled]
) -> dict[str, Any]:
    """What `write_repeat` writes, of the runs that are done.

    Args:
        folder: Of the repeat.
        repetitions: All that were planned.
        plan: What else to keep: `command`, `name`, `seeds`, `folds`, `shares`, `settings` (flag -> value).
        pooled: Their `pooled_results`.

    Returns:
        `plan`, with `runs`: for each its `seed`, `fold`, `share`, `folder` (within that of the repeat),
        `done`, `seconds`, `figure` and `prefix`; `kind`, `names`, `pretrained`; `results`: prefix ->
        `pooled.figures`, with `each`, `levels` and `baselines`; `curve` and `labels`: None, to be filled in.
    """
    facts = runs.read_facts(pooled[0].used[0].folder)
    return {
        "plan": {**plan, "runs": [_run(folder, one, pooled[0].prefix) for one in repetitions]},
        "kind": pooled[0].kind,
        "names": list(facts["labels"]),
        "pretrained": facts.get("pretrained", ""),
        "results": {of.prefix: results(of) for of in pooled},
        "curve": None,
        "labels": None,
    }


def results(pooled: Pooled) -> dict[str, Any]:
    """`pooled.figures` and what a page shows beside it: `each`, `levels`, `baselines`."""
    levels = None
    if HEADLINES[pooled.kind].levels:
        several = [groups_of(pooled.labels, pooled.labels, said) for said in pooled.predicted]
        means = {key: np.mean([[group[key] for group in one] for one in several], 0) for key in several[0][0]}
        levels = [dict(zip(means, map(float, row), strict=True)) for row in zip(*means.values(), strict=True)]
    return {
        **figures(pooled),
        "each": f1_of_each(pooled),
        "levels": levels,
        "baselines": _beside(pooled),
    }


def _run(folder: Path, one: Repetition, prefix: str) -> dict[str, Any]:
    metrics, facts = runs.read_metrics(one.folder), runs.read_facts(one.folder)
    headline = HEADLINES.get(facts.get("kind", ""))
    inside = one.folder.is_relative_to(folder)
    return {
        "seed": one.seed,
        "fold": one.fold,
        "share": one.share,
        "folder": str(one.folder.relative_to(folder) if inside else one.folder),
        "done": f"{prefix}/rows" in metrics,
        "seconds": metrics.get(SECONDS),
        "figure": metrics.get(f"{prefix}/{headline.score}") if headline else None,
    }


def _beside(pooled: Pooled) -> dict[str, Any] | None:
    """What needs no encoder on the same texts: `rows`, `linear`, `score` and `gain`; None if unmeasured.

    A baseline's figure of each run is known, not its answers. The mean of these, weighed by texts, is that of
    all texts if the score is a mean over texts, and else said to be a mean of the runs' own figures.
    """
    headline = HEADLINES[pooled.kind]
    known = [(runs.read_metrics(one.folder), runs.read_facts(one.folder), one) for one in pooled.used]
    sizes = np.array([found.get(f"{pooled.prefix}/rows", 0) for found, _, _ in known], float)

    def mean(tag: str) -> float | None:
        values = [found.get(tag) for found, _, _ in known]
        return None if None in values else float(np.average(np.array(values, float), weights=sizes))

    rows = [
        {"name": words, "value": value}
        for name, words in BASELINES.items()
        if (value := mean(f"baseline/{name}/{pooled.prefix}/{headline.beside}")) is not None
    ]
    if not rows:
        return None
    if headline.beside != headline.score:
        rows.append({"name": "this model from 0.5 on", "value": mean(f"{pooled.prefix}/{headline.beside}")})
    return {
        "score": headline.beside,
        "rows": rows,
        "linear": headline.beside in WEIGHED[pooled.kind].linear,
        "gain": _gain(pooled, known, sizes),
    }


def _gain(pooled: Pooled, known: Sequence[Any], sizes: np.ndarray) -> dict[str, float] | None:
    """How much better the runs are than word counts on the same texts, with a 95 % interval.

    Only each run's own difference is known. Runs on different texts, the folds of a seed, are put together;
    runs on the same texts are taken to go wrong together, so the interval is rather too wide.
    """
    gain_of = HEADLINES[pooled.kind].gain
    found = [
        facts.get("baselines", {}).get("evaluations", {}).get(pooled.prefix, {}).get("words")
        for _, facts, _ in known
    ]
    if gain_of is None or None in found or not sizes.all():
        return None
    together = [one.seed if pooled.folds is not None else i for i, (_, _, one) in enumerate(known)]
    gains, texts = [], []
    for key in dict.fromkeys(together):
        inside = [k for k, other in enumerate(together) if other == key]
        gains.append(gain_of([found[k] for k in inside], sizes[inside]))
        texts.append(sizes[inside].sum())
    return dict(zip(("value", "low", "high"), map(float, np.average(gains, 0, texts)), strict=True))


# ---- in words ----------------------------------------------------------------------------------------


def main_of(facts: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The prefix that is the result, and what was found there."""
    return next(iter(facts["results"].items()))


def told_texts(found: Mapping[str, Any]) -> str:
    """`the 5,000 texts`, `the 1,000 test texts`."""
    what = "" if found["folds"] and found["prefix"] == HELD_OUT else f"{SPLITS[found['prefix']]} "
    return f"the {found['texts']:,} {what}texts"


def headline_of(facts: Mapping[str, Any], prefix: str) -> str:
    """`62.9 % of the 5,000 texts are right`."""
    found, headline = facts["results"][prefix], HEADLINES[facts["kind"]]
    score = found["scores"][headline.score]
    return headline.sentence.format(
        value=shown(headline.score, score, score["value"]),
        texts=told_texts(found),
        name=shorten(one_line(str(facts["names"][0]))),
    )


def ends_of_headline(facts: Mapping[str, Any], prefix: str) -> str | None:
    """`61.6 to 64.2`; None if there is no interval."""
    name = HEADLINES[facts["kind"]].score
    score = facts["results"][prefix]["scores"][name]
    if score["low"] is None:
        return None
    ends = (shown(name, score, score[end]).replace("\u2009%", "") for end in ("low", "high"))
    return " to ".join(ends)


def who_said(found: Mapping[str, Any]) -> str:
    """Which models answered, in words."""
    seeds = "" if len(found["seeds"]) == 1 else f", as a mean of {len(found['seeds'])} seeds"
    if found["prefix"] == HELD_OUT:
        return f"each said by a model that never saw it{seeds}"
    if found["prefix"] == "val":
        return f"which chose the checkpoints: new texts will fare a little worse{seeds}"
    count = len(found["runs"])
    return "said by one model" if count == 1 else f"as a mean of {count} models"


def told_gain(facts: Mapping[str, Any], prefix: str) -> str | None:
    """How the runs compare with word counts, if that is known."""
    found, headline = facts["results"][prefix], HEADLINES[facts["kind"]]
    gain = (found["baselines"] or {}).get("gain")
    if gain is None:
        return None
    score = found["scores"][headline.score]
    scale, digits = (100, 1) if headline.points else (1, score["digits"])
    value, low, high = (round(gain[key] * scale, digits) + 0.0 for key in ("value", "low", "high"))
    unit = " points" if headline.points else ""
    if low <= 0 <= high:
        ends = f"(95 %: {low:+.{digits}f} to {high:+.{digits}f})"
        return f"beside counting words {value:+.{digits}f}{unit} {ends}: not certain"
    which = "better" if low > 0 else "worse"
    least, most = (f"{end:.{digits}f}" for end in sorted((abs(low), abs(high))))
    return f"{which} than counting words by {abs(value):.{digits}f}{unit} (95 %: {least} to {most})"


def told_luck(facts: Mapping[str, Any], prefix: str) -> list[str]:
    """What single runs would have said, whether folds differ by more than chance, and what is unknown."""
    found, name = facts["results"][prefix], HEADLINES[facts["kind"]].score
    score, lines = found["scores"][name], []
    values = [value for value in score["runs"] if value is not None]
    if len(values) > 1:
        low, high = (shown(name, score, end(values)) for end in (min, max))
        span = f"anything from {low} to {high}" if low != high else low
        lines.append(f"a single run of these {len(values)} would have said {span}")
    seeds, folds = score["seeds"], score["folds"]
    if seeds["sd"] is not None and score["deviation"] is not None:
        if seeds["sd"] < score["deviation"]:
            lines.append("another seed moves the figure by less than other texts would")
        else:
            sd = spread(name, score, seeds["sd"])
            lines.append(f"seeds differ by {sd}, as much as other texts would: the interval leaves that out")
    sizes = found.get("fold_texts")  # not in the file of an earlier version
    if prefix == HELD_OUT and sizes and folds and folds["sd"] is not None and score["deviation"]:
        # of values with different variances, each 1 / n, the expected sample variance is their mean
        chance = score["deviation"] * (found["texts"] * fmean(1 / size for size in sizes)) ** 0.5
        least, most = min(sizes), max(sizes)
        size = f"{least:,}" if most - least <= 1 else f"{least:,} to {most:,}"
        told = f"folds of {size} texts differ by {spread(name, score, chance)} by chance"
        judged = _beside_chance(folds["sd"], chance, sizes)
        lines.append(f"{told}; these by {spread(name, score, folds['sd'])}, {judged}")
    if group := facts["plan"].get("settings", {}).get("data.group_column"):
        lines.append(
            f"the interval draws texts one by one: if those of a group ({shorten(one_line(str(group)))}) are "
            "right or wrong together, it is too narrow"
        )
    return [*lines, *found["unknown"]]


def _beside_chance(sd: float, chance: float, sizes: Sequence[int]) -> str:
    """A standard deviation over folds beside that of chance; that of a few folds is itself uncertain."""
    if sd <= chance:
        return "no more than that"
    unlikely = sd > chance * _unlikely_ratio(len(sizes) - 1)
    return "more than that explains" if unlikely else "which may still be chance"


def _unlikely_ratio(freedom: int) -> float:
    """What a standard deviation of so many degrees of freedom exceeds, over the true one, in 1 % of cases.

    The square is chi-squared; Wilson and Hilferty 1931, "The Distribution of Chi-Square".
    """
    spread_of = 2 / (9 * freedom)
    return float((1 - spread_of + NormalDist().inv_cdf(0.99) * spread_of**0.5) ** 1.5)
