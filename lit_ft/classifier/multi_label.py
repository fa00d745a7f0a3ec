"""What a fit measures, shows and writes of any number of labels a text: a row of `kinds.KINDS`.

N rows of an evaluation, G of a group, M of a piece of predictions, B of a batch, C labels.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import MeanMetric

from lit_ft.classifier import word_counts
from lit_ft.classifier.baselines import Rivals
from lit_ft.classifier.metrics import KeptOutcomes, Outcomes
from lit_ft.classifier.prediction_files import PREDICTION, PROBABILITY
from lit_ft.classifier.single_label import MOST_CURVES, NUM_LIKELIEST, columns_of_shares, most_frequent
from lit_ft.classifier.slices import slices_of
from lit_ft.classifier.word_counts import WordCounts
from lit_ft.data.splits import Split
from lit_ft.data.tags import TagMapping
from lit_ft.data.text_columns import shown_texts
from lit_ft.errors import one_line, shorten
from lit_ft.report import figures
from lit_ft.report.findings import LABELS
from lit_ft.report.intervals import ends_of
from lit_ft.report.multi_label import (
    CHOSEN,
    HALF,
    choose_thresholds,
    count_labels,
    figures_of_tags,
    scores_of_tags,
    sigmoid,
    summarise_tags,
    tag_differences,
    tag_intervals,
)
from lit_ft.report.tables import table

OF_SLICES = [f"{name}{CHOSEN}" for name in ("micro_f1", "macro_f1", "subset_accuracy")]


class TagMetrics(torch.nn.Module):
    """The metrics of one split.

    Args:
        model: The BertClassifier.
        prefix: The start of the tags: `val/` gives `val/micro_f1`.
    """

    def __init__(self, model: Any, prefix: str) -> None:
        super().__init__()
        self.labels: TagMapping = model.labels
        self.prefix = prefix
        self.loss = MeanMetric()
        self.outcomes = KeptOutcomes()

    def update(
        self, loss: torch.Tensor, logits: torch.Tensor, targets: torch.Tensor, index: torch.Tensor
    ) -> None:
        """Add a batch: its mean loss (), logits and targets (B, C), positions in the table (B,) int64."""
        self.loss.update(loss, weight=len(targets))
        self.outcomes.update(logits, targets > HALF, index)

    def compute(
        self, thresholds: list[float] | None = None
    ) -> tuple[dict[str, Any], None, Outcomes, list[float]]:
        """The metrics of all batches so far, over all processes.

        Args:
            thresholds: Of each label; None chooses them on these rows (of validation), unless one is set.

        Returns:
            The scalars under their tags, no confusion matrix, the outcomes and the thresholds.
        """
        logits, tags, index = (values.cpu() for values in self.outcomes.compute())
        shape = index.numel(), len(self.labels.names)  # of a single row torchmetrics squeezes them away
        found, given = logits.reshape(shape).numpy(), tags.reshape(shape).numpy()
        probabilities = sigmoid(found)
        if thresholds is None:
            thresholds = choose_thresholds(probabilities, given)
        thresholds = thresholds_of(self.labels, thresholds)
        said = self.labels.task.decide(probabilities, np.array(thresholds))
        scalars = {"loss": self.loss.compute(), **figures_of_tags(probabilities, given, said)}
        tagged = {self.prefix + name: value for name, value in scalars.items()}
        return tagged, None, Outcomes(found, given, said, index.reshape(-1).numpy()), thresholds

    def reset(self) -> None:
        """Forget all batches."""
        self.loss.reset()
        self.outcomes.reset()


def thresholds_of(labels: TagMapping, chosen: list[float] | None = None) -> list[float]:
    """The threshold of each label: `data.threshold`, else those that validation chose, else 0.5."""
    one = [labels.threshold or HALF] * len(labels.names)
    return one if labels.threshold or chosen is None else chosen


def thresholds_now(model: Any) -> np.ndarray:
    """The threshold of each label with the model's weights of this moment, (C,)."""
    return np.array(thresholds_of(model.labels, model.thresholds))


def tag_settings(model: Any, chosen: list[float] | None) -> dict[str, Any]:
    """What an exported config says of the answers."""
    return {"thresholds": thresholds_of(model.labels, chosen)}


def trained_tags(model: Any, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, int]:
    """Of some training texts: how many get just their labels at 0.5."""
    return {"right": int(((logits >= 0) == (targets > HALF)).all(-1).sum())}


