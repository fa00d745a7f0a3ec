"""The runs of a repeat as one: what they said of the same texts, its figures, and how certain these are.

With folds each text was held out of one run of each seed: the answers of a seed's runs are put together, so
that each text counts once. Without folds, and for test texts, each run was measured on all of the texts.

N texts, S seeds, R rows of answers: one of each seed for folds, else one of each run; C classes or labels;
D draws of texts, the same for all that was measured on the same texts.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report.intervals import MOST_CLASSES, ends_of, wilson
from lit_ft.report.pairs import Difference
from lit_ft.report.scores import SCORES, Score, decimals_of
from lit_ft.report.weighted import WEIGHED, Sums, drawn_texts, num_draws

MOST_DIGITS = 3  # of a figure between 0 and 1: the intervals of some thousand texts are as wide
HELD_OUT = "fold"  # the prefix of what was held out, each text once a seed
AGAIN = "give the same `repeat` again: it does what is missing"


@dataclass(frozen=True)
class Repetition:
    """One run of a repeat.

    Attributes:
        seed: Its `seed_everything`.
        fold: The fold that was left out of its training data, from 1; None without folds.
        share: Of the training rows; 1.0 for all.
        folder: Its run folder.
    """

    seed: int
    fold: int | None
    share: float
    folder: Path

    def told(self) -> str:
        """`seed 42, fold 2`."""
        parts = [f"seed {self.seed}"]
        parts += [f"fold {self.fold}"] if self.fold is not None else []
        parts += [f"share {self.share:.15g}"] if self.share < 1 else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Pooled:
    """What the runs of a repeat, or of a part of it such as one share, said of the same texts.

    Attributes:
        kind: Of `report.json`: a key of `scores.SCORES`.
        prefix: `fold`, `test` or `val`.
        ordered: Whether the distance between labels means something.
        seeds: (S,).
        names: The classes or labels, (C,).
        rows: In the source, from 1, ascending, (N,) int64.
        hashes: Of the texts, (N,) uint64.
        labels: (N,) int64, (N, C) bool or (N,) float64, by the kind.
        predicted: The same for each row of answers, (R, N, ...).
        losses: (R, N) float64; None if the kind has none.
        members: The seed and, if the row is of one run of several folds, the fold of each row: (R,).
        folds: The fold that held each text out, (N,) int64; None if the texts were not held out by folds.
        used: The runs whose answers these are.
        notes: In words, what is missing.
    """

    kind: str
    prefix: str
    ordered: bool
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    rows: np.ndarray
    hashes: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    losses: np.ndarray | None
    members: tuple[tuple[int, int | None], ...]
    folds: np.ndarray | None
    used: tuple[Repetition, ...]
    notes: tuple[str, ...] = ()

    def take(self, places: np.ndarray) -> "Pooled":
        """The texts at these places."""
        return replace(
            self,
            rows=self.rows[places],
            hashes=self.hashes[places],
            labels=self.labels[places],
            predicted=self.predicted[:, places],
            losses=None if self.losses is None else self.losses[:, places],
            folds=None if self.folds is None else self.folds[places],
        )

    def weights(self) -> np.ndarray:
        """What each row of answers adds to a figure, (R,): seeds count alike, and within one its runs."""
        seeds = [seed for seed, _ in self.members]
        return np.array([1 / (len(self.seeds) * seeds.count(seed)) for seed in seeds])

    def sums(self) -> Iterator[Sums]:
        """The sums of each row of answers, (R,)."""
        for said in self.predicted:
            yield WEIGHED[self.kind].sums(self.labels, said, len(self.names), self.ordered)

    @functools.cached_property
    def draws(self) -> dict[str, np.ndarray]:
        """Every score, as a mean over the seeds: name -> (1 + D,), the figure itself, then those of draws.

        A draw takes N of the texts with replacement, the same for all rows of answers, and for whatever else
        was measured on the same N texts: the draws of two results can be subtracted. NaN where a draw of few
        texts leaves a score undefined.
        """
        weights, sums = self.weights(), list(self.sums())
        parts = [_under(self, np.ones((len(self.rows), 1)), sums)]
        parts += [_under(self, drawn, sums) for drawn in drawn_texts(len(self.rows))]
        return {name: np.concatenate([weights @ part[name] for part in parts]) for name in parts[0]}

    def scores(self) -> list[Score]:
        """The scores that it has, in their order and with the digits that numbers need."""
        sums = next(self.sums())
        found = list(sums.scores(sums.of(np.ones((len(self.rows), 1))))) + (
            ["loss"] if self.losses is not None else []
        )
        scores = [score for score in SCORES[self.kind] if score.name in found]
        if sums.each is not None:
            return scores
        digits = decimals_of(float(self.labels.std()) or 1.0) + 1
        return [replace(score, digits=digits) if score.in_unit else score for score in scores]


# ---- the answers put together ------------------------------------------------------------------------


def pool(repetitions: Sequence[Repetition], prefix: str) -> Pooled:
    """Put together what runs said of the texts that they were measured on.

    Args:
        repetitions: Of one share and one setting, also those that are not done yet.
        prefix: `fold`, `test` or `val`.

    Raises:
        UserError: No run has what it takes, or the runs saw other texts or labels.
    """
    known: list[tuple[Repetition, Any]] = []
    lacking: list[tuple[Repetition, str]] = []
    kind, ordered = "", True
    for one in repetitions:
        metrics, facts = runs.read_metrics(one.folder), runs.read_facts(one.folder)
        found: Any = "it is not finished"
        if metrics and facts.get("kind") in WEIGHED:
            kind = facts["kind"]
            found = WEIGHED[kind].read(one.folder, prefix, metrics)
        if isinstance(found, str):
            lacking.append((one, found))
        else:
            known.append((one, found))
            ordered = ordered and f"{prefix}/mae" in metrics
    if not known:
        one, reason = lacking[0]
        raise UserError(
            f"expected {runs.PER_TEXT[prefix]} of a run, found none ({one.folder}: {reason}); {AGAIN}"
        )
    names = list(dict.fromkeys(name for _, found in known for name in found.names))
    known = [(one, found.take(np.arange(len(found.rows)), names)) for one, found in known]
    notes = [f"{one.told()} is left out: {reason}" for one, reason in lacking]
    rows = _held_out(repetitions, known, notes) if prefix == HELD_OUT else [([pair], pair) for pair in known]
    answers = [_joined([found for _, found in parts]) for parts, _ in rows]
    first = answers[0]
    for answer, (parts, _) in zip(answers, rows, strict=True):
        _check_same(first, answer, rows[0][0][0][0], parts[0][0])
    used = tuple(one for parts, _ in rows for one, _ in parts)
    folds = None
    if prefix == HELD_OUT:
        fold_of = [np.full(len(found.rows), one.fold) for one, found in rows[0][0]]
        order = np.argsort(np.concatenate([found.rows for _, found in rows[0][0]]), kind="stable")
        folds = np.concatenate(fold_of)[order].astype(np.int64)
    return Pooled(
        kind,
        prefix,
        ordered,
        tuple(dict.fromkeys(one.seed for one in used)),
        tuple(names),
        first.rows,
        first.hashes,
        first.labels,
        np.stack([answer.predicted for answer in answers]),
        np.stack([answer.loss for answer in answers]) if hasattr(first, "loss") else None,
        tuple((one.seed, None if prefix == HELD_OUT else one.fold) for _, (one, _) in rows),
        folds,
        used,
        tuple(notes),
    )


Read = tuple[Repetition, Any]


def _held_out(
    repetitions: Sequence[Repetition], known: Sequence[Read], notes: list[str]
) -> list[tuple[list[Read], Read]]:
    """The runs of each seed that has all folds; if none has, of the folds of the seed that has the most."""
    every = sorted({one.fold for one in repetitions if one.fold is not None})
    of_seed: dict[int, dict[int | None, Read]] = {}
    for one, found in known:
        of_seed.setdefault(one.seed, {})[one.fold] = (one, found)
    most = max(of_seed.values(), key=len)
    wanted = sorted(fold for fold in most if fold is not None)
    if len(wanted) < len(every):
        listed = ", ".join(map(str, wanted))
        notes.append(f"the figures are of fold {listed} of {len(every)}: no seed has all folds; {AGAIN}")
    rows = []
    for seed, found_of in of_seed.items():
        if absent := [fold for fold in wanted if fold not in found_of]:
            listed = ", ".join(map(str, absent))
            notes.append(f"seed {seed} is left out: it misses fold {listed}; {AGAIN}")
        else:
            parts = [found_of[fold] for fold in wanted]
            rows.append((parts, parts[0]))
    return rows


def _joined(parts: Sequence[Any]) -> Any:
    """The texts of several files in the order of their rows; each text must be in one of them."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows, kind="stable")
    twice = rows[order][1:][np.diff(rows[order]) == 0]
    if len(twice):
        raise UserError(
            f"expected each text in one fold, found row {twice[0]} in several ({parts[0].path.parent} and "
            "others): they were made of other data or another data.split_seed; repeat with another --name"
        )
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in ("rows", "hashes", "labels", "predicted", "loss")
        if hasattr(parts[0], name)
    }
    return replace(parts[0], **columns)


