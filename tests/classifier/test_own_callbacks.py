"""The callbacks and loggers that a user brings along: in every form, or refused with the way out."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import lasting, one_line
from lightning import Callback
from lightning.pytorch.callbacks import BaseFinetuning
from test_resume import Killed, curves, state


def given(*callbacks: dict[str, Any] | str) -> str:
    """The flag for a list of them: a class and its settings each."""
    entries = [c if isinstance(c, str) else {"class_path": c.pop("class"), "init_args": c} for c in callbacks]
    return f"--trainer.callbacks={json.dumps(entries)}"


def early(**settings: Any) -> dict[str, Any]:
    return {"class": "EarlyStopping", "monitor": "val/loss", **settings}


FORMS = {
    "a name": (["--trainer.callbacks=LearningRateMonitor"], ""),
    "a name and its settings": (
        ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/loss"],
        "",
    ),
    "two flags": (
        [
            "--trainer.callbacks=EarlyStopping",
            "--trainer.callbacks.monitor=val/loss",
            "--trainer.callbacks+=LearningRateMonitor",
        ],
        "",
    ),
    "added": (["--trainer.callbacks+=LearningRateMonitor"], ""),
    "a mapping": ([], "callbacks: {class_path: EarlyStopping, init_args: {monitor: val/loss}}"),
    "a list of names": ([], "callbacks: [LearningRateMonitor]"),
    "a list of paths": ([], "callbacks: [{class_path: lightning.pytorch.callbacks.LearningRateMonitor}]"),
    "an empty list": ([], "callbacks: []"),
    "nothing": ([], "callbacks: null"),
    "two that differ": (
        [],
        "callbacks: [{class_path: EarlyStopping, init_args: {monitor: val/loss}}, "
        "{class_path: EarlyStopping, init_args: {monitor: val/accuracy, mode: max}}]",
    ),
}


@pytest.mark.parametrize("flags, config", FORMS.values(), ids=FORMS)
def test_forms(flags, config, lit_ft, fit_args):
    if config:
        Path("own.yaml").write_text(f"trainer:\n  {config}\n")
        flags = ["--config", "own.yaml", *flags]
    code, _, err = lit_ft("fit", *fit_args, "--trainer.max_epochs=1", *flags)
    assert code == 0, err


OTHERS = [
    {"class": "Timer", "duration": "00:01:00:00"},
    {"class": "Timer", "interval": "epoch"},
    {"class": "DeviceStatsMonitor", "cpu_stats": False},
    {"class": "ModelSummary"},
    {"class": "OnExceptionCheckpoint", "dirpath": "saved"},
    {"class": "ModelCheckpoint", "monitor": "val/loss", "save_last": True, "save_top_k": 2},
    {"class": "LambdaCallback"},
]


@pytest.mark.parametrize("callback", OTHERS, ids=lambda c: c["class"])
def test_others_of_lightning_work(callback, lit_ft, fit_args):
    code, _, err = lit_ft("fit", *fit_args, "--trainer.max_epochs=1", given(dict(callback)))
    assert code == 0, err
    code, _, err = lit_ft("test", *fit_args, given(dict(callback)))
    assert code == 0, err


def test_a_bar_of_the_user_s_takes_ours_place(lit_ft, fit_args):
    args = [*fit_args, "--trainer.enable_progress_bar=true", "--trainer.max_epochs=1"]
    code, _, err = lit_ft("fit", *args, "--trainer.callbacks=TQDMProgressBar")
    assert code == 0, err


REFUSED = {
    "learning rate finder": ([{"class": "LearningRateFinder"}], "set --model.learning_rate"),
    "batch size finder": ([{"class": "BatchSizeFinder"}], "set --data.batch_size"),
    "weight averaging": ([{"class": "StochasticWeightAveraging", "swa_lrs": 1e-3}], "EMAWeightAveraging"),
    "accumulation": (
        [{"class": "GradientAccumulationScheduler", "scheduling": {"0": 2}}],
        "set --trainer.accumulate_grad_batches",
    ),
    "backbone": ([{"class": "BackboneFinetuning"}], "no attribute backbone"),
    "pruning": ([{"class": "ModelPruning", "pruning_fn": "l1_unstructured"}], "prune model/ afterwards"),
    "spikes": ([{"class": "SpikeDetection"}], "--on_nonfinite=skip"),
    "ours": (
        [{"class": "lit_ft.classifier.tracking.Throughput"}],
        "fit adds Throughput itself; leave it out",
    ),
    "typo": ([early(monitor="val_loss")], "'val_loss', which is not measured; did you mean val/loss?"),
    "unknown": ([early(monitor="bleu")], "'bleu', which is not measured; there are val/accuracy, "),
    "checkpoint's typo": (
        [{"class": "ModelCheckpoint", "monitor": "val/acuracy"}],
        "did you mean val/accuracy?",
    ),
    "twice": ([early(), early(patience=1)], "found EarlyStopping of val/loss twice"),
    "no time": ([{"class": "Timer", "duration": "00:00:00:00"}], "above 0, found 0"),
    "mode": ([early(mode="up")], "EarlyStopping: `mode` can be min, max, got up"),
}


@pytest.mark.parametrize("callbacks, words", REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_is_written(callbacks, words, lit_ft, fit_args):
    assert words in one_line(lit_ft("fit", *fit_args, given(*map(dict, callbacks))))
    assert not Path("runs").exists()


TOGETHER = {
    "no logger": ("LearningRateMonitor", "--trainer.logger=false", "LearningRateMonitor needs a logger"),
    "no logger for devices": (
        "DeviceStatsMonitor",
        "--trainer.logger=false",
        "DeviceStatsMonitor needs a logger",
    ),
    "two clocks": ("Timer", "--trainer.max_time=00:01:00:00", "found a Timer and --trainer.max_time"),
    "no bar": ("TQDMProgressBar", "--trainer.enable_progress_bar=false", "found `TQDMProgressBar`"),
    "flag twice": (
        "Timer",
        "--trainer.callbacks=LearningRateMonitor",
        "write --trainer.callbacks+= to add another",
    ),
}


@pytest.mark.parametrize("callback, flag, words", TOGETHER.values(), ids=TOGETHER)
def test_what_does_not_go_together(callback, flag, words, lit_ft, fit_args):
    assert words in one_line(lit_ft("fit", *fit_args, f"--trainer.callbacks={callback}", flag))
    assert not Path("runs").exists()


@pytest.mark.parametrize("flag", ["limit_val_batches=0", "check_val_every_n_epoch=3"])
def test_a_figure_of_validations_that_do_not_take_place(flag, lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, given(early()), f"--trainer.{flag}"))
    assert f"there is no validation with --trainer.{flag}" in line
    assert not Path("runs").exists()


def test_a_mode_that_is_the_wrong_way_round_is_told(lit_ft, fit_args):
    code, _, err = lit_ft("fit", *fit_args, given(early(monitor="val/accuracy")))
    assert code == 0
    assert "mode min, but val/accuracy is better when it is higher; set mode: max" in err


# ---- errors -------------------------------------------------------------------------------------


class Fails(Callback):
    """Raises in a function of its own file."""

    def __init__(self, hook: str = "on_train_batch_end") -> None:
        setattr(self, hook, self.fail)

    def fail(self, *args: Any, **kwargs: Any) -> None:
        {}["missing"]


class OfOurs(Callback):
    """Breaks a part of this package, which then raises."""

    def on_train_batch_end(self, trainer, *args: Any) -> None:
        for callback in trainer.callbacks:
            if type(callback).__name__ == "LossHistory":
                callback.train = None


class Unfreezes(BaseFinetuning):
    def freeze_before_training(self, pl_module) -> None:
        self.freeze(pl_module.net.bert.encoder)

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(pl_module.net.bert.encoder, optimizer)


class Logs(Callback):
    def on_validation_epoch_end(self, trainer, pl_module) -> None:
        self.log("own/figure", 1.0)


@pytest.mark.parametrize(
    "hook, left", [("setup", False), ("on_train_start", False), ("on_train_batch_end", True)]
)
def test_an_error_of_the_user_s_callback(hook, left, lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, given({"class": f"{__name__}.Fails", "hook": hook})))
    assert line.startswith(f"Fails ({__file__}, line ") and line.endswith("KeyError 'missing'")
    assert Path("runs").exists() == left


def test_an_error_of_ours_keeps_its_traceback(lit_ft, fit_args):
    with pytest.raises(AttributeError, match="append"):
        lit_ft("fit", *fit_args, given({"class": f"{__name__}.OfOurs"}))


def test_an_error_of_lightning_s_callback(lit_ft, fit_args):
    line = one_line(
        lit_ft("fit", *fit_args, given({"class": f"{__name__}.Logs"}, early(monitor="own/figur")))
    )
    assert line.startswith("EarlyStopping: ") and "`own/figur` which is not available" in line


def test_weights_that_join_later_have_no_schedule(lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, given({"class": f"{__name__}.Unfreezes"})))
    assert "added weights to the optimizer in the middle of a run" in line


def test_a_figure_of_the_user_s_own(lit_ft, fit_args):
    """It is not known before the run."""
    code, out, err = lit_ft(
        "fit", *fit_args, given({"class": f"{__name__}.Logs"}, early(monitor="own/figure"))
    )
    assert code == 0, err


# ---- loggers ------------------------------------------------------------------------------------


def test_a_logger_of_one_s_own_stands_beside_the_run_s(lit_ft, fit_args):
    csv_logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"]
    assert lit_ft("fit", *fit_args, *csv_logger)[0] == 0
    assert lit_ft("fit", *fit_args, "--name", "plain")[0] == 0
    found, plain = curves("small"), curves("plain")
    assert found == plain and "val/loss" in found
    with next(Path("logs").rglob("metrics.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert {"train/loss", "train/epoch_loss", "train/samples_per_second", "val/loss"} <= rows[0].keys()
    assert (Path("runs/small/version_0") / "report.html").is_file()


def test_no_logger_at_all(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, "--trainer.logger=false")[0] == 0
    assert not list(Path("runs").rglob("events.*"))


# ---- early ends ---------------------------------------------------------------------------------


def results(name: str) -> dict[str, Any]:
    return lasting(json.loads(Path(f"runs/{name}/version_0/metrics.json").read_text()))


LONG = ["--trainer.max_epochs=6"]
ENDS = {
    "after an epoch": [given(early(min_delta=10, patience=1))],
    "in an epoch": [given(early(min_delta=10, patience=1)), "--trainer.val_check_interval=4"],
    "by the training loss": [given(early(monitor="train/loss", min_delta=10, patience=1))],
    "own callback": [given({"class": f"{__name__}.StopsAt", "step": 13})],
    "no validation": [given({"class": f"{__name__}.StopsAt", "step": 13}), "--trainer.limit_val_batches=0"],
}


class StopsAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *args: Any) -> None:
        trainer.should_stop = trainer.should_stop or trainer.global_step == self.step


@pytest.mark.parametrize("flags", ENDS.values(), ids=ENDS)
def test_a_run_that_has_ended_ends_again(flags, lit_ft, fit_args):
    """A job script carries `--ckpt_path last` in any case: the same results, no step more, exit code 0."""
    args = [*fit_args, *LONG, *flags]
    code, out, err = lit_ft("fit", *args)
    assert code == 0, err
    told = next(line for line in out.splitlines() if line.startswith("stopped at step "))
    before, weights, points = results("small"), state("small"), curves("small")
    assert f"at step {weights['global_step']} of 60 by " in told
    for _ in range(2):
        code, out, err = lit_ft("fit", *args, "--ckpt_path", "last")
        assert code == 0, err
        assert told in out and "Detected out of order" not in err
        assert results("small") == before
        assert state("small")["global_step"] == weights["global_step"]
        assert curves("small") == points


@pytest.mark.parametrize("flags", [ENDS["own callback"], ENDS["no validation"]], ids=["validated", "not"])
def test_an_ended_run_goes_on_without_what_stopped_it(flags, lit_ft, fit_args):
    """As one that was never stopped."""
    args = [*fit_args, "--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=4"]
    args += [flag for flag in flags if "callbacks" not in flag]
    flags = [given({"class": f"{__name__}.StopsInWindow", "batch": 13})]
    assert lit_ft("fit", *args, "--name", "whole")[0] == 0
    assert lit_ft("fit", *args, "--name", "parts", *flags)[0] == 0
    stopped, whole = state("parts"), state("whole")
    assert stopped["global_step"] == 7 and whole["global_step"] == 10
    code, _, err = lit_ft("fit", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0, err
    again = state("parts")
    assert again["global_step"] == 10
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][key]), key


class StopsInWindow(Callback):
    """Between two optimizer steps, in an accumulation window."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.seen = 0

    def on_train_batch_end(self, trainer, *args: Any) -> None:
        self.seen += 1
        if self.seen == self.batch:
            trainer.should_stop = True


