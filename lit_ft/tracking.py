"""What a fit records while it trains, and what it leaves in the run folder at the end."""

from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from lit_ft import runs
from lit_ft.checkpoints import open_checkpoint
from lit_ft.console import say
from lit_ft.data import YelpDataModule
from lit_ft.errors import UserError
from lit_ft.export import export_model, say_where, weights_of
from lit_ft.history import LossHistory
from lit_ft.metrics import SCALARS
from lit_ft.model import BertClassifier

HIGHER_IS_BETTER = ("accuracy", "macro_f1", "kappa")


class RunLogger(TensorBoardLogger):
    """TensorBoard events in the run folder, and no `hparams.yaml`: `config.yaml` holds every setting.

    Args:
        run: The run folder.
        purge_step: TensorBoard hides what an earlier process logged from this step on.
    """

    def __init__(self, run: Path, purge_step: int | None = None) -> None:
        name = run.parent.name
        super().__init__(run.parent.parent, name, run.name, default_hp_metric=False, purge_step=purge_step)

    def save(self) -> None:
        """Write what is waiting."""
        self.experiment.flush()


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that still knows its files when the run folder was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning stores absolute paths, and forgets the best score where the folder has another one."""
        best = Path(self.dirpath or "") / Path(state_dict["best_model_path"]).name
        if best.is_file():
            here = {"dirpath": self.dirpath, "best_model_path": str(best), "kth_best_model_path": str(best)}
            scores = state_dict["best_k_models"].values()
            state_dict = {**state_dict, **here, "best_k_models": {str(best): score for score in scores}}
        super().load_state_dict(state_dict)


class Tracking:
    """The history, the two checkpoints and the results of one fit.

    Args:
        run: The run folder.
        monitor: The validation figure that chooses the best checkpoint.
    """

    def __init__(self, run: Path, monitor: str) -> None:
        known = [f"val/{name}" for name in SCALARS]
        if monitor not in known:
            raise UserError(f"expected --monitor to be one of {', '.join(known)}, found {monitor!r}")
        self.run = run
        self.monitor = monitor
        mode = "max" if monitor.removeprefix("val/") in HIGHER_IS_BETTER else "min"
        common: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": False}
        folder = run / runs.CHECKPOINTS
        self.history = LossHistory()
        self.best = RunCheckpoint(folder, "best", monitor=monitor, mode=mode, **common)
        # A second one: ModelCheckpoint(save_last=True) of 2.6.6 renews `last` only when `best` is renewed.
        self.last = RunCheckpoint(folder, "last", **common)

    def callbacks(self) -> list[Callback]:
        """In the order in which they run: the history is noted before it is saved."""
        return [self.history, self.best, self.last]

    def save_last(self, trainer: Trainer) -> None:
        """Save the end of training where it comes after the last validation. All processes call this."""
        validated = self.history.validation
        if (not validated or validated[-1]["step"] < trainer.global_step) and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.run / runs.CHECKPOINTS / "last.ckpt")

    def finish(self, trainer: Trainer, model: BertClassifier, datamodule: YelpDataModule) -> None:
        """Write `metrics.json`, `loss.png` and `model/`, and say where they are."""
        assert model.net is not None
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            say(f"fast_dev_run: training and validation work; only {self.run / runs.CONFIG} was kept")
            return
        self.history.draw(self.run / runs.LOSS_CURVE)
        metrics: dict[str, Any] = {}
        if self.history.train:
            metrics["train/epoch_loss"] = self.history.train[-1]["loss"]
        which = "best" if self.best.best_model_path else "last"
        checkpoint = open_checkpoint(self.run / runs.CHECKPOINTS / f"{which}.ckpt")
        cut = datamodule.hparams["max_tokens"], datamodule.hparams["truncation"]
        export_model(self.run, model.net, weights_of(checkpoint), datamodule.tokenizer, *cut)
        if which == "best":
            step = checkpoint["global_step"]
            at_best = [entry for entry in self.history.validation if entry["step"] == step][-1]
            metrics |= {tag: value for tag, value in at_best.items() if tag.startswith("val/")}
            metrics["val/step"] = step
            print_table("val", metrics, f"best checkpoint (by {self.monitor}): step {step}")
        else:
            say("no validation took place: model/ holds the last weights")
        runs.add_metrics(self.run, metrics)
        say_where(self.run)


def record_evaluation(run: Path | None, prefix: str, metrics: dict[str, Any], checkpoint: Path) -> None:
    """Show what `validate` or `test` measured, and add it to the run that the checkpoint belongs to.

    TensorBoard gets the test's figures at the checkpoint's step; the validation's it has from `fit`. The
    Trainer would log both at step 0, a second point in the validation curves.
    """
    print_table(prefix, metrics, str(checkpoint))
    if run is None:
        say("the checkpoint is in no run folder: metrics.json not written")
        return
    runs.add_metrics(run, metrics)
    if prefix == "test":
        logger = RunLogger(run)
        logger.log_metrics({f"test/{k}": metrics[f"test/{k}"] for k in SCALARS}, metrics["test/step"])
        logger.finalize("success")
    say(f"metrics: {run / runs.METRICS}")


def print_table(prefix: str, metrics: dict[str, Any], title: str) -> None:
    """A line a figure."""
    say(f"\n{title}")
    for name in SCALARS:
        say(f"  {f'{prefix}/{name}':<16} {metrics[f'{prefix}/{name}']:.4f}")
