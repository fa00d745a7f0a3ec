"""A checkpoint with sound checksums whose content is not what was saved: one line that names what is odd."""

import copy
import json
import zipfile
from pathlib import Path

import pytest
import torch

from lit_ft.classifier.resume import check_form, check_weights
from lit_ft.errors import UserError


def test_weights_that_do_not_fit():
    path, weights = Path("x.ckpt"), {"a": torch.zeros(2, 3), "n": torch.tensor(1)}
    check_weights(weights, {"a": torch.ones(2, 3, dtype=torch.float16), "n": torch.tensor(2)}, path)
    odd = {
        "(2, 3) real, found (3, 2) real": torch.zeros(3, 2),
        "(2, 3) real, found (2, 3) torch.int8": torch.zeros(2, 3, dtype=torch.int8),
        "weight a, found none": None,
        "a tensor for the weight a, found a list": [0.0],
        "weight a, found one of layout torch.sparse_coo": torch.zeros(2, 3).to_sparse(),
    }
    for message, value in odd.items():
        with pytest.raises(UserError) as caught:
            check_weights(weights, {**weights, "a": value}, path)
        assert message in str(caught.value) and "x.ckpt" in str(caught.value)
    with pytest.raises(UserError, match="expected no weight more, found one"):
        check_weights(weights, {**weights, "more": torch.zeros(1)}, path)


@pytest.fixture
def saved(lit_ft, fit_args) -> dict:
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    return torch.load("runs/small/version_0/checkpoints/last.ckpt", weights_only=True)


def change(checkpoint: dict, path: str, value: object) -> None:
    """Write `odd.ckpt` with another value there, or none where it is `...`."""
    odd = copy.deepcopy(checkpoint)
    node = odd
    *groups, name = path.split("/")
    for group in groups:
        node = node[group]
    if value is ...:
        del node[name]
    else:
        node[name] = value
    torch.save(odd, "odd.ckpt")


ODD = [
    ("test", "YelpDataModule", ..., "expected YelpDataModule (dict), found nothing"),
    ("test", "YelpDataModule/labels", None, "expected YelpDataModule.labels (dict), found NoneType"),
    ("test", "YelpDataModule/labels", {"task": "single_label"}, "labels.values (list), found nothing"),
    ("test", "YelpDataModule/labels", {"task": "x"}, "expected labels of the task single_label, "),
    ("test", "YelpDataModule/labels/names", ["a"], "found 5 labels and 1 names"),
    ("test", "YelpDataModule/tokenizer", {"tokenizer.json": "x"}, "the checkpoint odd.ckpt cannot be used ("),
    ("test", "global_step", "x", "expected global_step (int), found str"),
    ("test", "pytorch-lightning_version", 0.5, "expected pytorch-lightning_version, found 0.5"),
    ("test", "pytorch-lightning_version", "x", "expected pytorch-lightning_version, found 'x'"),
    ("test", "temperature", -1.0, "expected a temperature above 0, found -1.0"),
    ("test", "settings/data", ..., "expected settings.data (dict), found nothing"),
    (
        "test",
        "settings/data/max_tokens",
        ...,
        "the checkpoint odd.ckpt cannot be used (KeyError: 'max_tokens')",
    ),
    ("test", "settings/data/max_tokens", "x", "the checkpoint odd.ckpt cannot be used ("),
    ("test", "encoder_config/num_hidden_layers", 10**12, "at most 1000 layers"),
    ("test", "encoder_config/hidden_size", -1, "the checkpoint odd.ckpt cannot be used ("),
    (
        "test",
        "encoder_config/model_type",
        ...,
        "the checkpoint odd.ckpt cannot be used (KeyError: 'model_type')",
    ),
    (
        "test",
        "state_dict/net.classifier.weight",
        ...,
        "expected a tensor for the weight net.classifier.weight, found none",
    ),
    ("test", "state_dict/net.classifier.weight", torch.zeros(5, 7), "(5, 32) real, found (5, 7) real"),
    ("predict", "state_dict/net.classifier.bias", torch.zeros(0), "(5,) real, found (0,) real"),
    ("fit", "optimizer_states", ..., "found weights alone in odd.ckpt"),
    ("fit", "optimizer_states", [], "found weights alone in odd.ckpt"),
    ("fit", "lr_schedulers", [{"lr_lambdas": [True] * 9}], "the checkpoint odd.ckpt cannot be used ("),
]


def test_odd_checkpoints_are_one_line(saved, lit_ft, fit_args):
    check_form(saved, Path("x.ckpt"))
    before = sorted(Path("runs").rglob("*"))
    flags = ["--data.predict_path", "test.csv", "--data.predict_output", "out.csv"]
    for command, path, value, message in ODD:
        change(saved, path, value)
        code, out, err = lit_ft(
            command, *fit_args, *flags, "--trainer.max_epochs", "1", "--ckpt_path", "odd.ckpt"
        )
        assert code == 2 and message in err and err.count("\n") == 1, (path, err)
        assert "odd.ckpt" in err or "layers" in err
    assert sorted(Path("runs").rglob("*")) == before and not Path("out.csv").exists()


def test_code_in_a_checkpoint_is_not_run(saved, lit_ft, fit_args):
    for place in ("settings", "state_dict", "more"):
        torch.save({**saved, place: Code()}, "odd.ckpt")
        for command in ("test", "fit"):
            code, _, err = lit_ft(command, *fit_args, "--ckpt_path", "odd.ckpt")
            assert code == 2 and "odd.ckpt cannot be opened as weights alone" in err, err
            assert err.isprintable() is False and err.count("\n") == 1 and "\x1b" not in err
    assert not Path("sentinel").exists()


class Code:
    def __reduce__(self):
        return exec, ("open('sentinel', 'w').close()",)


def test_averaged_weights_are_measured(saved, lit_ft, fit_args):
    """Another program may write weights, and leave out what only a resumption needs."""
    state = {
        name: value + 0.01 if value.is_floating_point() else value
        for name, value in saved["state_dict"].items()
    }
    torch.save({**saved, "state_dict": state, "optimizer_states": [], "lr_schedulers": []}, "mean.ckpt")
    code, out, err = lit_ft("test", *fit_args, "--ckpt_path", "mean.ckpt")
    assert code == 0 and "test/accuracy" in out, err
    assert json.loads(Path("runs/small/version_0/metrics.json").read_text())["val/step"]


def test_a_record_of_another_size(saved, lit_ft, fit_args):
    """All checksums hold, but the storage is shorter than the tensor in it."""
    with (
        zipfile.ZipFile("runs/small/version_0/checkpoints/last.ckpt") as whole,
        zipfile.ZipFile("odd.ckpt", "w") as odd,
    ):
        for name in whole.namelist():
            odd.writestr(name, b"x" * 100 if name.endswith("data/1") else whole.read(name))
    code, _, err = lit_ft("test", *fit_args, "--ckpt_path", "odd.ckpt")
    assert code == 2 and "the checkpoint odd.ckpt cannot be used (RuntimeError: record size" in err