def answer_at_half(outcomes: Outcomes) -> np.ndarray:
    """What the model says at 0.5, (N, C) bool: what baselines are compared with, which have no others."""
    return outcomes.logits >= 0


def summary_of_tags(model: Any, prefix: str, split: Split, with_intervals: bool = True) -> dict[str, Any]:
    """`multi_label.summarise_tags` of an evaluation that has just ended.

    Args:
        model: The evaluated BertClassifier.
        prefix: `val` or `test`.
        split: The evaluated split.
        with_intervals: Whether to add `intervals`.
    """
    outcomes: Outcomes = model.outcomes[prefix]
    thresholds = thresholds_of(model.labels, model.thresholds)
    probabilities = sigmoid(outcomes.logits)
    losses = model.task.row_losses(outcomes.logits, outcomes.labels)
    found = probabilities, outcomes.labels, outcomes.predicted, losses
    summary = summarise_tags(*found, outcomes.index, thresholds, split.rows.were_cut(outcomes.index))
    summary["fitted_here"] = prefix == "val" and model.labels.threshold is None
    if with_intervals:
        summary["intervals"] = tag_intervals(*found)
        if split.slices:

            def figures_of(rows: np.ndarray) -> dict[str, tuple[float, float, float]]:
                part = tuple(values[rows] for values in found)
                values = {**figures_of_tags(*part[:3]), "loss": float(part[3].mean())}
                ends = tag_intervals(*part)["scores"]
                return {name: (value, *ends[name]) for name, value in values.items() if name in ends}

            right = (outcomes.predicted == outcomes.labels).all(1)
            measure = "share of texts with all labels right"
            summary["slices"] = slices_of(split, outcomes.index, figures_of, right, measure, OF_SLICES)
    return summary


def draw_tags(
    writer: SummaryWriter,
    prefix: str,
    outcomes: Outcomes,
    summary: dict[str, Any],
    counts: None,
    names: Sequence[str],
    step: int,
) -> None:
    """Draw one evaluation: precision, recall and F1 of each label, and curves of the weakest.

    Args:
        writer: The run's event file.
        prefix: `val` or `test`.
        outcomes: The predictions.
        summary: `multi_label.summarise_tags` of the outcomes.
        counts: There is no confusion matrix.
        names: The display names of the labels, (C,).
        step: The step of the weights.
    """
    evaluation = {"class_counts": summary["class_counts"], "names": names}
    writer.add_figure(f"{prefix}/classes", figures.class_bars(evaluation), step)
    probabilities = sigmoid(outcomes.logits)
    for c in figures.weakest(summary["class_counts"], MOST_CURVES):
        writer.add_pr_curve(f"{prefix}/pr/{names[c]}", outcomes.labels[:, c], probabilities[:, c], step)


def worst_tags(summary: dict[str, Any], split: Split, names: Sequence[str]) -> str:
    """The worst mistakes of a summary as a table for TensorBoard."""

    def listed(found: Sequence[Sequence[float]]) -> str:
        return ", ".join(f"{names[int(c)]} {share:.2f}" for c, share in found)

    rows = [
        (
            shown_texts(split.texts[entry["index"]], 300),
            ", ".join(names[c] for c in entry["right"]),
            listed(entry["missed"]),
            listed(entry["wrong"]),
        )
        for entry in summary["mistakes"]
    ]
    return table(("text", "right", "missed", "wrongly given"), rows)


# ---- baselines ---------------------------------------------------------------------------------------


def commonest_set(labels: TagMapping, tags: np.ndarray) -> dict[str, dict[str, Any]]:
    """The set of labels that most training rows have, perhaps the empty one, and its share of them."""
    sets, counts = np.unique(tags, axis=0, return_counts=True)
    most = np.flatnonzero(sets[np.argmax(counts)]).tolist()
    return {"commonest": {"labels": most, "share": int(counts.max()) / len(tags)}}


def always_set(labels: TagMapping, value: dict[str, Any], num_rows: int) -> np.ndarray:
    """One set of labels for all rows, (N, C) bool.

    Raises:
        IndexError: There is no such label.
    """
    answers = np.zeros((num_rows, len(labels.names)), bool)
    answers[:, value["labels"]] = True
    return answers


def set_named(labels: TagMapping, value: dict[str, Any]) -> str:
    """The set in a line."""
    return "always " + (
        ", ".join(f"'{shorten(one_line(labels.names[c]))}'" for c in value["labels"]) or "no label"
    )


