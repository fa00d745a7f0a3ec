import json
from types import SimpleNamespace

import pytest
import torch
from label_objects import classes
from mlm_tiny import byte_tokenizer, word_tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from lit_ft.classifier.metrics import ClassifierMetrics
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.optim import num_training_steps
from lit_ft.errors import UserError
from lit_ft.models import checks as model_checks
from lit_ft.models.load import Pretrained

NAMES = ["1", "2", "3"]


def tiny(kind: str, tokenizer) -> torch.nn.Module:
    common = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 66,
    }
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    if kind == "distilbert":
        return DistilBertForSequenceClassification(
            DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16, **common)
        )
    if kind == "roberta":
        return RobertaForSequenceClassification(RobertaConfig(**common, **bert))
    return BertForSequenceClassification(BertConfig(**common, **bert))


@pytest.fixture(params=["bert", "distilbert", "roberta"])
def folder(request, tmp_path):
    tokenizer = byte_tokenizer() if request.param == "roberta" else word_tokenizer()
    tiny(request.param, tokenizer).half().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_architectures_load_in_float32_and_give_logits(folder):
    model = BertClassifier(str(folder), hidden_dropout=0.3, attention_dropout=0.2, classifier_dropout=0.1)
    model.build(classes(NAMES))
    assert {p.dtype for p in model.parameters()} == {torch.float32}  # the folder holds float16
    assert all(module.training for module in model.net.modules())
    tokenizer = Pretrained.of(str(folder)).tokenizer()
    batch = dict(tokenizer(["the movie was great", "fine"], padding=True, return_tensors="pt"))
    assert model(**batch).shape == (2, 3)
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert {0.3, 0.1} <= rates
    assert json.loads(model.net.config.to_json_string())["id2label"] == {"0": "1", "1": "2", "2": "3"}


@pytest.mark.parametrize("command", ["fit"])
def test_architectures_through_the_command_line(command, folder, lit_ft, fit_args):
    code, _, err = lit_ft(
        command,
        *fit_args,
        "--model.pretrained",
        str(folder),
        "--trainer.max_epochs",
        "1",
        "--data.max_tokens",
        "60",
    )
    assert code == 0, err
    net = AutoModelForSequenceClassification.from_pretrained("runs/small/version_0/model")
    assert net.config.id2label[4] == "5" and net.dtype == torch.float32
    assert lit_ft("test", "--config", "small.yaml", "--model.pretrained", str(folder))[0] == 0


def test_positions_of_roberta_start_after_the_padding(folder):
    pretrained = Pretrained.of(str(folder))
    config = pretrained.config
    limit = model_checks.max_positions(config)
    assert limit == (64 if config.model_type == "roberta" else 66)
    model_checks.check_max_tokens(config, limit)
    with pytest.raises(UserError, match=f"at most {limit}.*found {limit + 1}; set --data.max_tokens={limit}"):
        model_checks.check_max_tokens(config, limit + 1)
    net = pretrained.classifier()
    net(input_ids=torch.full((1, limit), 5))
    with pytest.raises((IndexError, RuntimeError)):
        net(input_ids=torch.full((1, limit + 1), 5))


def test_class_weights(encoder):
    model = BertClassifier(str(encoder), class_weights="balanced")
    model.build(classes(NAMES), class_counts=[10, 30, 60])
    torch.testing.assert_close(model.class_weights, torch.tensor([100 / 30, 100 / 90, 100 / 180]))
    with pytest.raises(UserError, match=r"expected 3 model.class_weights \(1, 2, 3\), found 2: \[1.0, 2.0\]"):
        BertClassifier(str(encoder), class_weights=[1.0, 2.0]).build(classes(NAMES))


def test_loss_with_weights_and_smoothing_by_hand(encoder):
    model = BertClassifier(str(encoder), class_weights=[1.0, 2.0, 4.0], label_smoothing=0.3).eval()
    model.build(classes(NAMES))
    model.net.eval()
    batch = {
        "input_ids": torch.tensor([[2, 7, 3], [2, 8, 3]]),
        "attention_mask": torch.ones(2, 3, dtype=torch.long),
        "labels": torch.tensor([0, 2]),
        "index": torch.tensor([0, 1]),
    }
    logits, loss = model.logits_of(batch), model.training_step(batch, 0)
    log_p, own = logits.log_softmax(-1), torch.tensor([1.0, 4.0])  # each row's weight is its own label's
    targets = torch.full((2, 3), 0.1) + 0.7 * torch.eye(3)[batch["labels"]]
    expected = (own * -(targets * log_p).sum(-1)).sum() / own.sum()
    torch.testing.assert_close(loss, expected)
    model.validation_step(batch, 0)  # figures to compare are of the plain cross-entropy
    plain = -log_p[torch.arange(2), batch["labels"]].mean()
    torch.testing.assert_close(model.val_metrics.compute()[0]["val/loss"], plain)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 4.0]])
