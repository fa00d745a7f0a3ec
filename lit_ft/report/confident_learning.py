"""Which labels to check, by what models said of texts that they had not trained on: one function a kind.

Classes: confident learning (Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 70; equations of section 3). Several labels: the same of each label, with two classes.
Numbers: residuals far beyond the others.

Only rows whose suggestion is likelier than their label are listed, by the label's probability, lowest first
(self-confidence). Measured with TF-IDF and logistic regression on 5,000 reviews each, 5 % of the labels
replaced, mean and standard deviation of the average precision (scripts/planted_errors.py) over five seeds,
for neighbours three:

    stars (Yelp), two classes (IMDB):    by any other   by a neighbour   IMDB
    self-confidence                      .424 +- .028    .137 +- .032    .486 +- .023
    log of label over likeliest other    .395 +- .030    .165 +- .033    the same
    normalised margin                    .266 +- .022    .177 +- .024    the same
    steps of the scale, then margin      .395 +- .026    .099 +- .003    the same
    expected distance on the scale       .382 +- .027    .057 +- .002    the same

So classes with an order are ranked as the others. Rows whose suggestion is less likely than the label: with
them 1,603 rows are listed instead of 1,198, and .70 instead of .67 of the planted. cleanlab 2.9's default
(prune by noise rate) lists more, and its first 50 are about as precise: of the stars 1,377 rows with .80 of
the planted, of IMDB 434 with .73 (precision .42) instead of 266 with .61 (.57). The estimate was 2,047 of the
stars and 434 of IMDB, 250 planted: the models agreed with 58 and 83 % of the labels.

N rows of the file, G read at a time, M listed, C classes or labels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from lit_ft.report.out_of_fold import PROBABILITY, listed_shares
from lit_ft.report.tag_pairs import tags_of_names

GROUP_ROWS, GROUP_VALUES = 10_000, 2_000_000  # read at a time
ROUNDING = 1e-6  # probabilities are float32, and their mean may be a little above all of them
FEW = 10  # texts of a class: its threshold is the mean of so few
FAR = 3.5  # Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers": of the modified z-score
CLEARLY = 2  # standard errors of a share
COMMONEST = "always answering the commonest label"
NORMAL = 0.6745  # of it: the median absolute deviation of normal values, in standard deviations


@dataclass(frozen=True)
class Flagged:
    """The rows to check of a kind of label, M, in any order.

    Attributes:
        places: In the file, (M,) int64.
        scores: The lowest come first, (M,).
        suggestions: (M,) str objects.
        chances: (M,) float64.
        own: (M,) float64.
        estimated: As in `LabelIssues`.
        words: As there, without those on the whole list.
        fits: The probability of every row's label, (N,); None if there is none.
        weak: The models are not clearly better than always answering the commonest label.
    """

    places: np.ndarray
    scores: np.ndarray
    suggestions: np.ndarray
    chances: np.ndarray
    own: np.ndarray
    estimated: float | None
    words: list[str]
    fits: np.ndarray | None = None
    weak: bool = False


# ---- confident learning ------------------------------------------------------------------------------


def mean_confidences(labels: np.ndarray, own: np.ndarray, num_classes: int) -> np.ndarray:
    """The thresholds t_j, equation 2: how sure the models are of j on average where it is the label, (C,).

    Args:
        labels: (N,) int64.
        own: The probability of each row's label, (N,).
        num_classes: C; a class without rows gets infinity, so that nothing is sure to be of it.
    """
    counts = np.bincount(labels, minlength=num_classes)
    sums = np.bincount(labels, own, num_classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Equation 1: of the classes whose probability reaches their threshold the likeliest; -1 if none does.

    Args:
        probabilities: (G, C).
        thresholds: (C,).

    Returns:
        (G,) int64: the column of the confident joint in which a row counts.
    """
    reached = probabilities >= thresholds - ROUNDING
    return np.where(reached.any(1), np.where(reached, probabilities, -1).argmax(1), -1)


