"""Every figure of an evaluation, as one table for each command, and the curves that are drawn over the steps.

To add a metric, add its torchmetrics object to `classifier/metrics.py` and one row here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lit_ft.report.analysis import CALIBRATION_BINS


@dataclass(frozen=True)
class Score:
    """One figure of an evaluation. Every score is shown in the report and the model card, in this order.

    Attributes:
        name: Its tags are `val/NAME`, `fold/NAME` and `test/NAME`.
        words: Its name for a person.
        note: What it means, in a few words.
        digits: Decimal places.
        higher_is_better: None if neither high nor low is better.
        ordered: Whether it needs labels with an order. It measures the distance between classes, and the
            order of names would be the alphabet's.
        hub: Its name among the Hub's metrics; "" leaves it out of the card's metadata.
        console: Lines of the terminal's table are sorted by this number; 0 is not shown there and cannot be
            monitored.
        hparams: Whether TensorBoard gets that of the best validation as `best/NAME`, for its HPARAMS tab.
        compared: The evaluations whose values `report A B` shows.
        in_unit: Whether it is in the unit of the numbers that are predicted, which decides its digits: see
            `scores_of_run`.
    """

    name: str
    words: str
    note: str = ""
    digits: int = 4
    higher_is_better: bool | None = None
    ordered: bool = False
    hub: str = ""
    console: int = 0
    hparams: bool = False
    compared: tuple[str, ...] = ("test", "fold", "val")
    in_unit: bool = False


CLASSIFIER = (
    Score("accuracy", "accuracy", "share of texts classified as labelled",
          higher_is_better=True, hub="accuracy", console=2, hparams=True),
    Score("macro_f1", "macro F1", "mean over the classes",
          higher_is_better=True, hub="f1", console=2, hparams=True),
    Score("mae", "mean absolute error", "in classes, such as stars",
          higher_is_better=False, ordered=True, hub="mae", console=2),
    Score("kappa", "kappa", "quadratic-weighted agreement",
          higher_is_better=True, ordered=True, console=2),
    Score("loss", "loss", "mean cross-entropy", higher_is_better=False, console=1, hparams=True),
    Score("ece", "calibration error", f"expected, {CALIBRATION_BINS} bins",
          higher_is_better=False, console=2),
    Score("ece_calibrated", "after temperature scaling", higher_is_better=False),
    Score("temperature", "temperature", "above 1: too sure of itself, below 1: too cautious",
          compared=("val",)),
)  # fmt: skip

MULTI_LABEL = (
    Score("micro_f1", "micro F1", "of all labels together, from probability 0.5 on",
          higher_is_better=True, console=2, hparams=True),
    Score("macro_f1", "macro F1", "mean over the labels, from 0.5 on",
          higher_is_better=True, console=2, hparams=True),
    Score("subset_accuracy", "all labels right", "share of texts with just their labels, from 0.5 on",
          higher_is_better=True, console=2),
    Score("average_precision", "mean average precision", "mean over the labels, whatever the threshold",
          higher_is_better=True, console=2, hparams=True),
    Score("micro_f1_chosen", "micro F1, own thresholds", "each label from its threshold on",
          higher_is_better=True, hub="f1", console=3),
    Score("macro_f1_chosen", "macro F1, own thresholds", "each label from its threshold on",
          higher_is_better=True, console=3),
    Score("subset_accuracy_chosen", "all labels right, own thresholds", "each label from its threshold on",
          higher_is_better=True, hub="accuracy", console=3),
    Score("without_label", "texts that get no label", "share, at the own thresholds"),
    Score("loss", "loss", "mean binary cross-entropy", higher_is_better=False, console=1, hparams=True),
)  # fmt: skip

REGRESSION = (
    Score("mae", "mean absolute error", "how far off a prediction is on average, in the numbers' own unit",
          higher_is_better=False, hub="mae", console=2, hparams=True, in_unit=True),
    Score("rmse", "root mean squared error", "the same, with large errors counting more",
          higher_is_better=False, hub="rmse", console=2, in_unit=True),
    Score("r2", "R2", "share of the numbers' variance that is explained; 0: no better than their mean",
          higher_is_better=True, hub="r_squared", console=2, hparams=True),
    Score("spearman", "Spearman's correlation", "of the ranks: whether the order is right",
          higher_is_better=True, hub="spearmanr", console=2, hparams=True),
    Score("loss", "loss", "mean squared error of the standardised numbers",
          higher_is_better=False, console=1, hparams=True),
)  # fmt: skip

MASKED_LM = (
    Score("loss", "loss", "of a masked token",
          higher_is_better=False, console=1, compared=("val",)),
    Score("perplexity", "masked perplexity",
          higher_is_better=False, hub="perplexity", console=3, compared=("val", "initial")),
    Score("masked_accuracy", "guessed right",
          higher_is_better=True, console=2, compared=("val",)),
)  # fmt: skip

# By the `kind` in report.json
SCORES = {
    "classifier": CLASSIFIER,
    "multi_label": MULTI_LABEL,
    "regression": REGRESSION,
    "masked_lm": MASKED_LM,
}
OF_FIT = tuple(score for kind, scores in SCORES.items() if kind != "masked_lm" for score in scores)
# Tag -> split. First the test, which is the result, then the fold, which chose nothing either.
SPLITS = {"test": "test", "fold": "fold", "val": "validation"}
# What else a comparison shows: the cost of the run, and its training loss.
RUN_TAGS = (
    "train/epoch_loss train/loss train/seconds fit/seconds sft/seconds train/tokens train/tokens_seen "
    "train/tokens_per_second train/real_share train/peak_memory_gb"
).split()


def console(scores: tuple[Score, ...]) -> list[Score]:
    """The scores of the terminal's table, in its order; these can be monitored."""
    return sorted((score for score in scores if score.console), key=lambda score: score.console)


