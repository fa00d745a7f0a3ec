"""What differs by the kind of label in a fit: one row for each kind of report."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lit_ft.classifier import multi_label, regression, single_label
from lit_ft.classifier.baselines import Rivals
from lit_ft.classifier.metrics import Outcomes
from lit_ft.report.number_pairs import read_numbers
from lit_ft.report.pairs import read_per_text
from lit_ft.report.tag_pairs import read_at_half


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
        uncalibrated: Why there is no `--calibrate`; "" if there is.
        undefined: The labels of an evaluation, (N, ...) -> names of figures that they leave undefined.
        check: Config and name of a model -> raises if it cannot be used. Loads no weights.
        answer: Outcomes -> what the model says, beside the rivals.
        fitted: The model's attribute that each validation fits, and a checkpoint keeps.
        holding: The label object, and perhaps what was fitted -> what holds.
        rule: The model -> what the task's `decide` goes by.
        settings: The model, and what was fitted -> what the exported config says of the answers.
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
    uncalibrated: str = ""
    undefined: Callable[[np.ndarray], tuple[str, ...]] = lambda labels: ()
    check: Callable[[Any, str], None] = lambda config, name: None
    answer: Callable[[Outcomes], np.ndarray] = lambda outcomes: outcomes.predicted
    fitted: str = "temperature"
    holding: Callable[..., Any] = lambda labels, fitted=None: fitted or 1.0
    rule: Callable[[Any], Any] = lambda model: None
    settings: Callable[[Any, Any], dict[str, Any]] = lambda model, fitted: {}


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
        rule=single_label.decision_of,
        settings=single_label.class_settings,
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
        uncalibrated="is about probabilities, and there are none",
        undefined=regression.undefined_figures,
        check=regression.check_outputs,
    ),
    "multi_label": Kind(
        metrics=multi_label.TagMetrics,
        summarise=multi_label.summary_of_tags,
        draw=multi_label.draw_tags,
        worst=multi_label.worst_tags,
        columns=multi_label.tag_columns,
        answers=multi_label.TagAnswers,
        rivals=multi_label.RIVALS,
        read=read_at_half,
        trained=multi_label.trained_tags,
        facts=lambda labels: {"threshold": labels.threshold},
        uncalibrated="needs a temperature, and there is none",
        answer=multi_label.answer_at_half,
        fitted="thresholds",
        holding=multi_label.thresholds_of,
        rule=multi_label.thresholds_now,
        settings=multi_label.tag_settings,
    ),
}
