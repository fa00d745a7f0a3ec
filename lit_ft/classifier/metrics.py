"""The metrics of a classifier, as streaming torchmetrics.

B rows per batch, N rows of a split, C classes. Every metric has a row in `report/scores.py`.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torchmetrics import MeanAbsoluteError, MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassF1Score,
)

from lit_ft.report import intervals
from lit_ft.report.analysis import (
    CALIBRATION_BINS,
    calibration_error,
    count_confusions,
    fit_temperature,
    reliability,
    softmax,
)
from lit_ft.tasks import Decision, decided


@dataclass(frozen=True)
class Outcomes:
    """What the model predicted for each row of a split, in the order of `index`.

    Attributes:
        logits: (N, C) float32.
        labels: (N,) int64.
        predicted: The class that `model.decide` gives, (N,) int64.
        index: The position of each row in its table, (N,) int64.
    """

    logits: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    index: np.ndarray


class KeptOutcomes(Metric):
    """Keeps C floats and two integers per row, over all processes; no texts and no token-level outputs."""

    full_state_update = False
    logits: Any  # lists of tensors; a tensor each after they were gathered
    labels: Any
    index: Any

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "labels", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor) -> None:
        """Add a batch: (B, C), (B,) int64, (B,) int64."""
        self.logits.append(logits.detach().float())
        self.labels.append(labels)
        self.index.append(index)

    def compute(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (N, C), labels (N,) and index (N,) in the order of the rows, not of the batches."""
        logits, labels, index = (
            torch.cat(values) if isinstance(values, list) else values  # tensors once they were gathered
            for values in (self.logits, self.labels, self.index)
        )
        order = index.argsort(stable=True)
        return logits[order], labels[order], index[order]

    def outcomes(self) -> Outcomes:
        """The same as arrays, the likeliest class as predicted.

        Of a single row torchmetrics squeezes the dimensions away.
        """
        logits, labels, index = (values.cpu() for values in self.compute())
        logits = logits.reshape(index.numel(), -1)
        predicted = logits.softmax(-1).argmax(-1)  # the first of equal ones, as the metrics do
        return Outcomes(
            logits.numpy(), labels.reshape(-1).numpy(), predicted.numpy(), index.reshape(-1).numpy()
        )


class StarsError(MeanAbsoluteError):
    """Mean absolute distance, in classes, between the likeliest class and the label."""

    def update(self, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        """Add probabilities (B, C) float and labels (B,) int64."""
        super().update(probabilities.argmax(-1).float(), labels.float())


class ClassifierMetrics(torch.nn.Module):
    """The metrics of one split.

    Args:
        num_labels: C.
        prefix: The start of the tags: `val/` gives `val/accuracy`.
        ordered: Whether the classes have an order, as whole numbers do; if not, there is no MAE or kappa.
        decide: How a class is chosen; every figure but the loss is of these choices.
    """

    def __init__(self, num_labels: int, prefix: str, ordered: bool = True, decide: Decision = "mode") -> None:
        super().__init__()
        self.num_labels = num_labels
        self.prefix = prefix
        self.ordered = ordered
        self.decide = decide
        self.loss = MeanMetric()
        metrics: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(num_labels, average="micro", validate_args=False),
            "macro_f1": MulticlassF1Score(num_labels, average="macro", validate_args=False),
            "ece": MulticlassCalibrationError(
                num_labels, n_bins=CALIBRATION_BINS, norm="l1", validate_args=False
            ),
        }
        if ordered:
            metrics["kappa"] = MulticlassCohenKappa(num_labels, weights="quadratic", validate_args=False)
            metrics["mae"] = StarsError()
        self.scores = MetricCollection(metrics)
        self.outcomes = KeptOutcomes()

    def update(
        self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, index: torch.Tensor
    ) -> None:
        """Add a batch: its mean loss (), logits (B, C), labels and positions in the table (B,) int64."""
        probabilities = logits.float().softmax(-1)
        self.loss.update(loss, weight=len(labels))
        self.scores.update(probabilities, labels)
        self.outcomes.update(logits, labels, index)

    def compute(
        self, temperature: float | None = None
    ) -> tuple[dict[str, Any], list[list[int]] | None, Outcomes, float]:
        """The metrics of all batches so far, over all processes.

        Args:
            temperature: The temperature to calibrate with; None fits it on these rows (of validation).

        Returns:
            The scalars under their tags, the confusion matrix (C true, C predicted; None if there are too
            many classes), the outcomes and the temperature.
        """
        outcomes = self.outcomes.outcomes()
        if temperature is None:
            temperature = fit_temperature(outcomes.logits, outcomes.labels)
        calibrated, scores = softmax(outcomes.logits, temperature), self.scores.compute()
        if self.decide != "mode":  # by the temperature, which is known only now
            outcomes = replace(outcomes, predicted=decided(calibrated, self.decide))
            scores |= self._of_predicted(outcomes)
        bins = reliability(calibrated, outcomes.labels, outcomes.predicted)
        scalars: dict[str, Any] = {
            "loss": self.loss.compute(),
            **scores,
            "ece_calibrated": calibration_error(bins),
            "temperature": temperature,
        }
        right = int((outcomes.predicted == outcomes.labels).sum())
        ends = intervals.of_accuracy(right, len(outcomes.labels))
        scalars |= {"accuracy_low": ends.low, "accuracy_high": ends.high}
        tags = {self.prefix + name: value for name, value in scalars.items()}
        matrix = count_confusions(outcomes.labels, outcomes.predicted, self.num_labels)
        return tags, matrix, outcomes, temperature

    def _of_predicted(self, outcomes: Outcomes) -> dict[str, float]:
        """The scores of predictions other than the likeliest class."""
        answers = outcomes.labels, outcomes.predicted
        bins = reliability(softmax(outcomes.logits), *answers)
        ece = calibration_error(bins)
        return {**intervals.scores_of(*answers, self.num_labels, self.ordered), "ece": ece}

    def reset(self) -> None:
        """Forget all batches."""
        self.loss.reset()
        self.scores.reset()
        self.outcomes.reset()
