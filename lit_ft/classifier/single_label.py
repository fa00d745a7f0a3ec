"""What a fit measures, shows and writes of one class a text: a row of `kinds.KINDS`.

N rows of an evaluation, G of a group, M of a piece of predictions, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.tensorboard import SummaryWriter

from lit_ft.classifier import word_counts
from lit_ft.classifier.baselines import Rivals
from lit_ft.classifier.metrics import ClassifierMetrics, Outcomes
from lit_ft.classifier.prediction_files import PREDICTED, PROBABILITY
from lit_ft.classifier.slices import slices_of
from lit_ft.classifier.word_counts import WordCounts
from lit_ft.data.labels import LabelMapping
from lit_ft.data.splits import Split
from lit_ft.data.text_columns import shown_texts
from lit_ft.errors import one_line, shorten
from lit_ft.report import figures
from lit_ft.report.analysis import (
    MOST_IN_MATRIX,
    calibration_error,
    class_counts,
    confidence_in,
    reliability,
    side_by_side,
    softmax,
    summarise,
    summary_intervals,
)
from lit_ft.report.findings import CLASSES
from lit_ft.report.intervals import scores_of
from lit_ft.report.slices import Figures
from lit_ft.report.tables import table
from lit_ft.tasks import Decision, row_cross_entropies

MOST_CURVES = 6  # classes that get a PR curve, the weakest
MOST_COLUMNS = 50  # classes with a column each in a file of texts; beyond, a row has its likeliest ones

NUM_LIKELIEST = 5
UNSURE = 0.5  # confidence below which the other classes together are likelier
MOST_NAMED = 5  # classes in the line at the end of `predict`


def metrics_of(model: Any, prefix: str) -> ClassifierMetrics:
    """The metrics of a split, whose tags begin with `val/` or `test/`."""
    return ClassifierMetrics(model.labels.num_labels, prefix, model.labels.ordered, decision_of(model))


def decision_of(model: Any) -> Decision:
    """How a class is chosen: `model.decide`."""
    return model.hparams["decide"]


def class_settings(model: Any, temperature: float | None) -> dict[str, Any]:
    """What an exported config says of the answers; a pipeline gives the likeliest class, whatever is decided.

    Not `temperature`: transformers 5.23 (configuration_utils.py, save_pretrained) takes that for a setting of
    text generation, and refuses to save the config.
    """
    return {"calibration_temperature": temperature or 1.0, "decide": decision_of(model)}


def trained_counts(model: Any, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, int]:
    """Of some training texts: how many are answered right."""
    return {"right": int((model.answers(logits.float()) == targets.cpu()).sum())}


def summary_of(model: Any, prefix: str, split: Split, with_intervals: bool = True) -> dict[str, Any]:
    """`analysis.summarise` of an evaluation that has just ended.

    Args:
        model: The evaluated BertClassifier.
        prefix: `val` or `test`.
        split: The evaluated split.
        with_intervals: Whether to add `intervals`, and for classes on a scale the `decisions`.
    """
    outcomes, temperature = model.outcomes[prefix], model.temperature or 1.0
    found = outcomes.logits, outcomes.labels, outcomes.predicted
    summary = summarise(*found, outcomes.index, temperature, split.rows.were_cut(outcomes.index))
    if with_intervals:
        summary["intervals"] = summary_intervals(*found, temperature, model.ordered)
        if model.ordered:
            summary["decisions"] = side_by_side(softmax(outcomes.logits, temperature), outcomes.labels)
        if split.slices:
            summary["slices"] = slices_of_classes(model, outcomes, split)
    return summary


def slices_of_classes(model: Any, outcomes: Outcomes, split: Split) -> dict[str, Any]:
    """The figures of each slice; slices are compared by their accuracy."""
    headline = ["accuracy", "macro_f1", *(["mae"] if model.ordered else [])]
    right, figures = outcomes.predicted == outcomes.labels, class_figures(outcomes, model)
    return slices_of(split, outcomes.index, figures, right, "accuracy", headline)


def class_figures(outcomes: Outcomes, model: Any) -> Figures:
    """What measures some rows of an evaluation: every figure with its interval."""
    temperature, ordered, num_classes = model.temperature or 1.0, model.ordered, outcomes.logits.shape[1]

    def figures(rows: np.ndarray) -> dict[str, tuple[float, float, float]]:
        logits, labels, predicted = (v[rows] for v in (outcomes.logits, outcomes.labels, outcomes.predicted))
        values = scores_of(labels, predicted, num_classes, ordered)
        values["loss"] = float(row_cross_entropies(logits, labels).mean())
        for name, by in (("ece", 1.0), ("ece_calibrated", temperature)):
            values[name] = calibration_error(reliability(softmax(logits, by), labels, predicted))
        work = len(rows) / len(outcomes.labels)  # all slices of a column take as long as the whole
        ends = summary_intervals(logits, labels, predicted, temperature, ordered, work)["scores"]
        if (
            values["accuracy"] == 1
        ):  # every draw of such rows is the same: what so few allow is the accuracy's
            ends["macro_f1"] = ends["accuracy"]
            if ordered:
                ends["mae"] = [0.0, 1 - ends["accuracy"][0]]
        return {name: (value, *ends[name]) for name, value in values.items() if name in ends}

    return figures


def draw_evaluation(
    writer: SummaryWriter,
    prefix: str,
    outcomes: Outcomes,
    summary: dict[str, Any],
    counts: Sequence[Sequence[int]] | None,
    names: Sequence[str],
    step: int,
) -> None:
    """Draw one evaluation.

    Args:
        writer: The run's event file.
        prefix: `val` or `test`.
        outcomes: The predictions.
        summary: `analysis.summarise` of the outcomes.
        counts: The confusion matrix, (C true, C predicted); None if there are too many classes.
        names: The display names of the classes, (C,).
        step: The step of the weights.
    """
    evaluation = {**summary, "confusion": counts, "names": names}
    for chart in figures.EVALUATION:
        if (drawn := chart.draw(evaluation)) is not None:
            writer.add_figure(f"{prefix}/{chart.tag}", drawn, step)
    if counts is None:
        rows = [(names[true], names[said], count) for true, said, count in summary["confusions"]]
        shown = table(("true", "predicted", "rows"), rows)
        note = f"No picture for {len(names):,} classes (at most {MOST_IN_MATRIX}). Most frequent mistakes:"
        writer.add_text(f"{prefix}/confusions", f"{note}\n\n{shown}", step)
    probabilities = softmax(outcomes.logits)
    for c in figures.weakest(summary["class_counts"], MOST_CURVES):
        writer.add_pr_curve(f"{prefix}/pr/{names[c]}", outcomes.labels == c, probabilities[:, c], step)


def mistake_rows(
    entries: Sequence[dict[str, Any]], split: Split, names: Sequence[str], most: int
) -> list[tuple[str, str, str, float]]:
    """The text, true class, predicted class and confidence of each entry of a summary."""
    return [
        (
            shown_texts(split.texts[entry["index"]], most),
            names[entry["label"]],
            names[entry["predicted"]],
            entry["confidence"],
        )
        for entry in entries
    ]


def worst_table(summary: dict[str, Any], split: Split, names: Sequence[str]) -> str:
    """The worst mistakes of a summary as a table for TensorBoard."""
    heads = ("text", "true", "predicted", "confidence")
    return table(heads, mistake_rows(summary["mistakes"], split, names, 300))


# ---- baselines ---------------------------------------------------------------------------------------


def commonest_class(labels: LabelMapping, classes: np.ndarray) -> dict[str, dict[str, Any]]:
    """The class that most training rows have, and its share of them."""
    counts = labels.counts(classes)
    most = int(np.argmax(counts))
    return {"commonest": {"class": most, "share": int(counts[most]) / len(classes)}}


def always_class(labels: LabelMapping, value: dict[str, Any], num_rows: int) -> np.ndarray:
    """One class for all rows, (N,) int64.

    Raises:
        ValueError: There is no such class.
    """
    if not 0 <= (c := int(value["class"])) < labels.num_labels:
        raise ValueError(f"expected a class below {labels.num_labels}, found {c}")
    return np.full(num_rows, c)


def always_named(labels: LabelMapping, value: dict[str, Any]) -> str:
    """The class in a line."""
    return f"always '{shorten(one_line(labels.names[value['class']]))}'"


def class_scores(
    labels: LabelMapping, given: np.ndarray, answers: np.ndarray, said: np.ndarray
) -> dict[str, Any]:
    """The figures of `ClassifierMetrics` from classes alone, (N,) each; kappa is quadratic.

    Returns:
        Accuracy, macro F1, MAE and kappa (with an order), the `class_counts`, and the number of rows
        `only_model_right` and `only_baseline_right`.
    """
    found: dict[str, Any] = scores_of(given, answers, labels.num_labels, labels.ordered)
    if labels.ordered and (given == given[0]).all() and (answers == given[0]).all():
        found["kappa"] = float("nan")  # of one class alone there is none
    right, model_right = answers == given, said == given
    return found | {
        "class_counts": class_counts(given, answers, labels.num_labels),
        "only_model_right": int((model_right & ~right).sum()),
        "only_baseline_right": int((right & ~model_right).sum()),
    }


def class_words(
    texts: list[str], classes: np.ndarray, analyzer: word_counts.Analyzer, seconds: float
) -> WordCounts:
    """Word counts fitted on texts and their classes, (N,)."""
    return word_counts.fit(texts, classes, analyzer, seconds)


RIVALS = Rivals(
    constants=commonest_class,
    always=always_class,
    named=always_named,
    fit=class_words,
    predict=WordCounts.predict,
    scores=class_scores,
    headline="accuracy",
)


# ---- files -------------------------------------------------------------------------------------------


def probability_columns(outcomes: Outcomes, group: np.ndarray, labels: LabelMapping) -> dict[str, pa.Array]:
    """What a file of texts holds of the probabilities of some rows, (G,) positions in the outcomes."""
    predicted, probabilities = outcomes.predicted[group], softmax(outcomes.logits[group])
    return columns_of_shares(probabilities, labels.names, lambda shares: _likeliest(shares, predicted))


def columns_of_shares(
    probabilities: np.ndarray, names: Sequence[str], likeliest: Callable[[np.ndarray], np.ndarray]
) -> dict[str, pa.Array]:
    """A column for each class or label; beyond `MOST_COLUMNS` those of the likeliest ones of a row, as lists.

    Args:
        probabilities: (G, C).
        names: (C,).
        likeliest: Probabilities -> the classes to show of each row, (G, `NUM_LIKELIEST`).
    """
    if len(names) <= MOST_COLUMNS:
        shares = probabilities.astype(np.float32)
        return {f"{PROBABILITY}{name}": pa.array(shares[:, c]) for c, name in enumerate(names)}
    best = likeliest(probabilities)
    offsets = pa.array(np.arange(len(best) + 1) * NUM_LIKELIEST, pa.int32())
    shown = pa.array(names, pa.string()).take(pa.array(best.ravel()))
    shares = np.take_along_axis(probabilities, best, 1).astype(np.float32).ravel()
    return {
        "likeliest": pa.ListArray.from_arrays(offsets, shown),
        "likeliest_probabilities": pa.ListArray.from_arrays(offsets, pa.array(shares)),
    }


def most_frequent(names: Sequence[str], counts: Sequence[int], nouns: tuple[str, str]) -> str:
    """The names with the most texts, as far as they have any, and how many others there are; "" for none.

    Args:
        names: As they are shown, (C,).
        counts: Texts of each, (C,).
        nouns: What they are: one, and several.
    """
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    shown = [f"{names[c]} {counts[c]:,}" for c in order[:MOST_NAMED] if counts[c]]
    if others := [counts[c] for c in order[MOST_NAMED:] if counts[c]]:
        shown.append(f"{len(others):,} other {nouns[len(others) > 1]} {sum(others):,}")
    return ", ".join(shown)


def _likeliest(probabilities: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The likeliest classes of each row, (G, 5), the predicted one first, however unlikely."""
    keys = -probabilities
    keys[np.arange(len(keys)), predicted] = -np.inf  # also among equal ones
    best = np.sort(np.argpartition(keys, NUM_LIKELIEST, axis=1)[:, :NUM_LIKELIEST], axis=1)
    order = np.argsort(np.take_along_axis(keys, best, 1), axis=1, kind="stable")
    return np.take_along_axis(best, order, 1)


