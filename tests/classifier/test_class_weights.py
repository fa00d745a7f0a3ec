"""The weight of each class: by place, by name, or balanced; and one line for what is none of these."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import one_line, write_csv

from lit_ft.classifier.loss import weights_of
from lit_ft.errors import UserError

NEG_POS = ("neg", "pos")


@pytest.mark.parametrize(
    "setting, names, expected",
    [
        (None, NEG_POS, [1, 1]),
        ([1, 5], NEG_POS, [1, 5]),
        ({"pos": 5, "neg": 1}, NEG_POS, [1, 5]),
        ({2: 0.5, 1: 2.0}, ("1", "2"), [2, 0.5]),
        ({1.0: 3, "2": 4}, ("1", "2"), [3, 4]),
        ({True: 5, False: 1}, ("false", "true"), [1, 5]),  # YAML's true
        ({"01": 1, "02": 2}, ("02", "01"), [2, 1]),
        ("balanced", NEG_POS, [2, 2 / 3]),
    ],
)
def test_weights(setting, names, expected):
    assert weights_of(setting, names, [1, 3]).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    "setting, part",
    [
        ({"neg": 1}, "found none of pos"),
        ({"neg": 1, "pos": 1, "neutral": 2}, "the classes neg, pos, found 'neutral', which is none"),
        ({False: 1, "pos": 2}, "found False, which is none of them; write it in quotes"),
        ({"neg": 1, "pos": -1}, "model.class_weights of 0 or more"),
        ({}, "found none of neg, pos"),
        ([], "expected 2 model.class_weights (neg, pos), found 0"),
    ],
)
def test_weights_that_are_none(setting, part):
    with pytest.raises(UserError) as caught:
        weights_of(setting, NEG_POS, None)
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_two_weights_of_one_class():
    with pytest.raises(UserError, match="found two for '1'"):
        weights_of({1: 2.0, "1.0": 3.0, 2: 1}, ("1", "2"), None)


def test_weights_by_name_last_as_long_as_the_run(lit_ft, fit_args, work):
    write_csv(work / "named.csv", [(("neg", "pos")[i % 2], f"the film was great {i}") for i in range(40)])
    Path("weights.yaml").write_text("model:\n  class_weights: {pos: 5, neg: 1}\n")
    args = [*fit_args, "--data.train_path", "named.csv", "--data.test_path", "named.csv"]
    code, _, err = lit_ft("fit", *args, "--config", "weights.yaml", "--trainer.max_epochs", "1")
    assert code == 0, err
    run = Path("runs/small/version_0")
    weights = {"pos": 5.0, "neg": 1.0}
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert state["state_dict"]["class_weights"].tolist() == [1, 5]
    assert state["settings"]["model"]["class_weights"] == weights
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["class_weights"] == weights
    assert lit_ft("test", *args, "--ckpt_path", str(run / "checkpoints/best.ckpt"))[0] == 0
    again = ["fit", "--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")]
    assert lit_ft(*again)[0] == 0
    other = json.dumps({"pos": 1, "neg": 1})
    assert "model.class_weights" in one_line(lit_ft(*again, "--model.class_weights", other))
    Path("stars.yaml").write_text("model:\n  class_weights: {1: 2, 2: 1, 3: 1, 4: 1, 5: 0.5}\n")
    assert lit_ft("fit", *fit_args, "--config", "stars.yaml", "--trainer.max_epochs", "1")[0] == 0
    state = torch.load("runs/small/version_1/checkpoints/last.ckpt", weights_only=True)
    assert state["state_dict"]["class_weights"].tolist() == [2, 1, 1, 1, 0.5]
    wrong = one_line(lit_ft("fit", *args, "--model.class_weights", '{"neg": 1, "positive": 5}'))
    assert "neg, pos" in wrong and "'positive'" in wrong