def compared_tags() -> list[str]:
    """The tags of a comparison, in its order, for runs of both commands."""
    tags = []
    for scores, prefixes in ((OF_FIT, SPLITS), (MASKED_LM, ("val", "initial"))):
        for prefix in prefixes:
            tags += [f"{prefix}/{score.name}" for score in scores if prefix in score.compared]
            tags += [f"{prefix}/rows"] if scores is OF_FIT else []
    return list(dict.fromkeys([*tags, *RUN_TAGS]))


def decimals_of(deviation: float) -> int:
    """The decimal places in which numbers with this standard deviation are shown: 2 from 1 to 10."""
    return max(0, 2 - math.floor(math.log10(deviation)))


def scores_of_run(facts: Mapping[str, Any]) -> tuple[Score, ...]:
    """The scores of a run's kind, those in the unit of its numbers with the digits that it needs."""
    scores = SCORES[facts["kind"]]
    if "numbers" not in facts:
        return scores
    digits = decimals_of(facts["numbers"]["deviation"]) + 1
    return tuple(replace(score, digits=digits) if score.in_unit else score for score in scores)


@dataclass(frozen=True)
class Curve:
    """A chart over the steps, in TensorBoard's custom scalars and, if it has a heading, in the report.

    In TensorBoard each line is a chart of its own: all lines of a run have the run's colour there.

    Attributes:
        category: The section of TensorBoard's page.
        title: Of the chart in TensorBoard; if there are several lines, it follows the label of each.
        lines: Label -> tag.
        heading: Of the chart in the report; "" leaves it out.
        technical: Whether the report folds it away.
        kinds: The commands that draw it in TensorBoard.
    """

    category: str
    title: str
    lines: dict[str, str]
    heading: str = ""
    technical: bool = False
    kinds: tuple[str, ...] = tuple(SCORES)


CURVES = (
    Curve("Loss", "loss", {"training": "train/loss", "validation": "val/loss"},
          "Loss"),
    Curve("Accuracy", "", {"accuracy": "val/accuracy", "macro F1": "val/macro_f1"},
          "Accuracy and macro F1", kinds=("classifier",)),
    Curve("Accuracy", "temperature scaling",
          {"calibration error before": "val/ece", "calibration error after": "val/ece_calibrated"},
          kinds=("classifier",)),
    Curve("Error", "", {"mean absolute error": "val/mae", "root mean squared error": "val/rmse"},
          "Mean absolute and root mean squared error", kinds=("regression",)),
    Curve("Error", "", {"R2": "val/r2", "Spearman's correlation": "val/spearman"},
          "R2 and Spearman's correlation", kinds=("regression",)),
    Curve("Labels", "F1", {"micro": "val/micro_f1", "macro": "val/macro_f1"},
          "Micro and macro F1, from 0.5 on", kinds=("multi_label",)),
    Curve("Labels", "", {"average precision": "val/average_precision", "all right": "val/subset_accuracy"},
          kinds=("multi_label",)),
    Curve("Masked tokens", "tokens guessed right",
          {"training": "train/masked_accuracy", "validation": "val/masked_accuracy"},
          "Masked tokens guessed right", kinds=("masked_lm",)),
    Curve("Masked tokens", "perplexity", {"validation": "val/perplexity"}, kinds=("masked_lm",)),
    Curve("Optimizer", "learning rate", {"learning rate": "train/learning_rate"}, "Learning rate",
          technical=True),
    Curve("Optimizer", "gradient norm, before clipping", {"gradient norm": "train/grad_norm"},
          "Gradient norm, before any clipping", technical=True),
    Curve("Throughput", "real tokens per second", {"tokens per second": "train/tokens_per_second"},
          "Real tokens per second", technical=True),
    Curve("Throughput", "samples per second", {"samples per second": "train/samples_per_second"}),
    Curve("Throughput", "share of computed tokens that are real", {"real": "train/real_share"}),
    Curve("Memory", "peak, in GB", {"peak": "train/peak_memory_gb"}),
)  # fmt: skip
