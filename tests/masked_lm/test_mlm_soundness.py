"""A run that has gone wrong ends in one line, and what it leaves is whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, free_port
from mlm_tiny import make_trainer

from lit_ft.errors import UserError
from lit_ft.masked_lm.resume import fault_of
from lit_ft.masked_lm.trainer import MaskedLMTrainer

CHECKPOINTS = Path("runs/small/version_0/checkpoints")
STEPS = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 4}


def spoil_loss_at(monkeypatch, step: int, factor: float = float("nan")) -> None:
    unharmed = MaskedLMTrainer.compute_loss

    def compute_loss(self, *args, **kwargs):
        loss = unharmed(self, *args, **kwargs)
        return loss * factor if self.state.global_step == step else loss

    monkeypatch.setattr(MaskedLMTrainer, "compute_loss", compute_loss)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_non_finite_training_loss(factor, accumulation, tmp_path, monkeypatch):
    """transformers would log the average of the others instead, and continue."""
    settings = {**STEPS, "gradient_accumulation_steps": accumulation, "num_train_epochs": 9}
    trainer = make_trainer(tmp_path, settings=settings)
    spoil_loss_at(monkeypatch, 5, factor)
    with pytest.raises(
        UserError, match=rf"the loss is {factor} at step 5, in rows .*; the last good .*checkpoint-4;"
    ):
        trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())  # the optimizer has not seen it
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-4"}


def test_a_checkpoint_of_the_step_that_failed_is_not_called_good(tmp_path, monkeypatch):
    spoil_loss_at(monkeypatch, 4)
    with pytest.raises(UserError, match=r"nan at step 4, in .*; the last good checkpoint is .*checkpoint-2;"):
        make_trainer(tmp_path, settings=STEPS).train()


def test_a_non_finite_gradient(tmp_path):
    trainer = make_trainer(tmp_path, settings=STEPS)
    trainer.model.cls.predictions.bias.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(
        UserError, match="the gradient norm is inf at step 0, in .*; no earlier checkpoint was saved"
    ):
        trainer.train()
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


@pytest.mark.parametrize("sampling", ["random", "group_by_length"])
def test_the_rows_of_a_step_are_those_that_were_computed(sampling, tmp_path, monkeypatch):
    """In the middle of the second epoch, with accumulation."""
    settings = {"max_steps": 8, "num_train_epochs": 9, "gradient_accumulation_steps": 2}
    settings |= {"per_device_train_batch_size": 4, "train_sampling_strategy": sampling}
    trainer = make_trainer(tmp_path, settings=settings)
    computed: dict[int, int] = {}
    unharmed = MaskedLMTrainer.compute_loss

    def compute_loss(self, model, inputs, *args, **kwargs):
        step = self.state.global_step
        computed[step] = computed.get(step, 0) + int(inputs["attention_mask"].sum())
        return unharmed(self, model, inputs, *args, **kwargs) * (float("nan") if step == 6 else 1)

    monkeypatch.setattr(MaskedLMTrainer, "compute_loss", compute_loss)
    with pytest.raises(UserError, match="the loss is nan at step 6, in rows "):
        trainer.train()
    assert trainer.state.epoch > 1
    rows = trainer.train_dataset.select(trainer.epoch_start.rows_of_step(6))
    assert len(rows) == 8 and sum(map(len, rows["input_ids"])) == computed[6]


def test_steps_are_skipped_and_counted(tmp_path, monkeypatch, capfd):
    trainer = make_trainer(tmp_path, settings=STEPS, on_nonfinite="skip")
    spoil_loss_at(monkeypatch, 2)
    before: list[torch.Tensor] = []
    check = trainer.soundness.check
    monkeypatch.setattr(
        trainer.soundness,
        "check",
        lambda *args: (before.append(trainer.model.cls.predictions.bias.detach().clone()), check(*args)),
    )
    trainer.train()
    assert trainer.state.global_step == 6 and trainer.soundness.steps.count == 1
    assert torch.equal(before[2], before[3]) and not torch.equal(before[3], before[4])
    assert "warning: step 2 is skipped: the loss is nan in rows " in capfd.readouterr().err


def test_a_non_finite_evaluation(tmp_path):
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.model.cls.predictions.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="the validation loss is nan at step 0"):
        trainer.evaluate()


def test_a_learning_rate_far_too_high_is_one_line(lit_ft, sft_args):
    flags = ["--model.learning_rate", "1e8", "--model.warmup_share", "0"]
    code, _, err = lit_ft("sft", *sft_args, *flags)
    assert code == 2, err
    line = err.splitlines()[-1]
    assert line.startswith("lit_ft: error: the ") and " at step " in line, err
    assert "lower --model.learning_rate" in line and "no earlier checkpoint was saved" in line
    assert not (CHECKPOINTS.parent / "model").exists() and not list(CHECKPOINTS.iterdir())


def test_the_last_checkpoint_is_saved_after_its_evaluation(lit_ft, sft_args, monkeypatch):
    """Or the weights of a last step that went wrong would be kept."""
    unharmed = MaskedLMTrainer.evaluation_loop

    def evaluation_loop(self, *args, **kwargs):
        with torch.no_grad():
            if self.state.global_step == 4:
                self.model.cls.predictions.bias.fill_(float("nan"))
        return unharmed(self, *args, **kwargs)

    monkeypatch.setattr(MaskedLMTrainer, "evaluation_loop", evaluation_loop)
    for strategy in ("no", "epoch"):
        flags = ["--max_steps", "4", "--save_steps", "3", "--eval_strategy", strategy, "--name", strategy]
        code, _, err = lit_ft("sft", *sft_args, *flags)
        assert code == 2 and "the validation loss is nan at step 4; the last good checkpoint is runs/" in err
        saved = Path(f"runs/{strategy}/version_0/checkpoints")
        assert [p.name for p in saved.iterdir()] == ["checkpoint-3"]


@pytest.mark.slow
def test_if_one_process_fails_all_of_them_end(sft_args, work):
    (work / "spoilt.py").write_text(SPOIL)
    port = str(free_port())
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port, "spoilt.py"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *launch, "sft", *sft_args, "--data.batch_size", "4"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode != 0
    assert "lit_ft: error: the loss is nan at step 3, in rows " in done.stderr, done.stderr[-3000:]
    assert not Path("runs/small/version_0/metrics.json").exists()


SPOIL = """
import os, sys
from lit_ft.__main__ import main
from lit_ft.masked_lm.trainer import MaskedLMTrainer
unharmed = MaskedLMTrainer.compute_loss
def compute_loss(self, *args, **kwargs):
    loss = unharmed(self, *args, **kwargs)
    return loss * float("nan") if self.state.global_step == 3 and os.environ["RANK"] == "1" else loss
