"""What more labels bring: a figure over the number of training texts, and what twice as many might bring.

K shares of the training texts, S seeds, D draws of the texts that were measured: the same for all shares.

A learning curve is nearly a power law that levels off, error(n) = c + a n^-b (Hestness et al. 2017, "Deep
Learning Scaling is Predictable, Empirically", arXiv 1712.00409; Viering and Loog 2022, "The Shape of
Learning Curves: a Review", arXiv 2103.10948). So each doubling brings r = 2^-b of what the one before it
brought. Three shares or so do not say how large r is, so all of `RATIOS` count, each by how well the points
fit it: the range covers a curve that nearly levels off, and one that goes on as before.

How often such ranges hold is measured in `bench/learning_curve.md`; with another rule, measure again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from lit_ft.report.charts import growth
from lit_ft.report.intervals import ends_of
from lit_ft.report.pairs import POINTS, seeds_apart
from lit_ft.report.scores import Score

BEST = {  # scores that end somewhere -> where; R2 and correlations have errors of another form
    "accuracy": 1.0, "micro_f1": 1.0, "macro_f1": 1.0, "subset_accuracy": 1.0, "mae": 0.0, "rmse": 0.0,
    "micro_f1_chosen": 1.0, "macro_f1_chosen": 1.0, "subset_accuracy_chosen": 1.0,
}  # fmt: skip
RATIOS = np.linspace(0.3, 1.0, 15)  # r: measured from 0.39 to 0.96, from 300 texts on
NORMAL_POINTS = np.array([NormalDist().inv_cdf((i + 0.5) / 200) for i in range(200)])
LIKELY, WIDE = 0.8, 0.95  # of the two ranges: the first is told, both are kept
# Training again on 1,000 other texts changes the error by about so much of itself, as measured; with n texts
# by sqrt(1000 / n) times that. Seeds on the same texts do not show it. The second is for one seed alone.
LUCK, LUCK_ALONE = 0.01, 0.02
LEAST_LUCK, MOST_LUCK = 0.005, 0.05
# Of the error: a range as wide says nothing. The second if all of the curve may be chance.
WIDEST, NOISY = 0.5, 0.2
MISFIT = 9.0  # a chi-squared as large has a probability of 0.3 %: the points lie on no such curve
FEWEST = 3  # shares
NEAR = 0.05  # doublings: 1.93 times as many texts are told as a doubling
MORE = "add smaller ones, such as --shares=0.25,0.5,1"


@dataclass(frozen=True)
class CurvePoint:
    """What a share of the training texts reached.

    Attributes:
        share: Of the training texts, 1.0 for all.
        texts: How many that were, as a mean over runs.
        draws: The score, a mean over the seeds, and that of each draw of the texts, (1 + D,); see
            `pooled.bootstrap`.
        by_seed: The score of each seed, (S,).
        baseline: What counting words reached with these texts, if it was measured.
        ends: Of the 95 % interval; by default the draws' percentiles.
        measured: N, the number of texts that it was measured on, if known: shares with others are not paired.
    """

    share: float
    texts: float
    draws: np.ndarray
    by_seed: Sequence[float]
    baseline: float | None = None
    ends: tuple[float | None, float | None] | None = None
    measured: int | None = None


def learning_curve(points: Sequence[CurvePoint], score: Score) -> dict[str, Any]:
    """What the shares reached, what the last step brought, and what twice the labels might bring.

    Args:
        points: In any order, of the same measured texts and the same draws. Of shares with the same number of
            texts the largest counts.
        score: The headline; one of `BEST`.

    Returns:
        Plain values: `score`, `words`, `digits`, `percent`; `rows` with `share`, `texts`, `figure`, `low`,
        `high`, `by_seed` and `baseline`; `step` with `before`, `texts`, `doubling`, `value`, `low`, `high`
        `certain` (of other texts) and `apart` (whether no seed of one reaches those of the other; None of one
        seed); `next` with `texts`, and `low` and `high` of the change of the score in about 80 % of
        cases, `lowest` and `highest` in about 95 %; both are None if they cannot be said; `sentences`.
    """
    sign = -1.0 if score.higher_is_better else 1.0  # of the error in the score
    kept = {round(one.texts): one for one in sorted(points, key=lambda one: (one.texts, one.share))}
    ordered = list(kept.values())
    facts: dict[str, Any] = {
        "score": score.name,
        "words": score.words,
        "digits": score.digits if score.in_unit else 3,
        "percent": score.name == "accuracy",
        "rows": [_row(one) for one in ordered],
        "step": None,
        "next": None,
        "sentences": [],
    }
    if len(ordered) < 2:
        facts["sentences"] = [f"What more labels bring cannot be said from one share; {MORE}."]
        return facts
    if len({(one.measured, len(one.draws)) for one in ordered}) > 1:
        facts["sentences"] = [
            "What more labels bring cannot be said: not all shares were measured on the same texts; "
            "finish the runs that are missing."
        ]
        return facts
    errors = np.stack([abs(BEST[score.name] - one.draws) for one in ordered], axis=1)  # (1 + D, K)
    drawn = errors[1:][np.isfinite(errors[1:]).all(1)]
    facts["step"] = _step(ordered, drawn, sign)
    facts["sentences"] = [_told_step(facts, score)]
    sizes = np.array([one.texts for one in ordered])
    found = next_gain(sizes, errors[0], drawn, _luck(ordered, errors[0]))
    if isinstance(found, str):
        told = f"What twice the labels might bring cannot be said: {found}."
    else:
        ends = sorted(sign * -gain for gain in found)  # lowest, low, high, highest of the change
        facts["next"] = {"texts": round(2 * sizes[-1]), **dict(zip(ENDS, ends, strict=True))}
        told = _told_next(facts, score)
    facts["sentences"].append(told)
    return facts


ENDS = ("lowest", "low", "high", "highest")


def next_gain(
    sizes: np.ndarray, errors: np.ndarray, drawn: np.ndarray, luck: np.ndarray
) -> tuple[float, float, float, float] | str:
    """By how much twice the texts might lower the error: four ends, of the wide and the likely range.

    With x = log2(n / last n), error(x) = e - g (1 - r^x) / (1 - r) + luck: g is the mean gain of the next
    doubling. For each r the points give e and g by generalised least squares, whose errors are those of
    drawing texts and of training. The gain over the last point as it was trained, which may have been lucky,
    is predicted from them as in universal kriging (Cressie 1993, "Statistics for Spatial Data", section 3.4).
    The gains of all r are one mixture, weighed by exp(-chi^2 / 2).

    Args:
        sizes: Training texts of each share, ascending, (K,).
        errors: Of each share, (K,).
        drawn: The same in each draw, (D, K).
        luck: Standard deviation of each error if it were trained again, (K,).

    Returns:
        The ends in ascending order, or in words why they cannot be said.
    """
    doublings = np.log2(sizes / sizes[-1])
    if len(sizes) < FEWEST:
        return f"two shares do not show how fast the gains shrink; {MORE}"
    if doublings[0] > NEAR - 1:
        return f"the shares are less than a doubling apart; {MORE}"
    if errors[-1] <= 0:
        return "no error is left on these texts; more of them, or harder ones, would show what labels bring"
    step = drawn[:, -2] - drawn[:, -1]
    if len(step) < 2:
        return "the measured texts are too few"
    if ends_of(step).high < 0:
        return "with more texts it became worse, and no rule says how that goes on"
    weight = np.linalg.inv(np.cov(drawn.T) + np.diag(luck**2))
    last = np.eye(len(sizes))[-1] * luck[-1] ** 2  # how the luck of the last point goes along with the errors
    gains, misfits = [], []
    for ratio in RATIOS:
        shape = doublings if ratio == 1 else (1 - ratio**doublings) / (1 - ratio)
        design = np.stack([np.ones(len(sizes)), -shape], axis=1)  # (K, 2)
        spread = np.linalg.inv(design.T @ weight @ design)
        fitted = spread @ design.T @ weight @ errors
        rest = errors - design @ fitted
        apart = np.array([0.0, 1.0]) - design.T @ weight @ last
        variance = 2 * luck[-1] ** 2 - last @ weight @ last + apart @ spread @ apart
        gains.append(fitted[1] + last @ weight @ rest + math.sqrt(variance) * NORMAL_POINTS)
        misfits.append(float(rest @ weight @ rest))
    least = min(misfits)
    best = misfits.index(least)
    slopes = np.diff(errors) / np.diff(doublings)
    if least > MISFIT and slopes[-1] < (errors[-1] - errors[0]) / -doublings[0]:
        return (
            "the last texts brought far more than those before them: the curve has not begun to level off, "
            "and more labels are likely to help"
        )
    if least > MISFIT and (best > 0 or np.diff(errors).max() > 0):
        return "the points lie on no curve that levels off"
    shares = np.repeat(np.exp((least - np.array(misfits)) / 2), len(NORMAL_POINTS))
    values = np.minimum(np.concatenate(gains), errors[-1])  # not below an error of 0
    order = np.argsort(values)
    places = np.cumsum(shares[order]) / shares.sum()
    wanted = [(1 - WIDE) / 2, (1 - LIKELY) / 2, (1 + LIKELY) / 2, (1 + WIDE) / 2]
    lowest, low, high, highest = np.interp(wanted, places, values[order]).tolist()
    if least > MISFIT:  # it has levelled off faster than the smallest ratio
        lowest, low = min(lowest, 0.0), min(low, 0.0)
    certain = ends_of(drawn[:, 0] - drawn[:, -1]).low > 0
    if highest - lowest > (WIDEST if certain else NOISY) * errors[-1]:
        return "the shares differ by too little beside chance; more seeds or more measured texts would tell"
    return lowest, low, high, highest


def _luck(points: Sequence[CurvePoint], errors: np.ndarray) -> np.ndarray:
    """The standard deviation of each mean over seeds if it were trained again, (K,)."""
    seeds = [np.array([v for v in one.by_seed if math.isfinite(v)]) for one in points]
    free = sum(len(values) - 1 for values in seeds if len(values))
    share = (LUCK if free else LUCK_ALONE) * np.sqrt([1000 / one.texts for one in points])
    least = np.clip(share, LEAST_LUCK, MOST_LUCK) * np.maximum(errors, errors[-1])  # none is 0
    if free < FEWEST:
        return least
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in seeds if len(values))
    of_one = squares / (free - 2)  # all shares together; of so few seeds: the variance of Student's t
    return np.maximum(least, math.sqrt(of_one / (sum(map(len, seeds)) / len(seeds))))


def _row(one: CurvePoint) -> dict[str, Any]:
    drawn = one.draws[1:][np.isfinite(one.draws[1:])]
    low, high = one.ends or (ends_of(drawn) if len(drawn) else (None, None))
    return {
        "share": one.share,
        "texts": round(one.texts),
        "figure": _plain(one.draws[0]),
        "low": _plain(low),
        "high": _plain(high),
        "by_seed": [_plain(value) for value in one.by_seed],
        "baseline": _plain(one.baseline),
    }


def _plain(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _step(points: Sequence[CurvePoint], drawn: np.ndarray, sign: float) -> dict[str, Any]:
    """What the largest share brought over the one before it, in the score.

    Args:
        points: By their number of texts.
        drawn: The error of each share in each draw, (D, K).
        sign: Of the error in the score.
    """
    before, last = points[-2:]
    low, high = math.nan, math.nan
    own, other = ([value for value in one.by_seed if math.isfinite(value)] for one in (last, before))
    if len(drawn):
        low, high = ends_of(sign * (drawn[:, -1] - drawn[:, -2]))
    return {
        "before": round(before.texts),
        "texts": round(last.texts),
        "doubling": abs(math.log2(last.texts / before.texts) - 1) < NEAR,
        "value": _plain(last.draws[0] - before.draws[0]),
        "low": _plain(low),
        "high": _plain(high),
        "certain": low > 0 or high < 0,
        "apart": seeds_apart(own, other),
    }


# ---- in words and as a picture -----------------------------------------------------------------------


def _told_step(facts: Mapping[str, Any], score: Score) -> str:
    step, (amount, unit) = facts["step"], _amount(facts)
    what = "doubling" if step["doubling"] else "step"
    line = f"The last {what}, from {step['before']:,} to {step['texts']:,} training texts: {facts['words']}"
    if step["value"] is None or step["low"] is None:
        return f"{line}, unknown on so few texts."
    value, low, high = (amount(step[name], True) for name in ("value", "low", "high"))
    line += f" {value}{unit} (95 %: {low} to {high})"
    if step["value"] == step["low"] == step["high"] == 0:
        return f"{line}, no difference."
    if not step["certain"]:
        return f"{line}, which may be chance."
    if step["apart"] is False:
        return f"{line}, but the seeds of the two overlap: it may be a seed's luck."
    better = (step["value"] > 0) == bool(score.higher_is_better)
    told = "better" if better else "worse: more labels did not help here"
    return f"{line}, {told}{'' if step['apart'] else '; another seed may say otherwise'}."


def _told_next(facts: Mapping[str, Any], score: Score) -> str:
    """Without a sign, as a gain: a change for the worse in the range is told as nothing."""
    coming, (amount, unit) = facts["next"], _amount(facts)
    ends = [coming[end] if score.higher_is_better else -coming[end] for end in ("low", "high")]
    least, most = (amount(max(end, 0.0)) for end in sorted(ends))
    line = f"Twice the labelled training texts, {coming['texts']:,} instead of {facts['step']['texts']:,},"
    sure = "(an extrapolation, at most 80 % sure)"
    if most == amount(0.0):
        return f"{line} would hardly change {facts['words']} {sure}."
    verb = "raise" if score.higher_is_better else "lower"
    span = f"up to {most}" if least == amount(0.0) else f"{least} to {most}"
    return f"{line} might {verb} {facts['words']} by {span}{unit} {sure}."


def _amount(facts: Mapping[str, Any]) -> tuple[Callable[..., str], str]:
    """How a change is written, and its unit: 0.012 of accuracy as 1.2 points."""
    scale, digits, unit = (POINTS, 1, " points") if facts["percent"] else (1, facts["digits"], "")

    def shown(value: float, signed: bool = False) -> str:
        scaled = round(value * scale, digits) + 0.0  # no -0
        return f"{scaled:+,.{digits}f}" if signed else f"{scaled:,.{digits}f}"

    return shown, unit


def curve_chart(facts: Mapping[str, Any]) -> str:
    """The facts of `learning_curve` as `<figure>`: points with 95 % intervals, what might come as a band."""
    rows, coming = facts["rows"], facts["next"]
    points = [
        (row["texts"], row["figure"], row["low"], row["high"]) for row in rows if row["figure"] is not None
    ]
    band = None
    if coming and points:
        size, figure = points[-1][:2]
        band = ((size, figure), (coming["texts"], figure + coming["low"], figure + coming["high"]))
    beside = [(row["texts"], row["baseline"]) for row in rows if row["baseline"] is not None]
    names = ("this model", "counting words", "extrapolated, at most 80 % sure")
    return growth(points, beside, band, names, facts["words"].capitalize(), "training texts")
