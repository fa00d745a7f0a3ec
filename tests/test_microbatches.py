"""A step in micro-batches against the step on the whole batch."""

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from mlm_tiny import word_tokenizer
from test_model import FakeTrainer, tiny
from torch.nn import functional as F

from lit_ft import microbatches
from lit_ft.microbatches import in_microbatches, way_of, whole
from lit_ft.model import BertClassifier

LENGTHS = [3, 9, 1, 9, 4, 12]  # padded to multiples of 4: 4, 12, 4, 12, 4, 12


def batch_of(lengths: list[int]) -> dict[str, torch.Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 40, mask.shape, generator=torch.Generator().manual_seed(3)) * mask
    labels = torch.arange(len(lengths)) % 2
    return {"input_ids": ids, "token_type_ids": mask * 0, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("most_tokens, shapes", [
    (24, [(2, 12), (2, 12), (2, 4)]),  # the second is filled up with a shorter text
    (12, [(1, 12), (1, 12), (1, 12), (3, 4)]),
    (4, [(1, 12), (1, 12), (1, 12), (1, 4), (1, 4), (1, 4)]),
    (1_000, [(6, 12)]),
])  # fmt: skip
def test_logits_and_gradients_are_those_of_the_whole_batch(most_tokens, shapes):
    torch.manual_seed(1)
    net, batch, seen = tiny("bert", word_tokenizer()).eval(), batch_of(LENGTHS), []

    def logits_of(part):
        seen.append(tuple(part["input_ids"].shape))
        assert {key: len(x) for key, x in part.items()} == dict.fromkeys(batch, len(part["labels"]))
        return net(input_ids=part["input_ids"], attention_mask=part["attention_mask"]).logits

    def computed(way):
        net.zero_grad()
        logits, tokens = way(batch)
        F.cross_entropy(logits, batch["labels"], torch.tensor([1.0, 3.0])).backward()
        return logits.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None], tokens

    expected, stock_gradients, padded = computed(whole(logits_of))
    assert (seen, padded) == ([(6, 12)], 72)
    seen.clear()
    logits, gradients, tokens = computed(lambda b: in_microbatches(logits_of, 4, most_tokens, b))
    assert seen == shapes
    assert tokens == sum(rows * width for rows, width in shapes)
    torch.testing.assert_close(logits, expected)
    for gradient, stock in zip(gradients, stock_gradients, strict=True):
        torch.testing.assert_close(gradient, stock)


@pytest.mark.parametrize("half", [True, False])
def test_a_weight_is_cast_once_a_step(half):
    """Lightning's autocast keeps no cast: each micro-batch would cast every weight anew."""
    states = []

    def logits_of(part):
        states.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        return part["input_ids"][:, :2].float()

    with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False):
        in_microbatches(logits_of, 4, 12, batch_of(LENGTHS))
        assert not torch.is_autocast_cache_enabled()
    assert states == [(half, True)] * 4


def trainer_of(device: str = "cpu", strategy: type = object, **settings) -> FakeTrainer:
    trainer = FakeTrainer(class_counts=lambda: [1, 1], rows_per_train_batch=lambda: None)
    trainer.hparams = {"token_budget": None, "padding": "longest", "pad_multiple": 8} | settings
    fake = type("Fake", (strategy,), {"__init__": lambda self: None, "root_device": torch.device(device)})
    trainer.strategy = fake()
    return trainer


@pytest.mark.parametrize("trainer, cut", [
    (trainer_of(), True),
    (trainer_of("cuda"), False),
    (trainer_of("mps"), False),
    (trainer_of(strategy=FSDPStrategy), False),  # each process has a part of the weights
    (trainer_of(token_budget=4_096), False),  # the user says how much is computed at once
    (trainer_of(padding="max_length"), False),
])  # fmt: skip
def test_where_a_step_is_cut(trainer, cut):
    batch, sizes = batch_of([512] * 5), []

    def logits_of(part):
        sizes.append(len(part["labels"]))
        return part["input_ids"][:, :2].float()

    logits, tokens = way_of(logits_of, trainer)(batch)
    assert sizes == ([4, 1] if cut else [5])
    assert torch.equal(logits, batch["input_ids"][:, :2].float()) and tokens == 5 * 512


def test_a_training_step_counts_what_it_computed(encoder, monkeypatch):
    monkeypatch.setattr(microbatches, "MOST_TOKENS", 12)
    model, batch = BertClassifier(str(encoder)), batch_of(LENGTHS)
    model.build(["one", "two"])
    model.net.eval()
    model.training_step(batch, 0)
    assert model.computed_tokens == 72
    model.trainer = trainer_of(pad_multiple=4)
    model.on_fit_start()
    model._trainer = None
    model.training_step(batch, 0)
    assert model.computed_tokens == 48
    assert model.step_tokens is None  # what a step needs is known before it by its padding
