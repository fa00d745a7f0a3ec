"""What Lightning's Trainer takes works with our runs, or is one line before anything is written."""

import json
import logging
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import lasting, one_line
from lightning import Callback

REFUSED = {
    "--trainer.log_every_n_steps=-1": "expected trainer.log_every_n_steps of at least 0, found -1",
    "--trainer.accumulate_grad_batches=-1": "expected --trainer.accumulate_grad_batches above 0, found -1",
    "--trainer.check_val_every_n_epoch=0": "expected --trainer.check_val_every_n_epoch above 0, found 0",
    "--trainer.val_check_interval=0": "expected --trainer.val_check_interval above 0, found 0",
    "--trainer.val_check_interval=-0.5": "expected --trainer.val_check_interval above 0, found -0.5",
    "--trainer.gradient_clip_val=-1": "expected trainer.gradient_clip_val of at least 0, found -1",
    "--trainer.num_sanity_val_steps=-2": "expected trainer.num_sanity_val_steps of at least -1, found -2",
    "--trainer.max_time=00:00:00:00": "expected --trainer.max_time (DD:HH:MM:SS) above 0",
    "--trainer.max_time=5": "Expected a string in the format DD:HH:MM:SS",
    "--trainer.min_epochs=5": "expected --trainer.min_epochs of at most 2 (trainer.max_epochs), found 5",
    "--trainer.min_steps=21": "expected --trainer.min_steps of at most 20, the steps of the run, found 21",
    "--trainer.barebones=true": "trainer.barebones true does not work here",
    "--trainer.enable_checkpointing=false": "trainer.enable_checkpointing false does not work here",
    "--trainer.use_distributed_sampler=true": "trainer.use_distributed_sampler true does not work here",
    "--trainer.model_registry=a/b": "trainer.model_registry a/b does not work here",
    "--trainer.devices=0": "as a number of processes above 0 on CPUs, found 0; set --trainer.devices=1",
    "--trainer.devices=0,": "found 0,; set --trainer.devices=1",
    "--trainer.devices=-1": "found -1; set --trainer.devices=1",
    "--trainer.strategy=ddp_spawn": "found trainer.strategy ddp_spawn: the results of copies",
    "--trainer.strategy=ddp_notebook": "found trainer.strategy ddp_notebook: the results of copies",
    "--trainer.strategy=fsdp": "requires a GPU accelerator",
    "--trainer.strategy=nonsense": "strategy='nonsense'",
    "--trainer.accelerator=tpu": "'torch_xla",
    "--trainer.profiler=nonsense": "['simple', 'advanced', 'pytorch', 'xla']",
    "--trainer.profiler=xla": "set --trainer.profiler=simple",
    "--trainer.precision=transformer-engine": "'transformer_engine",
    "--trainer.gradient_clip_algorithm=nonsense": "nonsense is invalid",
    "--trainer.logger=WandbLogger": "WandbLogger: Requirement 'wandb",
    "--trainer.logger=CometLogger": "CometLogger: Requirement 'comet-ml",
    "--trainer.logger=MLFlowLogger": "MLFlowLogger: Requirement 'mlflow",
    "--trainer.plugins=nonsense": "'nonsense'; write the name of one of Lightning's, such as MixedPrecision",
}  # fmt: skip


