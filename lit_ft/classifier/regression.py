"""What a fit measures, shows and writes of one number a text: a row of `kinds.KINDS`.

The model computes standardised numbers, z; people see z * deviation + mean, in float64. N rows of an
evaluation, G of a group, M of a piece of predictions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import MeanMetric

from lit_ft.classifier import word_counts
from lit_ft.classifier.baselines import Rivals
from lit_ft.classifier.metrics import KeptOutcomes, Outcomes
from lit_ft.classifier.slices import slices_of
from lit_ft.classifier.word_counts import WordCounts
from lit_ft.console import say
from lit_ft.data.numbers import NumberScale, number_text
from lit_ft.data.splits import Split
from lit_ft.data.text_columns import shown_texts
from lit_ft.errors import UserError, shorten
from lit_ft.models.blueprint import output_weights
from lit_ft.report import figures
from lit_ft.report.regression import gain_over, number_intervals, number_scores, summarise_numbers
from lit_ft.report.scores import decimals_of
from lit_ft.report.slices import Figures
from lit_ft.report.tables import number, table

OUTPUT = (".weight", ".bias")  # ends of the names of an output layer's weights


class RegressionMetrics(torch.nn.Module):
    """The metrics of one split, computed in float64 from the outcomes of its rows, one number each.

    Args:
        scale: The label object.
        prefix: The start of the tags: `val/` gives `val/mae`.
        clip: `model.clip`.
    """

    def __init__(self, scale: NumberScale, prefix: str, clip: Sequence[float] | None = None) -> None:
        super().__init__()
        self.scale = scale
        self.prefix = prefix
        self.clip = clip
        self.loss = MeanMetric()
        self.outcomes = KeptOutcomes()

    def update(
        self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> None:
        """Add a batch: its mean loss (), z (B, 1), standardised labels and positions in the table (B,)."""
        self.loss.update(loss, weight=len(labels))
        self.outcomes.update(logits, labels, index)

    def compute(self, temperature: float | None = None) -> tuple[dict[str, Any], None, Outcomes, None]:
        """The metrics of all batches so far, over all processes.

        Args:
            temperature: Has no meaning here.

        Returns:
            The scalars under their tags, None for the confusion matrix, the outcomes, None for a temperature.
        """
        found = self.outcomes.outcomes()
        predicted = clipped(self.scale.numbers(found.logits[:, 0]), self.clip)[0]
        found = Outcomes(found.logits, found.labels, predicted, found.index)
        scalars = {"loss": self.loss.compute(), **number_scores(self.scale.numbers(found.labels), predicted)}
        return {self.prefix + name: value for name, value in scalars.items()}, None, found, None

    def reset(self) -> None:
        """Forget all batches."""
        self.loss.reset()
        self.outcomes.reset()


def number_metrics(model: Any, prefix: str) -> RegressionMetrics:
    """The metrics of a split, whose tags begin with `val/` or `test/`."""
    return RegressionMetrics(model.labels, prefix, model.hparams["clip"])


def clipped(numbers: np.ndarray, bounds: Sequence[float] | None) -> tuple[np.ndarray, int]:
    """Numbers within the bounds of `model.clip`, (N,), and how many were not."""
    if bounds is None:
        return numbers, 0
    moved = np.clip(numbers, bounds[0], bounds[1])
    return moved, int((moved != numbers).sum())


def clipped_line(count: int, total: int, bounds: Sequence[float]) -> str:
    """How many predictions were clipped, in words."""
    span = f"{number_text(bounds[0])} to {number_text(bounds[1])}"
    return f"clipped: {count:,} of {total:,} predictions were outside {span} (model.clip)"


def undefined_figures(numbers: np.ndarray) -> tuple[str, ...]:
    """What has no value if all numbers, (N,), are the same."""
    return ("r2", "spearman") if len(np.unique(numbers)) < 2 else ()


def summary_of_numbers(model: Any, prefix: str, split: Split, with_intervals: bool = True) -> dict[str, Any]:
    """`regression.summarise_numbers` of an evaluation that has just ended.

    Args:
        model: The evaluated BertClassifier.
        prefix: `val` or `test`.
        split: The evaluated split.
        with_intervals: Whether to add `intervals`.
    """
    outcomes, scale, bounds = model.outcomes[prefix], model.labels, model.hparams["clip"]
    labels, predicted = split.labels_of(outcomes.index), outcomes.predicted
    count = clipped(scale.numbers(outcomes.logits[:, 0]), bounds)[1]
    if bounds is not None:
        say(clipped_line(count, len(labels), bounds))
    summary = summarise_numbers(labels, predicted, outcomes.index, split.rows.were_cut(outcomes.index), count)
    summary["outside"] = int(((labels < scale.low) | (labels > scale.high)).sum())
    if with_intervals and len(labels) > 1:  # no draw of a single text differs
        summary["intervals"] = number_intervals(labels, predicted, scale.deviation)
        if bounds is not None:  # the loss is of what the model computed
            del summary["intervals"]["scores"]["loss"]
        if split.slices:
            figures = slice_figures(labels, predicted, scale.deviation)
            good, headline = -np.abs(predicted - labels), ["mae", "r2", "spearman"]
            found = split, outcomes.index, figures, good, "mean absolute error", headline
            summary["slices"] = slices_of(*found)
    return summary


def slice_figures(labels: np.ndarray, predicted: np.ndarray, deviation: float) -> Figures:
    """What measures some rows of an evaluation: every figure with its interval."""

    def figures(rows: np.ndarray) -> dict[str, tuple[float, float, float]]:
        work = len(rows) / len(labels)  # all slices of a column take as long as the whole
        ends = number_intervals(labels[rows], predicted[rows], deviation, work)["scores"]
        values = number_scores(labels[rows], predicted[rows])
        values["loss"] = (values["rmse"] / deviation) ** 2
        return {name: (value, *ends[name]) for name, value in values.items()}

    return figures


def draw_numbers(
    writer: SummaryWriter,
    prefix: str,
    outcomes: Outcomes,
    summary: dict[str, Any],
    counts: None,
    names: Sequence[str],
    step: int,
) -> None:
    """Draw one evaluation.

    Args:
        writer: The run's event file.
        prefix: `val` or `test`.
        outcomes: The predictions.
        summary: `regression.summarise_numbers` of the outcomes.
        counts: None.
        names: The number's name.
        step: The step of the weights.
    """
    writer.add_figure(f"{prefix}/scatter", figures.scatter_figure({**summary, "names": names}), step)


def largest_errors(summary: dict[str, Any], split: Split, names: Sequence[str]) -> str:
    """The largest errors of a summary as a table for TensorBoard."""
    rows = [
        (shown_texts(split.texts[entry["index"]], 300), entry["label"], entry["predicted"])
        for entry in summary["mistakes"]
    ]
    return table(("text", "true", "predicted"), rows)


def trained_errors(model: Any, logits: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    """Of some training texts: the sum of the absolute errors."""
    return {"off": float((logits.float()[:, 0] - targets).abs().sum()) * model.labels.deviation}


def run_facts(labels: NumberScale) -> dict[str, Any]:
    """What `report.json` holds of the numbers of training."""
    known = {"mean": labels.mean, "deviation": labels.deviation, "low": labels.low, "high": labels.high}
    return {"numbers": known}


# ---- baselines ---------------------------------------------------------------------------------------


def constants_of(labels: NumberScale, numbers: np.ndarray) -> dict[str, dict[str, Any]]:
    """Of the training rows (N,): the numbers with the least absolute and the least squared error."""
    found = {"median": np.median(numbers), "mean": numbers.mean()}
    return {name: {"of": name, "value": float(value)} for name, value in found.items()}


def always_number(labels: NumberScale, value: dict[str, Any], num_rows: int) -> np.ndarray:
    """One number for all rows, (N,) float64."""
    return np.full(num_rows, float(value["value"]))


def named_number(labels: NumberScale, value: dict[str, Any]) -> str:
    """The number in a line."""
    return f"always the {value['of']} ({number_told(labels, value['value'])})"


def scores_beside(
    labels: NumberScale, given: np.ndarray, answers: np.ndarray, said: np.ndarray
) -> dict[str, Any]:
    """The figures of a baseline's answers, (N,) each.

    Returns:
        `mae` and so on, and the `gain`: how much less the model is off on average, with its 95 % interval.
    """
    return {**number_scores(given, answers), "gain": list(gain_over(given, said, answers))}


def number_told(labels: NumberScale, value: float) -> str:
    """An error with the decimal places that the numbers need."""
    return number(value, decimals_of(labels.deviation))


RIVALS = Rivals(
    constants=constants_of,
    always=always_number,
    named=named_number,
    fit=word_counts.fit_numbers,
    predict=WordCounts.numbers,
    scores=scores_beside,
    headline="mae",
    told=number_told,
)


# ---- files -------------------------------------------------------------------------------------------


def error_columns(outcomes: Outcomes, group: np.ndarray, labels: NumberScale) -> dict[str, pa.Array]:
    """What a file of texts holds of some rows, (G,) positions in the outcomes: prediction minus label."""
    errors = outcomes.predicted[group] - labels.numbers(outcomes.labels[group])
    return {"error": pa.array(errors, pa.float64())}


class NumberAnswers:
    """What `predict` adds to a row: the number.

    Args:
        model: The BertClassifier.
        everything: Has no meaning here: there are no probabilities.

    Attributes:
        names: Of the columns.
        types: Of the columns, in a parquet file.
        num_fixed: How many stand before `cut`.
        counts: Texts, those whose number was clipped, their sum, the lowest, the highest: (5,) float64.
    """

    names, types, num_fixed = ("predicted",), (pa.float64(),), 1

    def __init__(self, model: Any, everything: bool) -> None:
        self.scale: NumberScale = model.labels
        self.bounds: Sequence[float] | None = model.hparams["clip"]
        self.counts = np.array([0, 0, 0, np.inf, -np.inf])

    def columns(self, predicted: np.ndarray, outputs: np.ndarray) -> list[np.ndarray]:
        """The column of numbers (M,) float64, of outputs (M, 1) float32; `predicted` are these, too."""
        return [clipped(self.scale.numbers(outputs[:, 0]), self.bounds)[0]]

    def count(self, predicted: np.ndarray, outputs: np.ndarray) -> None:
        """Add rows to `counts`."""
        numbers, moved = clipped(self.scale.numbers(outputs[:, 0]), self.bounds)
        if len(numbers):
            ends = numbers.min(), numbers.max()
            self.counts = self.joined(np.array([self.counts, [len(numbers), moved, numbers.sum(), *ends]]))

    @staticmethod
    def joined(counts: np.ndarray) -> np.ndarray:
        """The `counts` of several processes (P, 5) as one."""
        return np.array([*counts[:, :3].sum(0), counts[:, 3].min(), counts[:, 4].max()])

    def summary(self) -> str:
        """One line: the range and the mean."""
        rows, moved, total, low, high = self.counts.tolist()
        if not rows:
            return "no texts"
        line = (
            f"'{shorten(self.scale.name)}' of {rows:,.0f} texts, {number_text(low)} to {number_text(high)}, "
            f"mean {number_text(total / rows)}; training had {self.scale.span}, mean "
            f"{number_text(self.scale.mean)}"
        )
        return line if self.bounds is None else f"{line}; {clipped_line(int(moved), int(rows), self.bounds)}"


# ---- the exported model ------------------------------------------------------------------------------


def check_outputs(config: Any, name: str) -> None:
    """Refuse a model to whose outputs no mean can be added; loads no weights.

    Args:
        config: The model's config, with one label.
        name: The model's name.

    Raises:
        UserError: Its output layer is not one weight and one bias.
    """
    found = output_weights(config)
    if found and sorted(end[end.rfind(".") :] for end in found) != sorted(OUTPUT):
        raise UserError(
            f"expected a {config.model_type} model whose output layer has a weight and a bias, as the bias "
            f"takes the numbers' mean (data.task=regression), found {', '.join(found)} in {name}; set "
            "--model.pretrained to another model, such as a BERT"
        )


def in_own_unit(
    labels: NumberScale, config: Any, weights: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The weights of a model that computes numbers in their own unit: the scale is in its output layer.

    z * deviation + mean = h (w * deviation) + (b * deviation + mean), computed in float64.

    Args:
        labels: The scale.
        config: The model's config.
        weights: The weights of the standardised model; not changed.
    """
    found = dict(weights)
    for name in output_weights(config):
        value = weights[name].double() * labels.deviation
        value = value + labels.mean if name.endswith(OUTPUT[1]) else value
        found[name] = value.to(weights[name].dtype)
    return found