MaskedLMTrainer.compute_loss = compute_loss
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def full_at_step_4(monkeypatch):
    """Half of the second checkpoint is written, then nothing more of it."""
    unharmed = torch.save

    def save(values, path, *args, **kwargs):
        if "checkpoint-4" in str(path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
        unharmed(values, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save)


def test_a_full_disk_leaves_no_half_checkpoint(full_at_step_4, tmp_path, capfd):
    with pytest.raises(RuntimeError, match="inline_container"):
        make_trainer(tmp_path, settings=STEPS).train()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]
    assert fault_of(tmp_path / "checkpoint-2") is None
    warning = f"{tmp_path}/checkpoint-4 could not be written and is removed; the last good checkpoint is "
    assert f"warning: {warning}{tmp_path}/checkpoint-2\n" in capfd.readouterr().err


def test_an_older_checkpoint_goes_once_the_new_one_is_whole(tmp_path, monkeypatch):
    from lit_ft.masked_lm import checkpoints as mlm_saving

    unharmed = mlm_saving.seal

    def seal(folder):
        if folder.name == "checkpoint-4":
            raise OSError(28, "No space left on device")
        unharmed(folder)

    monkeypatch.setattr(mlm_saving, "seal", seal)
    with pytest.raises(OSError, match="No space left"):
        make_trainer(tmp_path, settings={**STEPS, "save_total_limit": 1}).train()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-2"]
    assert fault_of(tmp_path / "checkpoint-2") is None


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, {4, 8}), (3, {4, 6, 8}), (4, {2, 4, 6, 8}), (None, {2, 4, 6, 8, 20})]
)
def test_the_oldest_checkpoints_go_but_not_the_best(limit, kept, tmp_path):
    from lit_ft.masked_lm.checkpoints import remove_old

    for step in (2, 4, 6, 8, 20):  # the last one is from before the run was resumed
        (tmp_path / f"checkpoint-{step}").mkdir()
    remove_old(tmp_path / "checkpoint-8", limit, "elsewhere/checkpoint-4")
    assert {p.name for p in tmp_path.iterdir()} == {f"checkpoint-{step}" for step in kept}


def test_a_checkpoint_is_written_once(tmp_path, monkeypatch):
    """A timed save at an epoch's last step, then one at its end: the first is kept as it is."""
    from transformers import TrainerCallback

    from lit_ft.masked_lm import checkpoints as mlm_saving

    class Clock(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_save = state.global_step in (3, 6)

    sealed = []
    monkeypatch.setattr(mlm_saving, "seal", lambda folder: sealed.append(folder.name))
    settings = {"num_train_epochs": 2, "save_strategy": "epoch", "per_device_train_batch_size": 4}
    make_trainer(tmp_path, callbacks=[Clock()], settings=settings).train()
    assert sealed == ["checkpoint-3", "checkpoint-6", "checkpoint-12"]


def test_a_run_continues_on_a_full_disk_if_asked_to(full_at_step_4, tmp_path, monkeypatch, capfd):
    trainer = make_trainer(tmp_path, settings=STEPS)
    trainer.on_full_disk = "go_on"
    trainer.train()
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint-2", "checkpoint-6"}
    assert "checkpoint-4 could not be written and is removed" in capfd.readouterr().err
    monkeypatch.setattr(torch, "save", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # not an error of the disk
        trainer.train()