@pytest.mark.parametrize("flag", REFUSED)
def test_refused_by_name_and_nothing_is_left(flag, lit_ft, fit_args):
    assert REFUSED[flag] in one_line(lit_ft("fit", *fit_args, flag))
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there(name, lit_ft, fit_args, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    line = one_line(lit_ft("fit", *fit_args, "--trainer.accelerator", name))
    assert "set --trainer.accelerator=auto, or cpu" in line
    assert not Path("runs").exists()


def figures(lit_ft, *args: str) -> tuple[dict, str, str]:
    """Those that the settings decide; standard output, standard error."""
    code, out, err = lit_ft("fit", *args, "--name", "run")
    assert code == 0, err
    run = max(Path("runs/run").iterdir())
    return lasting(json.loads((run / "metrics.json").read_text())), out, err


SAME = [  # settings of which no figure of a run depends, several at a time
    {
        "--trainer.log_every_n_steps=0": "",
        "--trainer.logger=false": "",
        "--trainer.detect_anomaly=true": "",
        "--trainer.deterministic=true": "",
        "--trainer.enable_model_summary=true": "",
        "--trainer.devices=1": "",
        "--trainer.gradient_clip_algorithm=value": "has no effect without --trainer.gradient_clip_val",
        "--trainer.max_time=00:01:00:00": "",
    },
    {
        "--trainer.logger=true": "",
        "--trainer.deterministic=warn": "",
        "--trainer.inference_mode=false": "",
        "--trainer.num_sanity_val_steps=2": "",
        "--trainer.profiler=advanced": "",
        "--trainer.val_check_interval=1.0": "",
        "--trainer.enable_progress_bar=true": "",
        "--trainer.default_root_dir=elsewhere": "trainer.default_root_dir has no effect",
    },
    {
        "--trainer.benchmark=true": "",
        "--trainer.reload_dataloaders_every_n_epochs=1": "",
        "--trainer.min_epochs=1": "",
        "--trainer.devices=auto": "",
        "--trainer.gradient_clip_val=0": "",
    },
]


def test_settings_that_change_no_figure(lit_ft, fit_args):
    plain, _, _ = figures(lit_ft, *fit_args)
    for flags in SAME:
        found, _, err = figures(lit_ft, *fit_args, *flags)
        assert found == plain, flags
        for flag, words in flags.items():
            assert words in err, flag


def test_what_a_setting_asks_for_is_printed(lit_ft, fit_args):
    """Lightning writes profiles and summaries to its log, of which nothing else is shown."""
    figures(lit_ft, *fit_args, "--trainer.profiler=simple")
    shown = {
        name: logging.getLogger(f"lightning.pytorch.{name}").isEnabledFor(logging.INFO)
        for name in (
            "profilers.profiler",
            "callbacks.model_summary",
            "trainer.connectors",
            "utilities.rank_zero",
        )
    }
    assert list(shown.values()) == [True, True, False, False]


def test_a_dry_run_keeps_nothing_but_the_config(lit_ft, fit_args):
    for value in ("true", "2"):
        code, out, err = lit_ft("fit", *fit_args, f"--trainer.fast_dev_run={value}")
        assert code == 0 and "fast_dev_run" in out, err


CLIPPED = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true", "16-true")


class Gradients(Callback):
    """Those that the optimizer has just used, step by step: their norm and the largest of them."""

    seen: ClassVar[list[tuple[float, float]]] = []

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        gradients = [p.grad.double() for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            norm = float(torch.nn.utils.get_total_norm(gradients))
            self.seen.append((norm, max(float(g.abs().max()) for g in gradients)))
            assert optimizer.defaults["fused"], "no precision of a CPU scales gradients"


@pytest.mark.parametrize("precision", CLIPPED)
def test_gradients_are_clipped_under_every_precision(precision, lit_ft, fit_args):
    def fit(*flags: str) -> list[tuple[float, float]]:
        Gradients.seen.clear()
        own = f"--trainer.callbacks={__name__}.Gradients"
        code, _, err = lit_ft(
            "fit", *fit_args, "--trainer.max_epochs=1", f"--trainer.precision={precision}", own, *flags
        )
        assert code == 0 and len(Gradients.seen) >= 8, err
        return list(Gradients.seen)

    assert all(norm > 0.11 and largest > 0.0011 for norm, largest in fit())
    assert all(norm == pytest.approx(0.1, rel=0.02) for norm, _ in fit("--trainer.gradient_clip_val=0.1"))
    value = fit("--trainer.gradient_clip_val=0.001", "--trainer.gradient_clip_algorithm=value")
    assert all(largest == pytest.approx(0.001, rel=0.02) for _, largest in value)


def test_float16_weights_learn(lit_ft, fit_args):
    """AdamW's own eps is 0 in float16: the loss was no number after eight steps."""
    found, _, _ = figures(lit_ft, *fit_args, "--trainer.precision=16-true", "--trainer.max_epochs=4")
    assert found["train/epoch_loss"] < 1.45  # ln 5 is 1.61


def test_mixed_float16_on_a_cpu_is_told(lit_ft, fit_args):
    _, _, err = figures(lit_ft, *fit_args, "--trainer.precision=16-mixed")
    assert "trainer.precision 16-mixed is computed as bf16-mixed on a CPU" in err


def test_a_precision_plugin_says_the_precision(lit_ft, fit_args):
    plugin = ["--trainer.plugins=MixedPrecision", "--trainer.plugins.precision=bf16-mixed"]
    flags = [*plugin, "--trainer.plugins.device=cpu", "--trainer.precision=null"]
    found, _, _ = figures(lit_ft, *fit_args, *flags)
    assert found == figures(lit_ft, *fit_args, "--trainer.precision=bf16-mixed")[0]
