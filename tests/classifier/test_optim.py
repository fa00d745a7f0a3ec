import pytest
import torch
from torch import nn

from lit_ft.classifier.optim import linear_decay, parameter_groups


def test_linear_decay_without_warmup_is_the_courses():
    assert [linear_decay(4, 0)(step) for step in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


def test_linear_decay_with_warmup():
    assert [linear_decay(6, 2)(step) for step in range(7)] == [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_lambda_lr_takes_the_factors_in_order():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_decay(4, 0))
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [2.0, 1.5, 1.0, 0.5]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 3)
        self.LayerNorm = nn.LayerNorm(3)
        self.embedding = nn.Embedding(4, 3)


def test_biases_and_norms_are_not_decayed():
    block = Block()
    decayed, kept = parameter_groups(block, 0.1, decay_all=False)
    assert [decayed["weight_decay"], kept["weight_decay"]] == [0.1, 0.0]
    assert {id(p) for p in decayed["params"]} == {id(block.dense.weight), id(block.embedding.weight)}
    assert {id(p) for p in kept["params"]} == {
        id(block.dense.bias),
        id(block.LayerNorm.weight),
        id(block.LayerNorm.bias),
    }


def test_decay_all_is_one_group_in_the_models_order():
    block = Block()
    (group,) = parameter_groups(block, 0.1, decay_all=True)
    assert [id(p) for p in group["params"]] == [id(p) for p in block.parameters()]


def test_frozen_parameters_are_left_out():
    block = Block()
    block.dense.requires_grad_(False)
    groups = parameter_groups(block, 0.1, decay_all=False)
    assert sum(len(group["params"]) for group in groups) == 3


@pytest.mark.parametrize("name", ["bert", "distilbert", "roberta"])
def test_real_architectures(name):
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    if name == "distilbert":
        sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8}
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(name, vocab_size=20, **sizes))
    _, kept = parameter_groups(model, 0.1, decay_all=False)
    expected = {n for n, _ in model.named_parameters() if n.endswith("bias") or "norm" in n.lower()}
    chosen = {id(p) for p in kept["params"]}
    assert {n for n, p in model.named_parameters() if id(p) in chosen} == expected
