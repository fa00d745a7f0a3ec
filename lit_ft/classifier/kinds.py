"""What differs by the kind of label in a fit: one row for each kind of report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lit_ft.classifier import regression, single_label
from lit_ft.classifier.baselines import Rivals
from lit_ft.classifier.metrics import Outcomes
from lit_ft.report.number_pairs import read_numbers
from lit_ft.report.pairs import read_per_text


@dataclass(frozen=True)
class Kind:
    """The functions of one kind.

    Attributes:
        metrics: The model and the start of the tags, such as `val/` -> the metrics of a split.
        summarise: Model, prefix, split, whether to add intervals -> an evaluation for `report.json`.
        draw: Writer, prefix, outcomes, summary, confusion matrix, names and step: draws for TensorBoard.
        worst: Summary, split and names -> its worst mistakes as a table for TensorBoard.
        columns: Outcomes, positions in them (G,), label object -> what a file of texts holds beside answers.
        answers: The model and whether to add every probability -> what `predict` adds to a row.
        rivals: What it is compared with.
        read: Run folder, prefix and metrics -> what the file of texts says, or why that is not known.
        trained: The model, logits and targets -> what is counted of a sample of the training texts.
        facts: The label object -> what `report.json` holds of it beside its names.
        exported: Label object, config and weights -> the weights in `model/`.
        calibrates: Whether its probabilities have a temperature.
        undefined: The labels of an evaluation, (N, ...) -> names of figures that they leave undefined.
        check: Config and name of a model -> raises if it cannot be used. Loads no weights.
    """

    metrics: Callable[[Any, str], Any]
    summarise: Callable[..., dict[str, Any]]
    draw: Callable[..., None]
    worst: Callable[..., str]
    columns: Callable[[Outcomes, np.ndarray, Any], dict[str, pa.Array]]
    answers: Callable[[Any, bool], Any]
    rivals: Rivals
    read: Callable[[Path, str, dict[str, Any]], Any]
    trained: Callable[..., dict[str, Any]]
    facts: Callable[[Any], dict[str, Any]] = lambda labels: {}
    exported: Callable[..., dict[str, torch.Tensor]] = lambda labels, config, weights: weights
    calibrates: bool = True
    undefined: Callable[[np.ndarray], tuple[str, ...]] = lambda labels: ()
    check: Callable[[Any, str], None] = lambda config, name: None


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
        read=read_per_text,
        trained=single_label.trained_counts,
    ),
    "regression": Kind(
        metrics=regression.number_metrics,
        summarise=regression.summary_of_numbers,
        draw=regression.draw_numbers,
        worst=regression.largest_errors,
        columns=regression.error_columns,
        answers=regression.NumberAnswers,
        rivals=regression.RIVALS,
        read=read_numbers,
        trained=regression.trained_errors,
        facts=regression.run_facts,
        exported=regression.in_own_unit,
        calibrates=False,
        undefined=regression.undefined_figures,
        check=regression.check_outputs,
    ),
}
