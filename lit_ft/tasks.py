"""What a kind of label means: its targets, losses, probabilities and decisions. Read from top to bottom.

A kind is one `Task`, and its instances are at the end. Nothing else compares their names: other modules use
what a task or its label object (`data/targets.py`) gives, or look up what they have for each kind of report.

B rows of a batch, N rows of a split, C classes or labels, K outputs of the model: C, or 1 for a number.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Reduction = Literal["mean", "sum"]
Decision = Literal["mode", "median", "mean"]
# Logits (B, K), targets, weights (C,) or None, label smoothing, reduction -> (). `mean` divides by the weight
# of the rows, `sum` leaves that to the caller.
Loss = Callable[["Tensor", "Tensor", "Tensor | None", float, Reduction], "Tensor"]


@dataclass(frozen=True)
class Task:
    """One kind of label.

    Attributes:
        name: The value of `data.task`.
        report: The kind of its reports: the scores, findings, page and card that it has.
        problem_type: Its name in transformers, which an exported config holds and a `pipeline` goes by.
        words: What a text has, for messages.
        losses: The values of `model.loss`, the default first. It measures evaluations, without weights and
            smoothing, so that runs stay comparable.
        smooths: Whether label smoothing means something.
        weighted: Whether there are classes that can be weighted.
        keeps_head: Whether the head of a folder can be kept; a number's is on a scale of its own.
        clips: Whether answers are numbers, which can be kept within bounds.
        balanced: Texts of each class (C,) and of all -> weights (C,) under which all classes count the same.
        row_weights: Targets and weights (C,) -> what each row weighs in a mean, (B,); None if all weigh 1.
        row_losses: Logits (N, K) and targets -> the loss of each row, (N,) float64, without weights.
        probabilities: Logits (B, K) -> probabilities (B, K); of a number the logits themselves.
        decide: Probabilities (N, K) and a rule -> what the model answers.
        decisions: The values of `model.decide` in words, the default first; the others need an order. None if
            there is nothing to choose.
    """

    name: str
    report: str
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"]
    words: str
    losses: Mapping[str, Loss]
    smooths: bool
    weighted: bool
    keeps_head: bool
    clips: bool
    balanced: Callable[[np.ndarray, int], np.ndarray]
    row_weights: Callable[["Tensor", "Tensor"], "Tensor | None"]
    row_losses: Callable[[np.ndarray, np.ndarray], np.ndarray]
    probabilities: Callable[["Tensor"], "Tensor"]
    decide: Callable[[np.ndarray, Any], np.ndarray]
    decisions: Mapping[Decision, str]

    @property
    def loss(self) -> Loss:
        """The default loss, by which evaluations are measured."""
        return next(iter(self.losses.values()))


# ---- one class a text: targets (B,) int64 ---------------------------------------------------------


def cross_entropy(
    logits: "Tensor", labels: "Tensor", weights: "Tensor | None", smoothing: float, reduction: Reduction
) -> "Tensor":
    """The loss () of a batch, each row weighted by its own label's class:

        loss = sum_i w[y_i] * CE(z_i, q_i) / sum_i w[y_i],   q_i = (1 - eps) * onehot(y_i) + eps / C

    the weighted empirical risk (King and Zeng 2001, "Logistic Regression in Rare Events Data", on weighting)
    over smoothed labels (Szegedy et al. 2016, "Rethinking the Inception Architecture", section 7). torch 2.13
    (nn.CrossEntropyLoss) with both arguments weights the smoothed part by each class's weight instead, so
    every row pulls towards the rarest class: with a class of 3 % of the rows, balanced weights and eps = 0.1,
    all rows were predicted to be of that class.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        weights: The weight of each class, (C,); None weights all rows the same.
        smoothing: eps, the share of a label's probability that is spread over all classes.
        reduction: `sum` skips the division, if the caller divides by something else than this batch's weight.
    """
    from torch.nn import functional as F

    if weights is None:
        return F.cross_entropy(logits, labels, reduction=reduction, label_smoothing=smoothing)
    own = weights[labels]  # (B,)
    weightless = (own.sum() == 0).to(weights.dtype)  # only rows of weight 0: a loss of 0, not 0 / 0
    if smoothing == 0:
        return F.cross_entropy(logits, labels, weights + weightless, reduction=reduction) * (1 - weightless)
    losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)  # (B,)
    total = (own * losses).sum()
    return total if reduction == "sum" else total / (own.sum() + weightless)


def _own_weights(labels: "Tensor", weights: "Tensor") -> "Tensor":
    return weights[labels]


def _equal_shares(counts: np.ndarray, num_rows: int) -> np.ndarray:
    return num_rows / (len(counts) * np.maximum(counts, 1))  # a class without rows has no loss to weight


def _softmax(logits: "Tensor") -> "Tensor":
    return logits.softmax(-1)


def row_cross_entropies(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The cross-entropy of each row: logits (N, C), labels (N,) -> (N,) float64."""
    z = logits.astype(np.float64)
    most = z.max(-1)
    return most + np.log(np.exp(z - most[:, None]).sum(-1)) - z[np.arange(len(z)), labels]


DECISIONS: dict[Decision, str] = {
    "mode": "the likeliest class",
    "median": "the class of the least expected distance from the label",
    "mean": "the class nearest to the expected class number",
}
ROUNDING = 1e-6  # float32 probabilities of 0.2 and 0.3 may add up to a little less than a half