def _check_same(first: Any, other: Any, one: Repetition, also: Repetition) -> None:
    """Refuse runs that were measured on other texts, or on the same with other labels."""
    if np.array_equal(first.rows, other.rows):
        differ = (first.hashes != other.hashes) | (first.labels != other.labels).reshape(
            len(first.rows), -1
        ).any(1)
        if not differ.any():
            return
        where = f"{int(differ.sum()):,} of {len(first.rows):,} texts or their labels differ"
        where += f", the first in row {first.rows[np.argmax(differ)]}"
    else:
        where = f"{len(first.rows):,} and {len(other.rows):,} texts, which are not of the same rows"
    raise UserError(
        f"expected the same texts in all runs, found another in {also.folder} than in {one.folder} "
        f"({where}): the data or its settings changed; repeat with another --name"
    )


# ---- figures -----------------------------------------------------------------------------------------


def _under(pooled: Pooled, weights: np.ndarray, sums: Iterable[Sums] | None = None) -> dict[str, np.ndarray]:
    """Every score of each row of answers under weights of the texts (N, W): name -> (R, W)."""
    found: dict[str, list[np.ndarray]] = {}
    for r, of in enumerate(pooled.sums() if sums is None else sums):
        scores = of.scores(of.of(weights))
        if pooled.losses is not None:
            scores["loss"] = pooled.losses[r] @ weights / weights.sum(0)
        for name, values in scores.items():
            found.setdefault(name, []).append(values)
    return {name: np.stack(values) for name, values in found.items()}


