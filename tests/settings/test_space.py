"""What a search may choose: ranges and lists, and the line that each mistake gets."""

from pathlib import Path

import pytest

from lit_ft.errors import UserError
from lit_ft.settings.space import Choices, Range, as_flag, read_space

KEYS = [
    *("config", "seed_everything", "name", "monitor", "data", "data.batch_size", "data.source", "model"),
    *("model.learning_rate", "model.class_weights", "model.weight_decay", "trainer", "trainer.devices"),
    "trainer.callbacks",
]


def read(text: str) -> dict:
    Path("space.yaml").write_text(text)
    return {entry.key: entry.what for entry in read_space("space.yaml", KEYS)}


def test_forms():
    space = read(
        """\
model.learning_rate: {low: 1e-5, high: 3e-4, log: true}   # YAML 1.1 reads 1e-5 as a text
model:
  weight_decay: {low: 0, high: 0.2, step: 0.1}
  class_weights: [null, balanced, [1, 2], {a: 1e-1}]
data.batch_size: {low: 16, high: 64, step: 16}
trainer.callbacks:
  - []
  - - class_path: EarlyStopping
"""
    )
    assert space["model.learning_rate"] == Range(1e-5, 3e-4, log=True)
    assert space["data.batch_size"] == Range(16, 64, step=16, whole=True)
    assert space["model.class_weights"] == Choices(("null", "balanced", "[1, 2]", '{"a": 0.1}'))
    assert space["trainer.callbacks"].values == ("[]", '[{"class_path": "EarlyStopping"}]')
    decay = space["model.weight_decay"]
    assert str(decay) == "0 to 0.2, step 0.1" and not decay.whole
    assert [decay.holds(v) for v in (0, 0.1, 0.15, 0.3, True, None)] == [True, True, *[False] * 4]
    assert as_flag(decay.rounded(0.1 + 0.1 + 0.02)) == "0.2"
    assert space["model.learning_rate"].rounded(1.23456e-4) == 1.235e-4


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("model.lr: [1e-3, 1e-4]", "unknown key model.lr in space.yaml, line 1; did you mean model.learn"),
        ("model: [1, 2]", "space.yaml, line 1: expected settings indented below 'model:', found a value"),
        ("\nseed_everything: [1, 2]", "space.yaml, line 2: seed_everything is not searched: it is luck"),
        ("data:\n  source: [a, b]", "space.yaml, line 2: data.source is not searched: it changes the texts"),
        ("trainer.devices: [1, 2]", "trainer.devices is not searched: it is a matter of the machine"),
        ("model.learning_rate: 1e-3", "rate: expected several values, found '1e-3'; write a range"),
        ("model.learning_rate:", "model.learning_rate: expected several values, found nothing"),
        ("data.batch_size: [8]", "expected two values or more, found only 8, which is no choice"),
        ("data.batch_size: []", "expected two values or more, found an empty list"),
        ("data.batch_size: [8, 16, 8]", "data.batch_size: 8 is given twice; leave one out"),
        ("model.learning_rate: {low: 1e-3}", "expected low and high, found no high"),
        ("model.learning_rate: {low: 1, hihg: 2}", "found 'hihg'; did you mean high?"),
        ("model.learning_rate: {low: 2, high: 1}", "low below high, found 2 and 1; exchange the two"),
        ("model.learning_rate: {low: 1, high: 1}", "found 1 and 1; one value is not searched"),
        ("model.learning_rate: {low: 0, high: 1, log: on}", "expected low above 0 with log, found 0"),
        ("model.learning_rate: {low: 1, high: 2, log: 1}", "rate.log: expected true or false, found 1"),
        ("model.learning_rate: {low: 1, high: 9, log: true, step: 2}", "expected log or step, found both"),
        ("model.learning_rate: {low: a, high: 1}", "model.learning_rate.low: expected a number, found 'a'"),
        ("model.learning_rate: {low: 0, high: .inf}", "rate.high: expected a number, found '.inf'"),
        ("data.batch_size: {low: 010, high: 20}", "data.batch_size.low: found 010, which YAML reads as 8"),
        ("model.weight_decay: {low: 0, high: 1, step: 0.3}", "steps of 0.3 lead to 0.9, not to 1; write"),
        ("model.weight_decay: {low: 0, high: 1, step: -1}", "expected a step above 0 and up to 1, found -1"),
        ("data.batch_size: [1, 2]\ndata.batch_size: [3, 4]", "line 2: 'data.batch_size' is given twice (al"),
        ("data.batch_size: [1, 2]\ndata:\n  batch_size: [3, 4]", "data.batch_size is given twice"),
        ("[1, 2]", "expected a mapping of settings such as 'data:', found a list"),
        ("", "expected settings to search, found none"),
        ("# nothing", "expected settings to search, found none"),
        ("data:", "expected settings indented below 'data:', found nothing"),
        ("model.learning_rate: {min: 1, high: 2}", "found 'min'; write low"),
        ("model.learning_rate: {values: [1, 2]}", "found 'values'; write the list alone, [16, 32]"),
        ("parameters: {}", "unknown key parameters in space.yaml, line 1; write the settings at the top"),
        ("model: {}", "expected settings to search, found none"),
    ],
)  # fmt: skip
def test_mistakes(text, line):
    with pytest.raises(UserError) as caught:
        read(text)
    assert line in str(caught.value)
    assert "space.yaml" in str(caught.value) and "\n" not in str(caught.value)