def decided(probabilities: np.ndarray, how: Decision) -> np.ndarray:
    """The class of each row; of equally good ones the lowest.

    `mode` has the least expected share of mistakes, `median` the least expected absolute distance from the
    label, in classes, `mean` the least expected squared one (Berger 1985, "Statistical Decision Theory and
    Bayesian Analysis", section 4.4.2).

    Args:
        probabilities: (N, C).
        how: `mode`; `median`, the first class up to which the probabilities add up to a half; or `mean`, the
            class nearest to the sum of class number times probability.

    Returns:
        (N,) int64.
    """
    if how == "mode":
        return probabilities.argmax(-1)
    if how == "median":
        return (probabilities.cumsum(-1, dtype=np.float64) >= 0.5 - ROUNDING).argmax(-1)
    most = probabilities.shape[-1] - 1
    expected = probabilities.astype(np.float64) @ np.arange(most + 1)
    nearest = np.ceil(expected - 0.5 - ROUNDING)
    return np.clip(np.nan_to_num(nearest), 0, most).astype(np.int64)  # NaN is of class 0, as for argmax


# ---- several labels a text: targets (B, C) float32 of 0 and 1 --------------------------------------


def binary_cross_entropy(
    logits: "Tensor", targets: "Tensor", weights: "Tensor | None", smoothing: float, reduction: Reduction
) -> "Tensor":
    """The loss () of a batch: the mean over the labels of the binary cross-entropies, as transformers has it.

    Args:
        logits: (B, C).
        targets: (B, C) float32, 1 for the labels of a text.
        weights: The weight of a label where it is given, against 1 where it is not, (C,).
        smoothing: Has no meaning here.
        reduction: Over the rows.
    """
    from torch.nn import functional as F

    if reduction == "mean":
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights)
    losses = F.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    return losses.mean(-1).sum()


def _equal_rows(targets: "Tensor", weights: "Tensor") -> None:
    return None


def _as_many_yes_as_no(counts: np.ndarray, num_rows: int) -> np.ndarray:
    return np.maximum(num_rows - counts, 1) / np.maximum(counts, 1)


def _sigmoid(logits: "Tensor") -> "Tensor":
    return logits.sigmoid()


def _row_binary_cross_entropies(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    z = logits.astype(np.float64)
    return (np.logaddexp(0, z) - z * targets).mean(-1)


def _above(probabilities: np.ndarray, thresholds: Any) -> np.ndarray:
    return probabilities >= thresholds  # (N, C) bool


# ---- a number a text: targets (B,) float32, standardised -------------------------------------------


def squared_error(
    logits: "Tensor", targets: "Tensor", weights: "Tensor | None", smoothing: float, reduction: Reduction
) -> "Tensor":
    """The loss () of a batch: the squared error of standardised numbers, as transformers has it.

    Args:
        logits: (B, 1).
        targets: (B,) float32, standardised.
        weights: None: there are no classes.
        smoothing: Has no meaning here.
        reduction: Over the rows.
    """
    from torch.nn import functional as F

    return F.mse_loss(logits.squeeze(-1), targets, reduction=reduction)


def huber(
    logits: "Tensor", targets: "Tensor", weights: "Tensor | None", smoothing: float, reduction: Reduction
) -> "Tensor":
    """As `squared_error`, but beyond one standard deviation linear (Huber 1964): outliers pull less."""
    from torch.nn import functional as F

    return F.huber_loss(logits.squeeze(-1), targets, reduction=reduction)


def _no_weights(counts: np.ndarray, num_rows: int) -> np.ndarray:
    raise AssertionError("a number has no classes")


def _as_it_is(logits: "Tensor") -> "Tensor":
    return logits


def _row_squared_errors(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (logits.astype(np.float64)[:, 0] - targets) ** 2


def _as_said(values: np.ndarray, rule: Any) -> np.ndarray:
    return values[:, 0]  # standardised


# ---- the kinds ---------------------------------------------------------------------------------------

SINGLE_LABEL = Task(
    name="single_label",
    report="classifier",
    problem_type="single_label_classification",
    words="one class a text",
    losses={"cross_entropy": cross_entropy},
    smooths=True,
    weighted=True,
    keeps_head=True,
    clips=False,
    balanced=_equal_shares,
    row_weights=_own_weights,
    row_losses=row_cross_entropies,
    probabilities=_softmax,
    decide=decided,
    decisions=DECISIONS,
)
MULTI_LABEL = Task(
    name="multi_label",
    report="multi_label",
    problem_type="multi_label_classification",
    words="any number of labels a text",
    losses={"binary_cross_entropy": binary_cross_entropy},
    smooths=False,
    weighted=True,
    keeps_head=True,
    clips=False,
    balanced=_as_many_yes_as_no,
    row_weights=_equal_rows,
    row_losses=_row_binary_cross_entropies,
    probabilities=_sigmoid,
    decide=_above,
    decisions={},
)
REGRESSION = Task(
    name="regression",
    report="regression",
    problem_type="regression",
    words="a number a text",
    losses={"mse": squared_error, "huber": huber},
    smooths=False,
    weighted=False,
    keeps_head=False,
    clips=True,
    balanced=_no_weights,
    row_weights=_equal_rows,
    row_losses=_row_squared_errors,
    probabilities=_as_it_is,
    decide=_as_said,
    decisions={},
)
TASKS = {task.name: task for task in (SINGLE_LABEL, MULTI_LABEL, REGRESSION)}
