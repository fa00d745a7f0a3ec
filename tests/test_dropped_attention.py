"""Attention with dropout in pieces against the stock one, and its masks."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from mlm_tiny import ARCHITECTURES, build

from lit_ft import dropped_attention
from lit_ft.dropout_mask import draw_mask, kept_share
from lit_ft.dropped_attention import NAME, attend, attend_in_pieces
from lit_ft.model import BertClassifier

ENCODER = SimpleNamespace(is_causal=False)
P = 0.3


def tensors(rows: int, heads: int, queries: int, keys: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Query, key and value as layers make them: transposed views."""
    lengths = (queries, keys, keys)
    return [torch.randn(rows, n, heads, 8, dtype=dtype).transpose(1, 2).requires_grad_() for n in lengths]


def masks(rows: int, queries: int, keys: int) -> dict[str, torch.Tensor | None]:
    padding = torch.arange(keys) < torch.arange(1, rows + 1)[:, None, None, None]
    return {
        "none": None,
        "padding": padding.expand(-1, 1, queries, -1),
        "any": torch.rand(rows, 1, queries, keys) > 0.5,  # some queries may see nothing
        "added": torch.randn(rows, 1, queries, keys),
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", ["none", "padding", "any", "added"])
@pytest.mark.parametrize("piece", [1, 3 * 81, 13 * 81, 2**19])  # a head, some heads, some rows, all
@pytest.mark.parametrize("queries", [9, 1])
def test_outputs_and_gradients_are_the_stock_ones(queries, piece, mask, dtype, monkeypatch):
    monkeypatch.setattr(dropped_attention, "PIECE", piece)
    torch.manual_seed(1)
    query, key, value = tensors(5, 6, queries, 9, dtype)
    bias = masks(5, queries, 9)[mask]
    torch.manual_seed(2)
    out, _ = attend(ENCODER, query, key, value, bias, P)
    torch.manual_seed(2)
    keep = draw_mask((5 * 6, queries, 9), P).view(5, 6, queries, 9)

    scores = query.float() @ key.float().transpose(2, 3) / math.sqrt(8)
    if mask == "added":
        scores = scores + bias
    elif bias is not None:
        scores = scores.masked_fill(~bias, torch.finfo(torch.float32).min)
    dropped = scores.softmax(-1) * keep / kept_share(P)
    expected = (dropped @ value.float()).transpose(1, 2)
    assert out.shape == (5, queries, 6, 8) and out.dtype == dtype
    gradient = torch.randn(out.shape)
    found = torch.autograd.grad(out, (query, key, value), gradient.to(dtype))
    stock = torch.autograd.grad(expected, (query, key, value), gradient.to(dtype).float())
    exact = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
    for one, other in zip((out, *found), (expected, *stock), strict=True):
        torch.testing.assert_close(one.float(), other.float(), **exact)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_model_computes_the_stock_outputs_and_gradients(architecture, monkeypatch):
    """Where nothing is dropped, though the dropout is on."""
    torch.manual_seed(1)
    stock, tokenizer = build(architecture, dropout=0.0)
    net = copy.deepcopy(stock).train()
    assert attend_in_pieces(net)
    drawn = []

    def ones(shape, dropout):
        drawn.append(shape)
        return torch.ones(shape, dtype=torch.uint8)

    for module in net.modules():  # those of the weights: others would drop something
        if hasattr(module, "query") or hasattr(module, "q_lin"):
            module.dropout.p = P
    monkeypatch.setattr(dropped_attention, "draw_mask", ones)
    monkeypatch.setattr(dropped_attention, "kept_share", lambda dropout: 1.0)
    batch = tokenizer(["the film was great", "the plot was terrible, and I hated it!"], padding=True)
    inputs = {
        "input_ids": torch.tensor(batch["input_ids"]),
        "attention_mask": torch.tensor(batch["attention_mask"]),
    }
    for model in (stock, net):
        model.zero_grad()
        model(**inputs).logits.square().mean().backward()
    assert len(drawn) == net.config.num_hidden_layers
    torch.testing.assert_close(net(**inputs).logits, stock(**inputs).logits)
    theirs = dict(stock.named_parameters())
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, msg=name)


@pytest.mark.parametrize(
    "other",
    [
        {"dropout": 0.0},
        {"is_causal": True},
        {"position_bias": torch.zeros(1, 2, 4, 4)},
        {"attention_mask": torch.zeros(1, 1, 4, 4, requires_grad=True)},
        {"dtype": torch.float64},
        {"keys": 5, "module": SimpleNamespace(is_causal=False, num_key_value_groups=2)},  # fewer key heads
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_it_does_not_know_takes_the_stock_path(other, monkeypatch):
    monkeypatch.setattr(dropped_attention, "_Attention", None)
    query, key, value = tensors(1, 2, 4, other.pop("keys", 4), other.pop("dtype", torch.float32))
    module = other.pop("module", ENCODER)
    if module is not ENCODER:
        key, value = key[:, :1], value[:, :1]
    given = {"attention_mask": None, "dropout": P, "scaling": None, **other}
    out, _ = attend(module, query, key, value, **given)
    assert out.shape == (1, 4, 2, 8)


def test_masks_are_drawn_with_the_asked_share():
    torch.manual_seed(1)
    for dropout in (0.1, 0.5, 0.9):
        keep = draw_mask((3, 700, 1001), dropout)
        assert keep.dtype == torch.uint8 and set(keep.unique().tolist()) == {0, 1}
        share, error = keep.double().mean().item(), math.sqrt(dropout * (1 - dropout) / keep.numel())
        assert kept_share(dropout) == pytest.approx(1 - dropout, abs=1e-5)
        assert share == pytest.approx(kept_share(dropout), abs=5 * error)
        rows = keep.double().mean(-1).flatten()  # of independent numbers: as far apart as a binomial's
        assert rows.var().item() == pytest.approx(dropout * (1 - dropout) / 1001, rel=0.15)
    assert 0 < kept_share(1e-9) < 1 and 0 < kept_share(1 - 1e-9) < 1


def test_masks_depend_on_torchs_generator_alone():
    torch.manual_seed(1)
    first, second = draw_mask((40, 40), P), draw_mask((40, 40), P)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(draw_mask((40, 40), P), first)
    state = torch.get_rng_state()
    third = draw_mask((40, 40), P)
    torch.set_rng_state(state)
    assert torch.equal(draw_mask((40, 40), P), third)


def test_other_implementations_stay():
    net, _ = build("bert")
    net.set_attn_implementation("eager")
    assert not attend_in_pieces(net) and net.config._attn_implementation == "eager"


def test_a_classifier_is_built_with_it_and_no_file_names_it(encoder, tmp_path):
    model = BertClassifier(str(encoder))
    model.build(["bad", "good"])
    assert model.net.config._attn_implementation == NAME
    model.net.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert NAME not in model.net.config.to_json_string(use_diff=False)  # what a checkpoint keeps