def estimated_errors(labels: np.ndarray, confident: np.ndarray, num_classes: int) -> float:
    """Equation 3: N times the off-diagonal of the joint, each row of it scaled to the texts of its label.

    Args:
        labels: (N,) int64.
        confident: `confident_classes`, (N,).
        num_classes: C. Of a label none of whose rows is confident, nothing is estimated: 0.
    """
    sure = confident >= 0
    all_rows = np.bincount(labels, minlength=num_classes)
    counted = np.bincount(labels[sure], minlength=num_classes)
    off = np.bincount(labels[sure & (confident != labels)], minlength=num_classes)
    return float((all_rows * off / np.maximum(counted, 1)).sum())


def in_one_fold(folds_with: np.ndarray, num_folds: int) -> np.ndarray:
    """Classes all of whose rows one fold held out, (C,) bool: the models that were asked never saw them.

    Args:
        folds_with: How many folds have a row of the class, (C,).
        num_folds: In the file; with one, what its models were trained on is not in the file.
    """
    return (folds_with == 1) & (num_folds > 1)


# ---- kinds of label ----------------------------------------------------------------------------------


def _pieces(path: Path, columns: Sequence[str] | None, num_names: int) -> Iterator[pa.Table]:
    """The file from its start, some rows at a time."""
    rows = max(1, min(GROUP_ROWS, GROUP_VALUES // max(num_names, 1)))
    with pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(rows, columns=columns):
            yield pa.Table.from_batches([batch])


def _shares(piece: pa.Table, names: Sequence[str]) -> np.ndarray:
    """The probabilities (G, C); those that are not among the likeliest count 0."""
    rows, classes, shares = listed_shares(piece, names)
    found = np.zeros((piece.num_rows, len(names)))
    found[rows, classes] = shares
    return found


def _share_columns(path: Path) -> list[str]:
    names = pa.parquet.read_schema(path).names
    return [name for name in names if name.startswith((PROBABILITY, "likeliest"))]


def classes_to_check(path: Path, note: dict[str, Any]) -> Flagged:
    """Rows off the diagonal of the confident joint, whose suggestion is likelier than their label.

    Args:
        path: The file of `out_of_fold.py`.
        note: Its note.
    """
    names = list(map(str, note["labels"]))
    known = pa.array(names, pa.string())
    table = pa.parquet.read_table(path, columns=["label", "predicted", "label_probability", "fold"])
    labels = pc.index_in(table["label"], known).to_numpy().astype(np.int64)  # (N,)
    agreeing = int((pc.index_in(table["predicted"], known).to_numpy() == labels).sum())
    own = table["label_probability"].to_numpy().astype(np.float64)
    counts = np.bincount(labels, minlength=len(names))
    folds = table["fold"].to_numpy()
    pairs = np.unique(np.stack([labels, folds]), axis=1)
    unseen = in_one_fold(np.bincount(pairs[0], minlength=len(names)), len(np.unique(folds)))
    judged = ~unseen[labels]  # (N,)
    thresholds = mean_confidences(labels[judged], own[judged], len(names))
    confident, chances = np.full(len(labels), -1), np.zeros(len(labels))
    start = 0
    for piece in _pieces(path, _share_columns(path), len(names)):
        shares = _shares(piece, names)
        at = slice(start, start := start + len(shares))
        # A label that is not among the likeliest ones has a probability all the same.
        shares[np.arange(len(shares)), labels[at]] = own[at]
        confident[at] = confident_classes(shares, thresholds)
        chances[at] = shares[np.arange(len(shares)), confident[at]]
    confident[~judged] = -1
    places = np.flatnonzero((confident >= 0) & (confident != labels) & (chances > own))
    estimated = estimated_errors(labels, confident, len(names))
    words = [
        "Listed are rows whose label the models, which had not trained on them, find less likely than the "
        "suggestion, and are sure enough of that; the least likely label comes first."
    ]
    weak = _is_weak(agreeing, int(counts.max(initial=0)), len(labels))
    words += _on_estimate(
        estimated, len(labels), "wrong labels", agreeing / max(len(labels), 1), "labels", weak
    )
    words += _on_counts(counts, unseen, "class", "classes")
    if note.get("ordered") and len(places):
        near = int((np.abs(confident - labels)[places] == 1).sum())
        words.append(
            f"{near:,} of the {len(places):,} suggestions of the models are one step from the label: "
            "neighbours on a scale are confused by nature, also by people."
        )
    suggestions = np.array([*names, None], object)[:-1][confident[places]]
    listed = own[places]
    return Flagged(places, listed, suggestions, chances[places], listed, estimated, words, own, weak)


def tags_to_check(path: Path, note: dict[str, Any]) -> Flagged:
    """The same of each label, with two classes: given, with probability p, and not given, with 1 - p.

    Args:
        path: The file of `out_of_fold.py`.
        note: Its note.
    """
    names = list(map(str, note["labels"]))
    columns = ["label", "predicted", "fold", *_share_columns(path)]
    sums, counts = np.zeros((2, len(names))), np.zeros((2, len(names)))  # not given, given
    in_folds: dict[int, np.ndarray] = {}  # fold -> the labels that a text of it has, (C,) bool
    same = total = 0
    for piece in _pieces(path, columns, len(names)):
        shares, given = _shares(piece, names), tags_of_names(piece["label"], names)
        same += int((tags_of_names(piece["predicted"], names) == given).sum())
        total += given.size
        sums += np.stack([((1 - shares) * ~given).sum(0), (shares * given).sum(0)])
        counts += np.stack([(~given).sum(0), given.sum(0)])
        folds = piece["fold"].to_numpy()
        for fold in np.unique(folds).tolist():
            in_folds[fold] = in_folds.get(fold, False) | given[folds == fold].any(0)
    unseen = in_one_fold(np.sum(list(in_folds.values()), 0), len(in_folds))
    without, with_it = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    with_it[unseen] = np.inf
    counted, off = np.zeros((2, len(names))), np.zeros((2, len(names)))
    found: list[tuple[int, float, str]] = []
    start = 0
    for piece in _pieces(path, columns, len(names)):
        shares, given = _shares(piece, names), tags_of_names(piece["label"], names)
        yes, no = shares >= with_it - ROUNDING, 1 - shares >= without - ROUNDING
        # Whether a label that no model saw is one too many, the models cannot say.
        no &= ~(unseen & given)
        sure, said = yes | no, yes & (~no | (shares > 0.5))  # of both the likelier
        for k, having in enumerate((~given, given)):
            counted[k] += (sure & having).sum(0)
            off[k] += (sure & having & (said != given)).sum(0)
        own = np.where(given, shares, 1 - shares)
        listed = sure & (said != given) & (own < 0.5)
        for row in np.flatnonzero(listed.any(1)):
            labels = sorted(np.flatnonzero(listed[row]), key=lambda c: own[row, c])
            signs = "; ".join(f"{'-' if given[row, c] else '+'}{names[c]}" for c in labels)
            found.append((start + int(row), float(own[row, labels[0]]), signs))
        start += len(shares)
    estimated = float((counts * off / np.maximum(counted, 1)).sum())
    agreeing = same / max(total, 1)
    words = [
        "Each label was judged on its own: `+` one that may be missing, `-` one that may be too many. "
        "The probabilities are those of the first."
    ]
    weak = _is_weak(same, int(counts.max(0).sum()), total)
    what = "wrong decisions on a label of a text"
    words += _on_estimate(estimated, total, what, agreeing, "decisions", weak)
    words += _on_counts(counts[1], unseen, "label", "labels")
    if "likeliest" in columns:
        words.append("Only the likeliest labels of a text are known; the others count as probability 0.")
    scores = np.array([score for _, score, _ in found], float)
    return Flagged(
        np.array([place for place, _, _ in found], np.int64),
        scores,
        np.array([signs for _, _, signs in found], object),
        1 - scores,
        scores,
        estimated,
        words,
        weak=weak,
    )


def numbers_to_check(path: Path, note: dict[str, Any]) -> Flagged:
    """Numbers whose residual has a modified z-score, 0.6745 (r - median) / MAD, beyond 3.5.

    Args:
        path: The file of `out_of_fold.py`.
        note: Its note.
    """
    table = pa.parquet.read_table(path, columns=["label", "predicted"])
    predicted = table["predicted"].to_numpy()
    residuals = table["label"].to_numpy() - predicted
    middle = np.median(residuals) if len(residuals) else 0.0
    spread = float(np.median(np.abs(residuals - middle))) if len(residuals) else 0.0
    none = np.zeros(len(residuals))
    scores = NORMAL * (residuals - middle) / spread if spread > 0 else none
    places = np.flatnonzero(np.abs(scores) > FAR)
    words = [
        f"Listed are numbers further from the prediction than a robust z-score of {FAR} (Iglewicz and "
        "Hoaglin 1993). That is all that is said of them: texts that are hard to predict are among them too, "
        "and an error that is small beside the models' own is not."
    ]
    if not spread:
        words = ["Half of the residuals are all the same: there is no scale on which others are far out."]
    suggestions = np.array([_rounded(value) for value in predicted[places]], object)
    nothing = np.full(len(places), np.nan)
    return Flagged(places, -np.abs(scores[places]), suggestions, nothing, scores[places], None, words)


def _rounded(value: float) -> str:
    """Six digits, but all before the point: `1234567`, not `1.23457e+06`."""
    return f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"


def _is_weak(agreeing: int, commonest: int, of: int) -> bool:
    """Whether the models agree with not clearly more labels than the commonest answer does.

    Args:
        agreeing: Labels on which the models agree.
        commonest: Labels that always answering the commonest would meet.
        of: All labels; if all are the same there is nothing to learn, and that is said elsewhere.
    """
    share = commonest / max(of, 1)
    return commonest < of and agreeing <= commonest + CLEARLY * (of * share * (1 - share)) ** 0.5


def _on_estimate(estimated: float, of: int, what: str, agreeing: float, labels: str, weak: bool) -> list[str]:
    """What the estimate is worth: it takes the models for right wherever they are sure."""
    share = estimated / max(of, 1)
    line = (
        f"Confident learning estimates {estimated:,.0f} {what} of {of:,} ({share:.1%}), taking the models "
        f"for right wherever they are sure; they agree with {agreeing:.1%} of the {labels}. "
    )
    line += "What they confuse is counted as wrong too: the worse they are, the more it is too high."
    if weak:
        line = f"These models are hardly better than {COMMONEST}: the list is worth little. {line}"
    return [line]


def _on_counts(counts: np.ndarray, unseen: np.ndarray, one: str, several: str) -> list[str]:
    alone = int(unseen.sum())
    few, absent = int(((counts > 0) & (counts < FEW)).sum()), int((counts == 0).sum())
    words = []
    if (counts > 0).sum() == 1 and one == "class":
        words.append("All texts have the same label: there is nothing to compare.")
    if few:
        noun = f"{one} has" if few == 1 else f"{several} have"
        words.append(f"{few:,} {noun} fewer than {FEW} texts: what is said of these is worth little.")
    if alone:
        noun = f"{one} has" if alone == 1 else f"{several} have"
        words.append(
            f"{alone:,} {noun} texts in one fold only, whose models never saw any: they say nothing of these."
        )
    if absent:
        noun = f"{one} has" if absent == 1 else f"{several} have"
        words.append(f"{absent:,} {noun} no text here and cannot be suggested.")
    return words
