"""What a classifier is measured by: torchmetrics, streaming. B rows, C classes."""

from typing import Any

import torch
from torchmetrics import MeanAbsoluteError, MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassCohenKappa,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
)

SCALARS = ("loss", "accuracy", "macro_f1", "mae", "kappa", "ece")  # in the order in which they are shown
CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2


class StarsError(MeanAbsoluteError):
    """Mean absolute distance, in classes, between the likeliest class and the label."""

    def update(self, probabilities: torch.Tensor, labels: torch.Tensor) -> None:
        """Take up probabilities (B, C) float and labels (B,) int64."""
        super().update(probabilities.argmax(-1).float(), labels.float())


class ClassifierMetrics(torch.nn.Module):
    """The metrics of one split.

    Args:
        num_labels: C.
        prefix: Tags start with it: `val/` gives `val/accuracy`.
    """

    def __init__(self, num_labels: int, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix
        self.loss = MeanMetric()
        metrics: dict[str, Metric | MetricCollection] = {
            "accuracy": MulticlassAccuracy(num_labels, average="micro", validate_args=False),
            "macro_f1": MulticlassF1Score(num_labels, average="macro", validate_args=False),
            "kappa": MulticlassCohenKappa(num_labels, weights="quadratic", validate_args=False),
            "mae": StarsError(),
            "ece": MulticlassCalibrationError(
                num_labels, n_bins=CALIBRATION_BINS, norm="l1", validate_args=False
            ),
        }
        self.scores = MetricCollection(metrics)
        self.confusion = MulticlassConfusionMatrix(num_labels, validate_args=False)

    def update(self, loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Take up a batch: its mean loss (), logits (B, C), labels (B,) int64."""
        probabilities = logits.float().softmax(-1)
        self.loss.update(loss, weight=len(labels))
        self.scores.update(probabilities, labels)
        self.confusion.update(probabilities, labels)

    def compute(self) -> tuple[dict[str, torch.Tensor], list[list[int]]]:
        """The scalars under their tags, over all processes; the confusion matrix (C true, C predicted)."""
        scalars: dict[str, Any] = {"loss": self.loss.compute(), **self.scores.compute()}
        return {
            self.prefix + name: value for name, value in scalars.items()
        }, self.confusion.compute().tolist()

    def reset(self) -> None:
        """Forget everything taken up."""
        self.loss.reset()
        self.scores.reset()
        self.confusion.reset()