def test_more_patience_goes_on(lit_ft, fit_args):
    args = [*fit_args, *LONG]
    assert lit_ft("fit", *args, given(early(min_delta=10, patience=1)))[0] == 0
    first = state("small")["global_step"]
    code, _, err = lit_ft("fit", *args, given(early(min_delta=10, patience=3)), "--ckpt_path", "last")
    assert code == 0, err
    assert state("small")["global_step"] == first + 20


def test_early_stopping_is_resumed_exactly(lit_ft, fit_args):
    """Killed behind an epoch's end: what EarlyStopping looks at there was in no checkpoint."""
    args = [*fit_args, *LONG]
    stopping = early(min_delta=10, patience=2)
    assert lit_ft("fit", *args, "--name", "whole", given(dict(stopping)))[0] == 0
    killed = {"class": "test_resume.StopAt", "step": 13}
    with pytest.raises(Killed):
        lit_ft("fit", *args, "--name", "parts", given(dict(stopping), killed))
    code, _, err = lit_ft("fit", *args, "--name", "parts", given(dict(stopping)), "--ckpt_path", "last")
    assert code == 0, err
    assert results("parts") == results("whole")
    assert curves("parts") == curves("whole")


def test_a_time_limit_is_told(lit_ft, fit_args):
    args = [*fit_args, "--trainer.max_epochs=1000", "--trainer.max_time=00:00:00:01"]
    code, out, err = lit_ft("fit", *args)
    assert code == 0, err
    step = state("small")["global_step"]
    told = f"stopped at step {step} of 10000 by the time limit (trainer.max_time or a Timer): the learning "
    assert told in out and "in its warm-up" in out and f"--trainer.max_steps={step} would end" in out
    code, out, err = lit_ft("fit", *args, "--ckpt_path", "last")
    assert code == 0 and told in out and "nothing was left to train" in out, err
    assert state("small")["global_step"] == step
