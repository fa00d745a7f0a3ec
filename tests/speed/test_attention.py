"""Attention in pieces, with and without dropout, against the stock one; dropout masks."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from label_objects import classes
from mlm_tiny import ARCHITECTURES, build
from transformers import FalconConfig, FalconForSequenceClassification
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lit_ft.classifier.model import BertClassifier
from lit_ft.speed import attention
from lit_ft.speed import attention as piecewise_attention
from lit_ft.speed.attention import NAME, attend, attend_in_pieces, draw_mask, kept_share

ENCODER = SimpleNamespace(is_causal=False)
P = 0.3


def tensors(rows: int, heads: int, queries: int, keys: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """Query, key and value as layers make them: transposed views."""
    lengths = (queries, keys, keys)
    return [torch.randn(rows, n, heads, 8, dtype=dtype).transpose(1, 2).requires_grad_() for n in lengths]


def masks(rows: int, heads: int, queries: int, keys: int) -> dict[str, torch.Tensor | None]:
    padding = torch.arange(keys) < torch.arange(1, rows + 1)[:, None, None, None]
    blind = torch.rand(rows, 1, queries, keys) > 0.5
    blind[0] = blind[-1, :, -1] = False  # queries that see nothing
    return {
        "none": None,
        "padding": padding.expand(-1, 1, queries, -1),
        "blind": blind,
        "by head": torch.rand(rows, heads, queries, keys) > 0.2,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", ["none", "padding", "blind", "by head"])
@pytest.mark.parametrize("piece", [1, 3 * 81, 13 * 81, 2**20])  # a head, some heads, some rows, all
@pytest.mark.parametrize("queries", [9, 1])
def test_outputs_and_gradients_are_those_of_the_formula(queries, piece, mask, dtype, monkeypatch):
    monkeypatch.setattr(piecewise_attention, "PIECE", piece)
    monkeypatch.setattr(attention, "native_bfloat16", lambda: False)  # products in float32
    torch.manual_seed(1)
    inputs = tensors(5, 6, queries, 9, dtype)
    visible = masks(5, 6, queries, 9)[mask]
    torch.manual_seed(2)
    out, _ = attend(ENCODER, *inputs, visible, P)
    torch.manual_seed(2)
    keep = draw_mask((5 * 6, queries, 9), P).view(5, 6, queries, 9)

    query, key, value = (x.double() for x in inputs)
    scores = query @ key.transpose(2, 3) / math.sqrt(8)
    weights = (scores if visible is None else scores.masked_fill(~visible, -math.inf)).softmax(-1)
    expected = ((weights.nan_to_num(0) * keep / kept_share(P)) @ value).transpose(1, 2)
    assert out.shape == (5, queries, 6, 8) and out.dtype == dtype
    gradient = torch.randn(out.shape).to(dtype)
    found = torch.autograd.grad(out, inputs, gradient)
    formula = torch.autograd.grad(expected, inputs, gradient.double())
    for one, other in zip((out, *found), (expected, *formula), strict=True):  # up to rounding
        torch.testing.assert_close(
            one, other.nan_to_num(0).to(dtype), atol=1e-5, rtol=1.6e-2 if dtype == torch.bfloat16 else 1e-5
        )


@pytest.mark.parametrize("piece", [3 * 81, 2**20])
def test_products_in_bfloat16_where_the_processor_multiplies_it(piece, monkeypatch):
    monkeypatch.setattr(piecewise_attention, "PIECE", piece)
    torch.manual_seed(1)
    inputs, visible = tensors(5, 6, 9, 9, torch.bfloat16), masks(5, 6, 9, 9)["padding"]
    gradient = torch.randn(5, 9, 6, 8).bfloat16()
    found = {}
    for native in (False, True):
        monkeypatch.setattr(attention, "native_bfloat16", lambda native=native: native)
        torch.manual_seed(2)
        out, _ = attend(ENCODER, *inputs, visible, P)
        found[native] = [out, *torch.autograd.grad(out, inputs, gradient)]
    differ = [float((a - b).norm() / a.norm()) for a, b in zip(found[False], found[True], strict=True)]
    assert all(0 < x < 0.01 for x in differ), differ


@pytest.mark.parametrize("mask", ["none", "padding", "blind", "by head"])
@pytest.mark.parametrize("piece", [3 * 81, 2**20])
@pytest.mark.parametrize("queries", [9, 1])
def test_without_dropout_bfloat16_is_near_to_the_stock_function_in_float64(queries, piece, mask, monkeypatch):
    monkeypatch.setattr(piecewise_attention, "PIECE", piece)
    monkeypatch.setattr(attention, "native_bfloat16", lambda: True)
    torch.manual_seed(1)
    inputs, visible = tensors(5, 6, queries, 9, torch.bfloat16), masks(5, 6, queries, 9)[mask]
    gradient = torch.randn(5, queries, 6, 8).bfloat16()

    def of(attend, given):
        out, _ = attend(ENCODER, *given, visible, 0.0)
        return [out, *torch.autograd.grad(out, given, gradient.to(out.dtype))]

    exact = of(sdpa_attention_forward, [x.detach().double().requires_grad_() for x in inputs])
    for one, other in zip(of(attend, inputs), exact, strict=True):
        assert one.shape == other.shape and one.dtype == torch.bfloat16
        assert float((one.double() - other).norm() / other.norm()) < 2**-7  # two roundings to 8 bits


@pytest.mark.parametrize("learns", ["all", "value", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("native", [True, False])
def test_without_dropout_only_training_in_native_bfloat16_is_in_pieces(native, dtype, learns, monkeypatch):
    applied = []
    apply = piecewise_attention.PiecewiseAttention.apply
    counted = SimpleNamespace(apply=lambda *given: applied.append(given[4]) or apply(*given))
    monkeypatch.setattr(attention, "PiecewiseAttention", counted)
    monkeypatch.setattr(attention, "native_bfloat16", lambda: native)
    inputs = tensors(1, 2, 4, 4, dtype)
    for no_grad in (False, True):
        given = [
            x if learns == "all" or (learns, i) == ("value", 2) else x.detach() for i, x in enumerate(inputs)
        ]
        with torch.set_grad_enabled(not no_grad):
            attend(ENCODER, *given, None, 0.0)
    assert applied == [0.0] * (native and learns != "none" and dtype == torch.bfloat16)


@pytest.mark.parametrize("what", ["compiled", "long"])
def test_without_dropout_graphs_and_long_texts_have_the_fused_kernel(what, monkeypatch):
    monkeypatch.setattr(attention, "PiecewiseAttention", None)
    monkeypatch.setattr(attention, "native_bfloat16", lambda: True)
    if what == "compiled":
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    else:
        monkeypatch.setattr(attention, "PIECE", 15)
    assert attend(ENCODER, *tensors(1, 2, 4, 4, torch.bfloat16), None, 0.0)[0].shape == (1, 4, 2, 8)


def test_gradients_of_scores_in_bfloat16_cancel_where_one_key_has_all_the_weight(monkeypatch):
    monkeypatch.setattr(attention, "native_bfloat16", lambda: True)
    torch.manual_seed(1)
    query, key, value = tensors(2, 2, 6, 6, torch.bfloat16)
    one_key = torch.eye(6, dtype=torch.bool)[None, None].expand(2, 1, -1, -1)
    out, _ = attend(ENCODER, query, key, value, one_key, 0.0)
    dq, dk = torch.autograd.grad(out, (query, key), torch.randn(out.shape).bfloat16())
    assert not dq.any() and not dk.any()


def test_a_model_without_dropout_in_bfloat16_is_near_to_the_stock_one(monkeypatch):
    monkeypatch.setattr(attention, "native_bfloat16", lambda: True)
    torch.manual_seed(1)
    stock, _ = build("bert", dropout=0.0)
    net = copy.deepcopy(stock).train()
    assert attend_in_pieces(net)
    ids = torch.randint(5, 40, (3, 9))
    mask = (torch.arange(9) < torch.tensor([9, 5, 7])[:, None]).long()

    def gradients(model, half):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = model(input_ids=ids, attention_mask=mask).logits
        logits.float().square().sum().backward()
        return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])

    exact, found = gradients(stock, False), gradients(net, True)
    usual = float((gradients(stock, True) - exact).norm() / exact.norm())
    assert float((found - exact).norm() / exact.norm()) < max(1.5 * usual, 0.01)


@pytest.mark.parametrize("mask", ["none", "padding", "blind"])
def test_the_stock_function_computes_the_same(mask, monkeypatch):
    """With dropout on, but nothing dropped."""
    monkeypatch.setattr(
        piecewise_attention, "draw_mask", lambda shape, p: torch.ones(shape, dtype=torch.uint8)
    )
    monkeypatch.setattr(piecewise_attention, "kept_share", lambda dropout: 1.0)
    torch.manual_seed(1)
    inputs, visible = tensors(5, 6, 9, 9, torch.float32), masks(5, 6, 9, 9)[mask]
    out, _ = attend(ENCODER, *inputs, visible, P)
    stock, _ = sdpa_attention_forward(ENCODER, *inputs, visible, 0.0)
    torch.testing.assert_close(out, stock)
    gradient = torch.randn(out.shape)
    found, expected = (torch.autograd.grad(x, inputs, gradient) for x in (out, stock))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_autocast_decides_on_the_dtype():
    """Rotary encoders give float32 queries and keys to it, and bfloat16 values."""
    query, key, value = tensors(2, 2, 4, 4, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = attend(ENCODER, query, key, value.bfloat16(), None, P)
        stock, _ = sdpa_attention_forward(ENCODER, query, key, value.bfloat16(), None, P)
    assert out.dtype == stock.dtype == torch.bfloat16
    out.sum().backward()
    assert query.grad.dtype == torch.float32


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_model_computes_the_stock_outputs_and_gradients(architecture, monkeypatch):
    """With dropout on, but nothing dropped."""
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
    monkeypatch.setattr(piecewise_attention, "draw_mask", ones)
    monkeypatch.setattr(piecewise_attention, "kept_share", lambda dropout: 1.0)
    batch = tokenizer(["the film was great", "the plot was terrible, and I hated it!"], padding=True)
    inputs = {
        "input_ids": torch.tensor(batch["input_ids"]),
        "attention_mask": torch.tensor(batch["attention_mask"]),
    }
    for model in (stock, net):
        model.zero_grad()
        (30 * model(**inputs).logits).square().mean().backward()  # not below the tolerance
    assert len(drawn) == net.config.num_hidden_layers
    torch.testing.assert_close(net(**inputs).logits, stock(**inputs).logits)
    ours = dict(net.named_parameters())
    for name, parameter in stock.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name].grad, parameter.grad)


@pytest.mark.parametrize(
    "other",
    [
        {"dropout": 0.0},
        {"dropout": 1.0},
        {"is_causal": True},
        {"position_bias": torch.zeros(1, 2, 4, 4)},
        {"attention_mask": torch.randn(1, 1, 4, 4)},  # a bias
        {"attention_mask": torch.ones(4, 4, dtype=torch.bool)},
        {"softcap": None, "dtype": torch.float16},
        {"dtype": torch.float64},
        {"keys": 5, "module": SimpleNamespace(is_causal=False, num_key_value_groups=2)},  # fewer key heads
    ],
    ids=lambda other: next(iter(other)),
)
def test_unsupported_input_takes_the_stock_path(other, monkeypatch):
    monkeypatch.setattr(attention, "PiecewiseAttention", None)
    query, key, value = tensors(1, 2, 4, other.pop("keys", 4), other.pop("dtype", torch.float32))
    module = other.pop("module", ENCODER)
    if module is not ENCODER:
        key, value = key[:, :1], value[:, :1]
    given = {"attention_mask": None, "dropout": P, "scaling": None, **other}
    out, _ = attend(module, query, key, value, **given)
    assert out.shape == (1, 4, 2, 8)


def test_masks_have_the_requested_share():
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
    config = FalconConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert not attend_in_pieces(FalconForSequenceClassification(config))  # it knows its own names only


def test_a_classifier_is_built_with_it_and_no_file_names_it(encoder, tmp_path):
    model = BertClassifier(str(encoder))
    model.build(classes(["bad", "good"]))
    assert model.net.config._attn_implementation == NAME
    model.net.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert NAME not in model.net.config.to_json_string(use_diff=False)  # what a checkpoint keeps