class ClassAnswers:
    """What `predict` adds to a row: the class, the second one, and the probabilities.

    Args:
        model: The BertClassifier.
        everything: Whether to add the probabilities of all classes.

    Attributes:
        names: Of the columns; those before `cut` first.
        types: Of the columns, in a parquet file.
        num_fixed: How many stand before `cut`.
        counts: Texts of each class, (C,), and those below `UNSURE`: (C + 1,) int64.
    """

    def __init__(self, model: Any, everything: bool) -> None:
        labels: LabelMapping = model.labels
        more = labels.names if everything else ()
        self.names = (*PREDICTED, *(f"{PROBABILITY}{name}" for name in more))
        self.num_fixed = len(PREDICTED)
        self.types = (pa.string(), pa.float32(), pa.string(), pa.float32(), *[pa.float32()] * len(more))
        self.counts = np.zeros(len(labels.names) + 1, np.int64)
        self.everything = everything
        self._shown = labels.names
        self._names = np.array([*labels.names, None], dtype=object)[:-1]  # None: or numpy makes it text

    def columns(self, predicted: np.ndarray, probabilities: np.ndarray) -> list[np.ndarray]:
        """The columns, M values each, of classes (M,) int64 and probabilities (M, C) float32."""
        others = probabilities.copy()
        others[np.arange(len(predicted)), predicted] = -1
        second = others.argmax(-1)  # the likeliest of the others
        found = []
        for classes in (predicted, second):
            found += [self._names[classes], confidence_in(probabilities, classes)]
        return [*found, *(probabilities.T if self.everything else ())]

    def count(self, predicted: np.ndarray, probabilities: np.ndarray) -> None:
        """Add rows to `counts`."""
        self.counts[:-1] += np.bincount(predicted, minlength=len(self._shown))
        self.counts[-1] += int((confidence_in(probabilities, predicted) < UNSURE).sum())

    @staticmethod
    def joined(counts: np.ndarray) -> np.ndarray:
        """The `counts` of several processes (P, C + 1) as one."""
        return counts.sum(0)

    def summary(self) -> str:
        """One line: how many texts each class got, and of how many the model is unsure."""
        *counts, unsure = self.counts.tolist()
        named = most_frequent(list(map(shorten, self._shown)), counts, CLASSES)
        return f"{named or 'no texts'}; {unsure:,} of {sum(counts):,} below confidence {UNSURE}"