def ends_of_score(pooled: Pooled, name: str, values: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of a score from its `draws`, (1 + D,); None if draws tell nothing of it.

    Draws of texts that are all right are all alike: a share then has Wilson's interval.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) and np.ptp(drawn) > 0:
        return ends_of(drawn)
    if name in WEIGHED[pooled.kind].shares:
        return wilson(float(values[0]) * len(pooled.rows), len(pooled.rows))
    return None, None


def difference(one: Pooled, other: Pooled) -> list[Difference]:
    """Each figure of `other` minus that of `one`, on the texts that both were measured on.

    Both are means over their seeds; the interval is that of drawing other texts, not of training again.

    Raises:
        UserError: They have no text in common, or its label differs.
    """
    rows = np.intersect1d(one.rows, other.rows)
    places = [np.searchsorted(of.rows, rows) for of in (one, other)]
    same = one.hashes[places[0]] == other.hashes[places[1]]
    if not (len(rows) == len(one.rows) == len(other.rows) and same.all()):  # else their draws are known
        one, other = (of.take(place[same]) for of, place in zip((one, other), places, strict=True))
    folders = f"{one.used[0].folder} and {other.used[0].folder}"
    if not len(one.rows):
        raise UserError(f"expected texts in common, found none in {folders}; compare runs of the same data")
    if one.names != other.names or not np.array_equal(one.labels, other.labels):
        raise UserError(f"expected the same labels of the same texts, found others in {folders}")
    here, there = one.draws, other.draws
    found = []
    for score in one.scores():
        if score.name in there:
            value, *drawn = there[score.name] - here[score.name]
            finite = np.array(drawn)[np.isfinite(drawn)]
            low, high = ends_of(finite) if len(finite) else (math.nan, math.nan)
            found.append(Difference(score, float(value), low, high, bool(low > 0 or high < 0)))
    return found


def figures(pooled: Pooled) -> dict[str, Any]:
    """What the runs say together, as plain values.

    Returns:
        `kind`, `prefix`, `ordered`, `texts` (N), `seeds`, `folds` (their numbers, or None), `fold_texts`
        (how many texts each held out, or None), `draws`, `notes`; `runs`: the `seed` and `fold` of each
        single run; `scores`: name -> `words`, `note`, `digits`, `higher_is_better`, `value` (mean over
        seeds), `low`, `high`, `deviation` (of the draws), `seeds` and `folds` (each `values`, `mean`, `sd`,
        `low`, `high`; `folds` may be None) and `runs` (the value of each single run); `unknown`: in words,
        what cannot be said.
    """
    held = pooled.folds
    numbers = sorted({fold for _, fold in pooled.members if fold is not None})
    if held is not None:
        numbers = np.unique(held).tolist()
    # With folds a row of answers is of several runs: the texts of each fold are those of one.
    weights = np.ones((len(pooled.rows), 1))
    if held is not None:
        weights = np.hstack([weights, held[:, None] == np.array(numbers)[None]]).astype(np.float64)
    under, drawn = _under(pooled, weights), pooled.draws
    single = list(pooled.members)
    if held is not None:
        single = [(seed, fold) for seed, _ in pooled.members for fold in numbers]
    scores = {}
    for score in pooled.scores():
        whole = under[score.name]  # (R, 1 + folds)
        of_single = whole[:, 1:].ravel() if held is not None else whole[:, 0]
        low, high = ends_of_score(pooled, score.name, drawn[score.name])
        by_seed = [
            float(np.mean([v for v, (s, _) in zip(whole[:, 0], pooled.members, strict=True) if s == seed]))
            for seed in pooled.seeds
        ]
        by_fold = [
            float(np.mean([v for v, (_, f) in zip(of_single, single, strict=True) if f == fold]))
            for fold in numbers
        ]
        scores[score.name] = {
            "words": score.words,
            "note": score.note,
            "digits": score.digits if score.in_unit else MOST_DIGITS,
            "higher_is_better": score.higher_is_better,
            "value": _plain(drawn[score.name][0]),
            "low": _plain(low),
            "high": _plain(high),
            "deviation": _plain(np.nanstd(drawn[score.name][1:])),
            "seeds": _spread(by_seed),
            "folds": _spread(by_fold) if numbers else None,
            "runs": [_plain(value) for value in of_single],
        }
    return {
        "kind": pooled.kind,
        "prefix": pooled.prefix,
        "ordered": pooled.ordered,
        "texts": len(pooled.rows),
        "seeds": list(pooled.seeds),
        "folds": numbers or None,
        "fold_texts": None if held is None else [int((held == fold).sum()) for fold in numbers],
        "draws": num_draws(len(pooled.rows)),
        "runs": [{"seed": seed, "fold": fold} for seed, fold in single],
        "scores": scores,
        "unknown": _unknown(len(pooled.seeds), len(numbers)),
        "notes": list(pooled.notes),
    }


def _plain(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _spread(values: Sequence[float]) -> dict[str, Any]:
    """Values, their mean, standard deviation (None of one) and range."""
    known = np.array([value for value in values if math.isfinite(value)])
    return {
        "values": [_plain(value) for value in values],
        "mean": float(known.mean()) if len(known) else None,
        "sd": float(known.std(ddof=1)) if len(known) > 1 else None,
        "low": float(known.min()) if len(known) else None,
        "high": float(known.max()) if len(known) else None,
    }


def _unknown(num_seeds: int, num_folds: int) -> list[str]:
    """What one seed, or one fold, cannot say."""
    found = []
    if num_seeds == 1:
        found.append("one seed: how far seeds differ is unknown; --seeds=3 says")
    if num_folds == 1:
        found.append("one fold: how far the choice of training texts matters is unknown; more folds say")
    return found


def f1_of_each(pooled: Pooled) -> list[dict[str, Any]]:
    """F1 of each class or label, or of the `MOST_CLASSES` commonest, the worst first; [] of numbers.

    Returns:
        `name`, `rows` (texts that have it), `value` (mean over seeds), `low` and `high` (None if draws tell
        nothing).
    """
    sums = [of for of in pooled.sums() if of.each is not None]
    if not sums:
        return []
    counts = (
        pooled.labels.sum(0)
        if pooled.labels.ndim == 2
        else np.bincount(pooled.labels, minlength=len(pooled.names))
    )
    shown = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    shown = shown[counts[shown] > 0]
    weights = pooled.weights()

    def each(drawn: np.ndarray) -> np.ndarray:
        found = [of.each(of.of(drawn))[shown] for of in sums if of.each is not None]
        return np.einsum("r,rcw->cw", weights, np.stack(found))

    parts = [each(np.ones((len(pooled.rows), 1))), *map(each, drawn_texts(len(pooled.rows)))]
    values = np.concatenate(parts, 1)  # (shown, 1 + D)
    found = []
    for c, of in zip(shown.tolist(), values, strict=True):
        low, high = ends_of(of[1:]) if np.ptp(of[1:]) > 0 else (None, None)
        entry = {"name": pooled.names[c], "rows": int(counts[c]), "value": float(of[0])}
        found.append({**entry, "low": low, "high": high})
    return sorted(found, key=lambda entry: entry["value"])
