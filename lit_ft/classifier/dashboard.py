"""What `fit` shows in TensorBoard besides its curves: pictures, mistakes, corpus, settings.

N rows of the validation split, C classes.
"""

import inspect
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from lit_ft.classifier.baselines import spared
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.kinds import Kind
from lit_ft.classifier.metrics import Outcomes
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.parser import TRAINER_DEFAULTS
from lit_ft.classifier.tracking import LossHistory
from lit_ft.classifier.train_sample import on_training_texts
from lit_ft.data.facts import corpus_facts
from lit_ft.launcher import global_rank
from lit_ft.machine import hardware, library_versions
from lit_ft.report import figures
from lit_ft.report.tables import corpus_table, table
from lit_ft.report.tensorboard import begin, command_text, told_settings
from lit_ft.settings.flags import RUN_FLAGS

# The settings that TensorBoard's HPARAMS tab always shows, beside those that differ from the default.
ALWAYS = ("model.pretrained", "model.learning_rate", "trainer.max_epochs")


def _defaults() -> dict[str, Any]:
    """The settings of a `fit` without a config and flags, nested."""
    groups = {"data": YelpDataModule, "model": BertClassifier, "trainer": Trainer}
    found: dict[str, Any] = {
        group: {name: p.default for name, p in inspect.signature(made).parameters.items()}
        for group, made in groups.items()
    }
    found["trainer"] |= TRAINER_DEFAULTS
    return found | {name: default for name, (_, default, _) in RUN_FLAGS.items()}


def writer_of(trainer: Any) -> SummaryWriter | None:
    """The run's open TensorBoard file; None on processes other than 0, or if the user set other loggers."""
    found = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
    return found[0].experiment if found and global_rank() == 0 else None


class Dashboard(Callback):
    """Draws each validation, and keeps the summaries of the best and the newest one for the report.

    Args:
        settings: The settings of the run, as plain nested values.
        command: The command line.
        history: The metrics of each validation.
        monitor: The validation metric that chooses the best checkpoint.
        best_is_high: Whether a higher value of it is better.

    Attributes:
        baselines: Measured beside the model at each validation; None on processes other than 0.
        summaries: Step -> `analysis.summarise` of that validation, with its `confusion` matrix, and its
            `baselines`.
    """

    def __init__(
        self, settings: dict[str, Any], command: str, history: LossHistory, monitor: str, best_is_high: bool
    ) -> None:
        self.settings = settings
        self.command = command
        self.history = history
        self.monitor = monitor
        self.best_is_high = best_is_high
        self.baselines: Any = None
        self.summaries: dict[int, dict[str, Any]] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Lay out the page, and write what is known before the first step."""
        if (writer := writer_of(trainer)) is None:
            return
        on = hardware(trainer.strategy.root_device.type, trainer.world_size)
        step, datamodule = trainer.global_step, trainer.datamodule
        names = datamodule.labels.names
        corpus = corpus_facts(datamodule.splits, datamodule.text_source, datamodule.labels)
        texts = command_text(self.command, on, library_versions())
        texts["data/summary"] = corpus_table(corpus, names)
        if figures.drawable(names)[0] != list(names):
            texts["data/classes"] = table(("number", "class"), [(f"#{c}", n) for c, n in enumerate(names)])
        begin(writer, pl_module.task.report, told_settings(self.settings, _defaults(), ALWAYS), texts, step)
        if step == 0:
            drawn = figures.token_lengths(corpus["train"]["histogram"], datamodule.hparams["max_tokens"])
            writer.add_figure("data/token_lengths", drawn, 0)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Summarise the validation, and draw it."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or "val" not in pl_module.outcomes:
            return
        outcomes: Outcomes = pl_module.outcomes["val"]
        is_best = self.is_best(trainer.global_step)  # else nobody asks for what takes time
        summary = pl_module.kind.summarise(pl_module, "val", trainer.datamodule.splits["validation"], is_best)
        summary["confusion"] = pl_module.confusion["val/confusion_matrix"]
        if is_best:
            summary["train_sample"] = on_training_texts(trainer, pl_module, summary["rows"])
            if self.baselines is not None:
                with spared("baselines not measured"):
                    split = trainer.datamodule.splits["validation"]
                    said = outcomes.index, split.labels_of(outcomes.index), pl_module.kind.answer(outcomes)
                    summary["baselines"] = self.baselines.measure(split, *said)
        self.summaries = {**self._kept(), trainer.global_step: summary}
        if (writer := writer_of(trainer)) is not None:
            datamodule = trainer.datamodule
            names = datamodule.labels.names
            counts = summary["confusion"]
            kind: Kind = pl_module.kind
            kind.draw(writer, "val", outcomes, summary, counts, names, trainer.global_step)
            shown = kind.worst(summary, datamodule.splits["validation"], names)
            writer.add_text("val/worst_mistakes", shown, trainer.global_step)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the best checkpoint's metrics for the HPARAMS tab, before the file is closed."""
        best, writer = self.history.best(self.monitor, self.best_is_high), writer_of(trainer)
        if best is not None and writer is not None:
            for name in (score.name for score in pl_module.scores if score.hparams):
                if f"val/{name}" in best:
                    writer.add_scalar(f"best/{name}", best[f"val/{name}"], int(best["step"]))

    def is_best(self, step: int) -> bool:
        """Whether the validation at this step is the best so far, whose checkpoint is `best`."""
        best = self.history.best(self.monitor, self.best_is_high)
        return best is not None and best["step"] == step

    def _kept(self) -> dict[int, dict[str, Any]]:
        """The summary of the best validation so far, unless that is the current one."""
        return {step: summary for step, summary in self.summaries.items() if self.is_best(step)}

    def state_dict(self) -> dict[str, Any]:
        """The summaries: row numbers and probabilities, but no texts."""
        return {"summaries": [[step, summary] for step, summary in self.summaries.items()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the summaries."""
        self.summaries = {step: summary for step, summary in state_dict["summaries"]}
