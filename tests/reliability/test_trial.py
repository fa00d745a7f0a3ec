"""The trial forward pass: it changes nothing, turns a failure into one line, and leaves no folder."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import one_line
from families import family
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertForSequenceClassification, BertModel

from lit_ft.reliability.trial import at_rest, in_training_mode
from lit_ft.report.page import read_curves


def losses(run: str) -> list:
    curves = read_curves(Path(run))
    return [curves["train/loss"], curves["val/loss"]]


@pytest.fixture
def forwards(monkeypatch) -> list[tuple[int, int]]:
    """The shapes of all batches that the encoder sees without gradients, in eval mode."""
    shapes, forward = [], BertModel.forward

    def counted(self, input_ids, *args, **kwargs):
        if not self.training and not torch.is_grad_enabled():
            shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids, *args, **kwargs)

    monkeypatch.setattr(BertModel, "forward", counted)
    return shapes


def test_a_fit_is_the_same_with_and_without(lit_ft, fit_args, monkeypatch, forwards):
    short = [*fit_args, "--trainer.max_epochs", "1"]
    assert lit_ft("fit", *short, "--name", "with")[0] == 0
    assert forwards[0][0] == 2  # two rows, before everything else
    for module in ("lit_ft.commands.fit", "lit_ft.classifier.model"):
        monkeypatch.setattr(f"{module}.try_classifier", lambda *args: None)
    assert lit_ft("fit", *short, "--name", "without")[0] == 0
    assert losses("runs/with/version_0") == losses("runs/without/version_0")


def test_an_sft_is_the_same_with_and_without(lit_ft, sft_args, monkeypatch, forwards):
    short = [*sft_args, "--max_steps", "4", "--logging_steps", "1", "--probes", "[]"]
    assert lit_ft("sft", *short, "--name", "with")[0] == 0
    assert forwards[0][0] == 2
    monkeypatch.setattr("lit_ft.masked_lm.run.try_masked_lm", lambda *args: None)
    assert lit_ft("sft", *short, "--name", "without")[0] == 0
    assert losses("runs/with/version_0") == losses("runs/without/version_0")


def refuse(*args):
    raise AssertionError("tried again")


def test_not_again_on_resume_of_a_fit(lit_ft, fit_args, monkeypatch):
    fit = ["fit", *fit_args, "--trainer.max_epochs", "1"]
    assert lit_ft(*fit)[0] == 0
    monkeypatch.setattr("lit_ft.commands.fit.try_classifier", refuse)
    assert lit_ft(*fit, "--ckpt_path", "last")[0] == 0
    assert lit_ft("test", *fit_args)[0] == 0


def test_not_again_on_resume_of_an_sft(lit_ft, sft_args, monkeypatch):
    sft = ["sft", *sft_args, "--max_steps", "2", "--probes", "[]"]
    assert lit_ft(*sft)[0] == 0
    monkeypatch.setattr("lit_ft.masked_lm.run.try_masked_lm", refuse)
    assert lit_ft(*sft, "--ckpt_path", "last")[0] == 0


def test_modes_random_states_and_buffers_are_as_before():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(), torch.nn.BatchNorm1d(2))
    net.train()
    net[1].eval()
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    mean = net[2].running_mean.clone()
    with at_rest(net):
        assert not any(module.training for module in net.modules()) and not torch.is_grad_enabled()
        with in_training_mode(net):
            net(torch.rand(8, 2))
            assert net.training and not torch.equal(net[2].running_mean, mean)
        torch.rand(3), random.random(), np.random.seed(3)
    assert torch.equal(net[2].running_mean, mean)
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert torch.equal(torch.random.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all() and torch.is_grad_enabled()


@pytest.mark.parametrize("command", ["fit", "sft"])
def test_what_a_model_cannot_do_is_one_line(command, lit_ft, request, monkeypatch):
    def forward(self, *args, **kwargs):
        raise ValueError("Input language unknown.\nPlease call something.")

    for kind in (BertForSequenceClassification, BertForMaskedLM):
        monkeypatch.setattr(kind, "forward", forward)
    args = request.getfixturevalue(f"{command}_args")
    line = one_line(lit_ft(command, *args))
    assert "fails on texts of " in line and "(ValueError: Input language unknown)" in line
    assert "set --model.pretrained" in line and not Path("runs").exists()


@pytest.mark.parametrize("command", ["fit", "sft"])
def test_weights_that_are_no_numbers(command, lit_ft, request, encoder, work):
    shutil.copytree(encoder, "damaged")
    weights = load_file("damaged/model.safetensors")
    weights["encoder.layer.1.output.dense.weight"][:] = float("nan")
    save_file(weights, "damaged/model.safetensors", {"format": "pt"})
    args = request.getfixturevalue(f"{command}_args")
    line = one_line(lit_ft(command, *args, "--model.pretrained", "./damaged"))
    assert "./damaged gives NaN or infinite logits for a text of" in line and not Path("runs").exists()


def test_logits_of_another_shape(lit_ft, fit_args, monkeypatch):
    forward = BertForSequenceClassification.forward

    def other(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = output.logits[:, None]
        return output

    monkeypatch.setattr(BertForSequenceClassification, "forward", other)
    line = one_line(lit_ft("fit", *fit_args))
    assert "expected logits of shape (2, 5)" in line and "found (2, 1, 5)" in line


def test_answers_that_are_drawn(lit_ft, fit_args, monkeypatch):
    forward = BertForSequenceClassification.forward

    def other(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.logits = output.logits + torch.rand(())
        return output

    monkeypatch.setattr(BertForSequenceClassification, "forward", other)
    assert "gives other logits for the same text each time" in one_line(lit_ft("fit", *fit_args))


def test_memory_is_not_the_models_fault(lit_ft, fit_args, monkeypatch):
    def forward(self, *args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(BertForSequenceClassification, "forward", forward)
    assert "the machine's memory ran out" in one_line(lit_ft("fit", *fit_args))


def test_a_masked_lm_that_sees_padding(lit_ft, work, tmp_path, monkeypatch):
    """ConvBERT's convolutions see padding: hardly any with `pack`, but with `truncate`."""
    folder = family("convbert", tmp_path / "m")
    (work / "texts.txt").write_text("the film was good\nthe plot was so very bad and fine\n" * 20)
    args = ["sft", "--config", "sample_sft.yaml", "--data.source", "null", "--data.train_path", "texts.txt"]
    args += ["--model.pretrained", str(folder), "--max_steps", "1", "--probes", "[]"]
    args += ["--data.max_tokens", "16", "--data.layout"]
    code, _, err = lit_ft(*args, "pack")
    assert code == 0 and "padding" not in err, err
    code, _, err = lit_ft(*args, "truncate")
    assert (
        code == 0 and "padding changes the predictions of the model" in err and "--data.layout=pack" in err
    ), err