def tags_by_words(words: WordCounts, texts: Iterable[str]) -> np.ndarray:
    """The labels of texts by word counts, from 0.5 on, (N, C) bool."""
    found = [scores >= 0 for scores in words.scores(texts)]
    return np.concatenate(found) if found else np.zeros((0, len(words.classes)), bool)


def tag_scores(
    labels: TagMapping, given: np.ndarray, answers: np.ndarray, said: np.ndarray
) -> dict[str, Any]:
    """The figures of a baseline's labels, (N, C) bool each, and by how much micro F1 of the model is higher.

    Returns:
        `micro_f1`, `macro_f1`, `subset_accuracy`, `class_counts`, and `model_better_by`: the difference of
        micro F1, at 0.5 both, and the ends of its 95 % interval.
    """
    difference, draws = tag_differences(given, answers, said)["micro_f1"]
    ends = ends_of(draws)
    found = {**scores_of_tags(given, answers), "class_counts": count_labels(given, answers)}
    return {**found, "model_better_by": [difference, ends.low, ends.high]}


RIVALS = Rivals(
    constants=commonest_set,
    always=always_set,
    named=set_named,
    fit=word_counts.fit_labels,
    predict=tags_by_words,
    scores=tag_scores,
    headline="micro_f1",
)


# ---- files -------------------------------------------------------------------------------------------


def tag_columns(outcomes: Outcomes, group: np.ndarray, labels: TagMapping) -> dict[str, pa.Array]:
    """What a file of texts holds of the probabilities of some rows, (G,) positions in the outcomes."""
    shares = sigmoid(outcomes.logits[group]).astype(np.float32)

    def likeliest(shares: np.ndarray) -> np.ndarray:
        return np.argsort(-shares, axis=1, kind="stable")[:, :NUM_LIKELIEST]

    return columns_of_shares(shares, labels.names, likeliest)


class Joined(list[str]):
    """A row's labels: a list where a format has lists, else joined by a separator."""

    separator = ";"

    def __str__(self) -> str:
        return self.separator.join(self)


class TagAnswers:
    """What `predict` adds to a row: its labels, and the probabilities.

    Args:
        model: The BertClassifier.
        everything: Whether to add the probabilities of all labels.

    Attributes:
        names: Of the columns.
        types: Of the columns, in a parquet file.
        num_fixed: How many stand before `cut`.
        counts: Texts of each label, (C,), those without a label, and all: (C + 2,) int64.
    """

    def __init__(self, model: Any, everything: bool) -> None:
        labels: TagMapping = model.labels
        more = labels.names if everything else ()
        self.names = (*PREDICTION, *(f"{PROBABILITY}{name}" for name in more))
        self.types = (pa.list_(pa.string()), *[pa.float32()] * len(more))
        self.num_fixed = len(PREDICTION)
        self.counts = np.zeros(len(labels.names) + 2, np.int64)
        self.everything = everything
        self._shown = labels.names
        self._separator = labels.separator
        self._row: type[Joined] = type("Joined", (Joined,), {"separator": labels.separator})

    def columns(self, predicted: np.ndarray, probabilities: np.ndarray) -> list[np.ndarray]:
        """The columns, M values each, of labels (M, C) bool and probabilities (M, C) float32."""
        found = np.empty(len(probabilities), dtype=object)
        for i in range(len(probabilities)):
            found[i] = self._row(self._shown[c] for c in np.flatnonzero(predicted[i]))
        return [found, *(probabilities.T if self.everything else ())]

    def count(self, predicted: np.ndarray, probabilities: np.ndarray) -> None:
        """Add rows to `counts`."""
        if len(predicted):
            self.counts += np.array([*predicted.sum(0), (~predicted.any(1)).sum(), len(predicted)])

    @staticmethod
    def joined(counts: np.ndarray) -> np.ndarray:
        """The counts of all processes, (P, C + 2), as one."""
        return counts.sum(0)

    def summary(self) -> str:
        """One line: how many texts got each label, and how many got none."""
        *counts, without, total = self.counts.tolist()
        named = most_frequent([shorten(one_line(name)) for name in self._shown], counts, LABELS)
        separator = self._separator
        unclear = [name for name in self._shown if separator in name]
        note = (
            f"; the label {shorten(one_line(unclear[0]))!r} holds {separator!r}, which joins labels in a .csv"
            if unclear
            else ""
        )
        return f"{named or 'no label'}; {without:,} of {total:,} without a label{note}"
