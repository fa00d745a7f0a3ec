"""A fit that is stopped and resumed ends as one that was never stopped."""

import json
from pathlib import Path

import pytest
import torch
from conftest import lasting, with_a_flipped_bit
from lightning import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from text_pairs import PAIRS, write_pairs
from transformers import AutoModel


class Killed(BaseException):
    """No mistake of a callback's, which would be told in one line."""


class StopAt(Callback):
    """As if the process were killed before a step; nothing is saved on the way out."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise Killed


def state(name: str) -> dict:
    return torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)


def history(checkpoint: dict) -> dict:
    return next(v for k, v in checkpoint["callbacks"].items() if "LossHistory" in k)


def curves(name: str) -> dict[str, list[tuple[int, float]]]:
    """The scalars as TensorBoard shows them."""
    events = EventAccumulator(f"runs/{name}/version_0").Reload()
    tags = events.Tags()["scalars"]
    clock = set(tags) - lasting(dict.fromkeys(tags)).keys()  # of these the steps only
    return {tag: [(e.step, None if tag in clock else e.value) for e in events.Scalars(tag)] for tag in tags}


PAIRED = [*PAIRS, "--data.train_path", "pairs.csv"]
SETTINGS = {
    "plain": [],
    "workers": ["--data.num_workers", "2"],
    "accumulation": ["--trainer.accumulate_grad_batches", "2"],
    "epoch end": ["--trainer.val_check_interval", "1.0"],
    "pairs, token budget": [*PAIRED, "--data.token_budget", "128", "--data.num_workers", "1"],
    "numbers": ["--data.task", "regression", "--model.loss", "huber"],
    "bfloat16": ["--trainer.precision", "bf16-mixed"],
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_resume_is_bit_identical(settings, lit_ft, fit_args, encoder, work):
    write_pairs(work / "pairs.csv", 100)
    args = [*fit_args, "--trainer.max_epochs", "3", "--trainer.val_check_interval", "4", *settings]
    assert lit_ft("fit", *args, "--name", "whole")[0] == 0
    whole = state("whole")
    stop = whole["global_step"] * 3 // 5 + 1
    stop += stop % 4 == 0  # past a checkpoint: what was logged since must go
    stop_at = [{"class_path": "test_resume.StopAt", "init_args": {"step": stop}}]
    callback = f"--trainer.callbacks={json.dumps(stop_at)}"
    with pytest.raises(Killed):
        lit_ft("fit", *args, "--name", "parts", callback)
    saved = state("parts")["global_step"]
    assert 0 < saved < stop
    torch.rand(3)  # another process would have another random state
    code, out, err = lit_ft("fit", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0, err
    path = "runs/parts/version_0/checkpoints/last.ckpt"
    assert out.startswith(f"resuming at step {saved} of {whole['global_step']} from {path}")
    parts = state("parts")
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, parts["state_dict"][key]), key
    start = AutoModel.from_pretrained(encoder).embeddings.word_embeddings.weight
    assert not torch.allclose(start, whole["state_dict"]["net.bert.embeddings.word_embeddings.weight"])
    assert history(parts) == history(whole)
    read = [json.loads(Path(f"runs/{n}/version_0/metrics.json").read_text()) for n in ("whole", "parts")]
    assert lasting(read[0]) == lasting(read[1])
    assert not Path("runs/parts/version_1").exists()
    assert curves("parts") == curves("whole")


def test_nothing_to_resume_starts_fresh(lit_ft, fit_args):
    code, out, _ = lit_ft("fit", *fit_args, "--ckpt_path", "last", "--trainer.max_epochs", "1")
    assert code == 0
    assert out.startswith("no checkpoint 'last' in runs/small: starting fresh")
    code, out, _ = lit_ft("fit", *fit_args, "--ckpt_path", "last", "--trainer.max_epochs", "1")
    assert code == 0 and out.startswith(
        "resuming at step 10 of 10 from runs/small/version_0/checkpoints/last.ckpt"
    )


@pytest.mark.parametrize(
    "flag, value, message",
    [
        ("--model.learning_rate", "1e-2", "model.learning_rate=0.01 (there 0.003)"),
        ("--data.batch_size", "4", "data.batch_size=4 (there 8)"),
        ("--seed_everything", "7", "seed_everything=7 (there 42)"),
        ("--trainer.max_epochs", "5", "trainer.max_epochs=5 (there 2)"),
    ],
)
def test_other_settings_are_refused(flag, value, message, lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    code, _, err = lit_ft("fit", *fit_args, "--ckpt_path", "last", flag, value)
    assert code == 2 and message in err and err.count("\n") == 1
    code, _, err = lit_ft("fit", *fit_args, "--ckpt_path", "last", "--data.num_workers", "1")
    assert code == 0, err  # changes no weight


def test_changed_training_data_is_refused(lit_ft, fit_args, work):
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    lines = (work / "train.csv").read_text().splitlines()
    (work / "train.csv").write_text("\n".join(lines[:-5]) + "\n")
    code, _, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1", "--ckpt_path", "last")
    assert code == 2 and "the training data is not the checkpoint's" in err and err.count("\n") == 1
    code, _, err = lit_ft("validate", *fit_args)
    assert code == 2 and "rows held out now may have been trained on" in err and err.count("\n") == 1


def test_a_damaged_checkpoint_is_named_and_skipped(lit_ft, fit_args):
    """A flipped bit, which torch.load takes; the best one is the one before, and the run ends the same."""
    args = [*fit_args, "--trainer.val_check_interval", "5", "--monitor", "val/accuracy"]
    assert lit_ft("fit", *args)[0] == 0
    folder = Path("runs/small/version_0/checkpoints")
    whole = state("small")["state_dict"]
    (folder / "last.ckpt").write_bytes(with_a_flipped_bit(folder / "last.ckpt"))
    code, out, err = lit_ft("fit", *args, "--ckpt_path", "last")
    assert code == 0, err
    told = f"{folder}/last.ckpt is damaged or cut off, and skipped for {folder}/best.ckpt"
    assert f"warning: {told}" in err
    assert f"from {folder}/best.ckpt" in out
    again = state("small")["state_dict"]
    assert all(torch.equal(again[key], value) for key, value in whole.items())
