"""What differs by the kind of label in a fit: one row for each kind of report."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lit_ft.classifier import single_label
from lit_ft.classifier.baselines import Rivals
from lit_ft.classifier.metrics import Outcomes


@dataclass(frozen=True)
class Kind:
    """The functions of one kind.

    Attributes:
        metrics: The label object, the start of the tags, such as `val/`, and `model.decide` -> the metrics of
            a split.
        summarise: Model, prefix, split, whether to add intervals -> an evaluation for `report.json`.
        draw: Writer, prefix, outcomes, summary, confusion matrix, names and step: draws for TensorBoard.
        worst: Summary, split and names -> its worst mistakes as a table for TensorBoard.
        columns: Outcomes, positions in them (G,) and names -> what a file of texts holds beside the answer.
        answers: The label object and whether to add every probability -> what `predict` adds to a row.
        rivals: What it is compared with.
    """

    metrics: Callable[[Any, str, Any], Any]
    summarise: Callable[..., dict[str, Any]]
    draw: Callable[..., None]
    worst: Callable[..., str]
    columns: Callable[[Outcomes, np.ndarray, list[str]], dict[str, pa.Array]]
    answers: Callable[[Any, bool], Any]
    rivals: Rivals


# To add a kind of label, write its task (tasks.py), its label object (data/targets.py) and a row here.
KINDS = {
    "classifier": Kind(
        metrics=single_label.metrics_of,
        summarise=single_label.summary_of,
        draw=single_label.draw_evaluation,
        worst=single_label.worst_table,
        columns=single_label.probability_columns,
        answers=single_label.ClassAnswers,
        rivals=single_label.RIVALS,
    ),
}
