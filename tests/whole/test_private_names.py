"""Private names of libraries: each is known here, and there in the versions that are installed.

They may go in any release. Where one is gone this fails; where a run would go on wrongly, it says so itself.
"""

import argparse
import ast
import atexit
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from datasets import Dataset
from jsonargparse import ArgumentParser
from lightning import Trainer
from lightning.pytorch.cli import LightningCLI
from mlm_tiny import build, make_trainer
from torch.utils.tensorboard import SummaryWriter
from transformers import PretrainedConfig
from trl import SFTTrainer

from lit_ft.masked_lm import trainer as mlm_trainer
from lit_ft.masked_lm.trainer import MaskedLMTrainer
from lit_ft.speed import attention

PACKAGE = Path(__file__).parents[2] / "lit_ft"


@pytest.fixture(scope="module")
def owners() -> dict[str, Any]:
    """Each name that the package takes from a library -> what has it there."""
    trainer = Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False)
    table, epoch = Dataset.from_dict({"a": [1]}), trainer.fit_loop.epoch_loop
    parser = ArgumentParser()
    typed = parser.add_argument("--number", type=int | None)
    return {
        "_HelpAction": argparse,
        "_accelerator_connector": trainer,
        "_actions": parser,
        "_attn_implementation": PretrainedConfig(),
        "_callback_metrics": trainer._logger_connector,
        "_can_stop_early": trainer.fit_loop,
        "_checkpoint_connector": trainer,
        "_data_fetcher": trainer.fit_loop,
        "_fingerprint": table,
        "_flash_attention_forward": torch.ops.aten,
        "_get_file_writer": SummaryWriter,
        "_get_grad_norm": SFTTrainer,
        "_get_train_sampler": SFTTrainer,
        "_indices": table,
        "_is_training_done": epoch,
        "_load_best_model": SFTTrainer,
        "_logger_connector": trainer,
        "_name_parser_map": parser.add_subcommands(required=False),
        "_run_exitfuncs": atexit,
        "_save_checkpoint": SFTTrainer,
        "_should_accumulate": trainer.fit_loop,
        "_should_check_val_fx": epoch,
        "_signal_connector": trainer,
        "_softmax_backward_data": torch.ops.aten,
        "_step_supports_amp_scaling": torch.optim.AdamW([torch.zeros(1, requires_grad=True)], fused=True),
        "_subcommands_action": parser,
        "_typehint": typed,
        "_val_check_time_interval": trainer,
        "_epoch": None,  # our own collator's
        "_units": None,  # the same one's
        "_file": None,  # our own writer's
        "_experts_implementation": None,  # perhaps in a config
        "_exit": None,  # Python's os
        "_storage": optuna.create_study(),
        "_trial_id": optuna.trial.create_trial(value=1.0),
        "_parser": LightningCLI,
    }


def private_names() -> set[str]:
    """Those that the package reads or sets on something else than itself, or that `getattr` does."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and not (
                isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            ):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and "attr" in node.func.id:
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)} - {None}
    return {name for name in found if str(name).startswith("_") and not str(name).startswith("__")}


def test_private_names_are_known_and_there(owners):
    assert private_names() - owners.keys() == set(), "add it above"
    gone = [name for name, owner in owners.items() if owner is not None and not hasattr(owner, name)]
    assert gone == []


@pytest.mark.parametrize("name", mlm_trainer.PRIVATE_NAMES)
def test_sft_says_which_name_is_gone(name, tmp_path, monkeypatch, capfd):
    make_trainer(tmp_path)
    assert capfd.readouterr().err == ""
    monkeypatch.setitem(mlm_trainer.PRIVATE_NAMES, f"{name}_of_old", mlm_trainer.PRIVATE_NAMES[name])
    make_trainer(tmp_path)
    said = f"has no Trainer.{name}_of_old, on which {mlm_trainer.PRIVATE_NAMES[name]} depends"
    assert said in capfd.readouterr().err


def test_sft_says_that_no_step_was_looked_at(tmp_path, monkeypatch, capfd):
    """The method is still there, and called no more."""
    monkeypatch.setattr(MaskedLMTrainer, "_get_grad_norm", lambda self, model, grad_norm=None: 1.0)
    make_trainer(tmp_path, settings={"max_steps": 4}).train()
    said = capfd.readouterr().err
    assert said.count("takes steps without Trainer._get_grad_norm") == 1, said


def test_a_looked_at_run_says_nothing(tmp_path, capfd):
    make_trainer(tmp_path, settings={"max_steps": 4, "gradient_accumulation_steps": 2}).train()
    assert "takes steps without" not in capfd.readouterr().err


def test_without_the_softmax_kernel_the_stock_attention_trains(monkeypatch, capfd):
    monkeypatch.setattr(attention, "softmax_backward", None)
    net, _ = build("bert")
    assert not attention.attend_in_pieces(net)
    assert net.config._attn_implementation == "sdpa"
    assert "has no aten._softmax_backward_data" in capfd.readouterr().err