def test_a_sample_weighs_the_same_in_whatever_batch(weights, encoder):
    """Batches of 1, 4 and 2 rows: the gradients add up to those of all rows, each with its class's weight."""
    labels = torch.tensor([2, 0, 1, 1, 0, 2, 2])
    ids = torch.randint(5, 50, (7, 6), generator=torch.Generator().manual_seed(1))
    model = BertClassifier(str(encoder), class_weights=weights, label_smoothing=0.1)
    model.build(classes(NAMES))
    model.net.eval()

    def gradient(rows: list[int]) -> torch.Tensor:
        model.zero_grad()
        batch = {"input_ids": ids[rows], "attention_mask": torch.ones(len(rows), 6), "labels": labels[rows]}
        loss = model.training_step(batch, 0)
        loss.backward()
        values.append(loss.item())
        return model.net.classifier.weight.grad.clone()

    values: list[float] = []
    whole = gradient(list(range(7)))  # divided by the weight of its 7 rows
    parts = [[0], [1, 2, 3, 4], [5, 6]]
    alone = sum(gradient(rows) for rows in parts)
    model.trainer = FakeTrainer(class_counts=lambda: [2, 2, 3], rows_per_train_batch=lambda: 7 / 3)
    model.on_fit_start()
    model.trainer = None
    torch.testing.assert_close(sum(gradient(rows) for rows in parts) / 3, whole)
    assert not torch.allclose(alone / 3, whole, rtol=1e-2)
    assert values[1:4] == pytest.approx(values[4:])  # what is shown is the mean of the batch either way


@pytest.mark.parametrize("weights", [[-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [float("nan"), 1.0, 1.0]])
def test_class_weights_that_weigh_nothing(weights, encoder):
    with pytest.raises(UserError, match="model.class_weights of 0 or more"):
        BertClassifier(str(encoder), class_weights=weights).build(classes(NAMES))


@pytest.mark.parametrize(
    "name, value", [("hidden_dropout", 1.0), ("warmup_share", -0.1), ("learning_rate", -1.0)]
)
def test_impossible_settings(name, value):
    with pytest.raises(UserError, match=f"model.{name} .*found {value}"):
        BertClassifier(**{name: value})


class FakeTrainer:
    """The attributes that num_training_steps and on_fit_start read."""

    def __init__(self, **given):
        self.limit_train_batches, self.accumulate_grad_batches = 1.0, 1
        self.max_epochs, self.max_steps = 3, -1
        self.world_size = 1
        self.strategy = SimpleNamespace(root_device=torch.device("cpu"))
        self.__dict__.update(given)
        self.datamodule = self

    def num_train_batches(self, world_size=None):
        return 101


@pytest.mark.parametrize(
    "given, steps",
    [
        ({}, 303),
        ({"accumulate_grad_batches": 4}, 78),  # 26 an epoch: the last step of each has one batch
        ({"max_steps": 50}, 50),
        ({"max_steps": 500}, 303),
        ({"max_epochs": -1, "max_steps": 70}, 70),
        ({"limit_train_batches": 10}, 30),
        ({"limit_train_batches": 0.5}, 150),
    ],
)
def test_number_of_training_steps(given, steps):
    assert num_training_steps(FakeTrainer(**given)) == steps


def test_endless_training_is_refused():
    with pytest.raises(UserError, match="set --trainer.max_epochs or --trainer.max_steps"):
        num_training_steps(FakeTrainer(max_epochs=-1))


def test_metrics_by_hand():
    metrics = ClassifierMetrics(3, "val/")
    probabilities = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.5, 0.3, 0.2]])
    first, labels, places = probabilities.log(), torch.tensor([0, 1, 2]), torch.tensor([5, 0, 3])
    metrics.update(torch.tensor(1.0), first, labels, places)
    metrics.update(torch.tensor(5.0), torch.tensor([[0.1, 0.1, 0.8]]).log(), labels[2:], torch.tensor([1]))
    values, confusion, outcomes, temperature = metrics.compute(temperature=1.0)
    assert temperature == 1.0
    assert outcomes.index.tolist() == [0, 1, 3, 5] and outcomes.labels.tolist() == [1, 2, 2, 0]
    torch.testing.assert_close(torch.from_numpy(outcomes.logits[3]), first[0])
    assert confusion == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    expected = {
        "val/loss": 2.0,  # (3 x 1 + 1 x 5) / 4: every sample weighs the same
        "val/accuracy": 0.75,
        "val/accuracy_low": 0.25,  # of 4 rows: 1 to 4 of a binomial
        "val/accuracy_high": 1.0,
        "val/macro_f1": (2 / 3 + 1 + 2 / 3) / 3,
        "val/mae": 0.5,
        # quadratic kappa: 1 - observed / expected disagreement; 4 / 4 against (1*1*1 + 1*1*4 + ...) / 4
        "val/kappa": 1 - 4 / ((1 * 1 * 1 + 1 * 1 * 4 + 1 * 2 * 1 + 1 * 1 * 1 + 2 * 2 * 4 + 2 * 1 * 1) / 4),
        "val/ece": (2 * 0.2 + 0.4 + 0.5) / 4,
        "val/ece_calibrated": (2 * 0.2 + 0.4 + 0.5) / 4,
        "val/temperature": 1.0,
    }
    assert {k: float(v) for k, v in values.items()} == pytest.approx(expected, abs=1e-5)
    metrics.reset()
    metrics.update(torch.tensor(1.0), probabilities.log(), torch.tensor([0, 1, 0]), places)
    assert metrics.compute()[0]["val/accuracy"].item() == 1.0
