"""What a fit shows in TensorBoard beyond its curves: pictures, mistakes, corpus, settings.

N rows of the validation split, C classes.
"""

from collections.abc import Sequence
from typing import Any

from lightning import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from lit_ft.classifier.metrics import Outcomes
from lit_ft.classifier.tracking import LossHistory
from lit_ft.data.facts import corpus_facts
from lit_ft.data.splits import Split
from lit_ft.errors import shorten
from lit_ft.launcher import global_rank
from lit_ft.machine import hardware, library_versions
from lit_ft.report import figures
from lit_ft.report.analysis import MOST_IN_MATRIX, calibration_of, per_class, softmax, summarise
from lit_ft.report.tables import corpus_table, table
from lit_ft.report.tensorboard import CLASSIFIER_LAYOUT, flat, write_hparams

HPARAMS = (
    "model.pretrained model.learning_rate model.weight_decay model.warmup_share model.hidden_dropout "
    "model.attention_dropout model.label_smoothing model.class_weights data.max_tokens data.truncation "
    "data.batch_size data.token_budget data.group_by_length trainer.max_epochs trainer.max_steps "
    "trainer.precision trainer.accumulate_grad_batches trainer.gradient_clip_val seed_everything"
).split()
BEST = ("accuracy", "macro_f1", "loss")
FINAL = [f"{prefix}/{name}" for prefix in ("best", "test") for name in BEST]
MOST_CURVES = 20  # classes that get a PR curve


def writer_of(trainer: Any) -> SummaryWriter | None:
    """The open TensorBoard file of a run; None on other processes, or where the user has other loggers."""
    found = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return found[0].experiment if found and global_rank() == 0 else None


class Dashboard(Callback):
    """Draws each validation, and keeps what the report will say of the best and of the newest one.

    Args:
        settings: The run's, as plain nested values.
        command: The command line that was given.
        history: The metrics of each validation, to know the best.
        best_is_high: Whether the monitored figure is better the higher it is.
        monitor: The validation figure that chooses the best checkpoint.

    Attributes:
        summaries: Step -> `analysis.summarise` of the validation at that step, and its `confusion` matrix.
    """

    def __init__(
        self, settings: dict[str, Any], command: str, history: LossHistory, monitor: str, best_is_high: bool
    ) -> None:
        self.settings = settings
        self.command = command
        self.history = history
        self.monitor = monitor
        self.best_is_high = best_is_high
        self.summaries: dict[int, dict[str, Any]] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Arrange the page and write what is known before the first step."""
        if (writer := writer_of(trainer)) is None:
            return
        writer.add_custom_scalars(CLASSIFIER_LAYOUT)
        weights = {"model.class_weights": self.settings["model"]["class_weights"]}  # by name: a mapping
        write_hparams(writer, flat(self.settings) | weights, HPARAMS, FINAL)
        step = trainer.global_step
        on = hardware(trainer.strategy.root_device.type, trainer.world_size)
        facts = [("command", self.command), ("hardware", on), *library_versions().items()]
        writer.add_text("run/command_and_versions", table(("what", "value"), facts), step)
        datamodule = trainer.datamodule
        names = datamodule.labels.names
        corpus = corpus_facts(datamodule.splits, datamodule.text_source, len(names))
        writer.add_text("data/summary", corpus_table(corpus, names), step)
        if step == 0:
            drawn = figures.token_lengths(corpus["train"]["histogram"], datamodule.hparams["max_tokens"])
            writer.add_figure("data/token_lengths", drawn, 0)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Sum up the validation, and show it."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or "val" not in pl_module.outcomes:
            return
        outcomes: Outcomes = pl_module.outcomes["val"]
        summary = summarise(
            outcomes.logits, outcomes.labels, outcomes.predicted, outcomes.index, pl_module.temperature
        )
        summary["confusion"] = pl_module.confusion["val/confusion_matrix"]
        self.summaries = {**self._kept(), trainer.global_step: summary}
        if (writer := writer_of(trainer)) is not None:
            datamodule = trainer.datamodule
            names = datamodule.labels.names
            counts = summary["confusion"]
            draw_evaluation(writer, "val", outcomes, summary, counts, names, trainer.global_step)
            shown = table(
                ("text", "true", "predicted", "confidence"),
                mistake_rows(summary["mistakes"], datamodule.splits["validation"], names, 300),
            )
            writer.add_text("val/worst_mistakes", shown, trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the figures that the HPARAMS tab shows of the best checkpoint, before the file is closed."""
        best, writer = self._best(), writer_of(trainer)
        if best is not None and writer is not None:
            for name in BEST:
                writer.add_scalar(f"best/{name}", best[f"val/{name}"], int(best["step"]))

    def _best(self) -> dict[str, float] | None:
        """The validation whose checkpoint is `best`, of those so far."""
        points = [point for point in self.history.validation if self.monitor in point]
        sign = -1 if self.best_is_high else 1
        # Of equals ModelCheckpoint keeps the first, and so does min().
        return min(points, key=lambda point: sign * point[self.monitor], default=None)

    def _kept(self) -> dict[int, dict[str, Any]]:
        """The summary of the best validation so far, where it is not the present one."""
        step = int(best["step"]) if (best := self._best()) else -1
        return {step: self.summaries[step]} if step in self.summaries else {}

    def state_dict(self) -> dict[str, Any]:
        """Row numbers and probabilities of the summaries; no text of the corpus enters a checkpoint."""
        return {"summaries": [[step, summary] for step, summary in self.summaries.items()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where `state_dict` stood."""
        self.summaries = {step: summary for step, summary in state_dict["summaries"]}


def draw_evaluation(
    writer: SummaryWriter,
    prefix: str,
    outcomes: Outcomes,
    summary: dict[str, Any],
    counts: Sequence[Sequence[int]] | None,
    names: Sequence[str],
    step: int,
) -> None:
    """The pictures of one evaluation.

    Args:
        writer: Of the run folder.
        prefix: `val` or `test`.
        outcomes: Of its rows.
        summary: `analysis.summarise` of them.
        counts: The confusion matrix, (C true, C predicted); None of so many classes that none is kept.
        names: Display names of the classes, (C,).
        step: Of the weights.
    """
    writer.add_figure(f"{prefix}/reliability", figures.reliability_diagram(*calibration_of(summary)), step)
    if counts is not None:
        classes = per_class(summary["class_counts"])
        writer.add_figure(f"{prefix}/confusion_matrix", figures.confusion_matrix(counts, names), step)
        writer.add_figure(f"{prefix}/classes", figures.class_bars(classes, names), step)
    else:
        rows = [(names[true], names[said], count) for true, said, count in summary["confusions"]]
        shown = table(("true", "predicted", "rows"), rows)
        note = f"No picture of {len(names):,} classes (of up to {MOST_IN_MATRIX}): the most frequent mistakes"
        writer.add_text(f"{prefix}/confusions", f"{note}\n\n{shown}", step)
    probabilities = softmax(outcomes.logits)
    for c, name in list(enumerate(names))[:MOST_CURVES]:
        writer.add_pr_curve(f"{prefix}/pr/{c}_{name}", outcomes.labels == c, probabilities[:, c], step)


def mistake_rows(
    entries: Sequence[dict[str, Any]], split: Split, names: Sequence[str], most: int
) -> list[tuple[str, str, str, float]]:
    """Text, true and predicted class, and confidence of rows in a summary."""
    return [
        (
            shorten(split.texts[entry["index"]]["text"], most),
            names[entry["label"]],
            names[entry["predicted"]],
            entry["confidence"],
        )
        for entry in entries
    ]
