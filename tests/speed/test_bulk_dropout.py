"""Dropout with masks drawn in bulk against torch's own."""

import copy
import pickle

import pytest
import torch
from mlm_tiny import word_tokenizer
from test_model import FakeTrainer, tiny
from torch import nn

from lit_ft import machine
from lit_ft.classifier.model import BertClassifier
from lit_ft.speed import dropout as bulk_dropout
from lit_ft.speed.dropout import draw_mask, drop_in_bulk, kept_share

P = 0.3
ON_A_CPU = {"fit": ["--trainer.accelerator", "cpu"], "sft": ["--trainer_args.use_cpu", "true"]}


@pytest.fixture(autouse=True)
def another_processor(monkeypatch):
    monkeypatch.setattr(machine, "is_intel", lambda: False)


def dropping(p: float = P, **given) -> nn.Dropout:
    module = nn.Dropout(p, **given)
    assert drop_in_bulk(nn.Sequential(module)) == 1
    return module


@pytest.fixture
def draws(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the masks that are drawn."""
    shapes: list[tuple[int, ...]] = []

    def draw(shape: tuple[int, ...], dropout: float) -> torch.Tensor:
        shapes.append(shape)
        return draw_mask(shape, dropout)

    monkeypatch.setattr(bulk_dropout, "draw_mask", draw)
    return shapes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_and_gradients_are_those_of_the_formula(dtype):
    states = torch.randn(5, 9, 8, dtype=dtype).transpose(0, 1).requires_grad_()
    torch.manual_seed(2)
    out = dropping()(states)
    torch.manual_seed(2)
    factors = (draw_mask((9, 5, 8), P) / kept_share(P)).to(dtype)
    assert out.dtype == dtype and 0 < (out == 0).sum() < out.numel()
    torch.testing.assert_close(out, states * factors)
    gradient = torch.randn(9, 5, 8).to(dtype)
    torch.testing.assert_close(torch.autograd.grad(out, states, gradient)[0], gradient * factors)


def test_a_mask_follows_from_the_seed_and_is_drawn_anew():
    module, ones = dropping(), torch.ones(100, 100)
    torch.manual_seed(1)
    first, second = module(ones), module(ones)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(module(ones), first)
    assert first.mean().item() == pytest.approx(1, abs=0.03)  # what is kept makes up for the rest
    assert (first > 0).float().mean().item() == pytest.approx(1 - P, abs=0.03)


@pytest.mark.parametrize("p, states, training", [
    (P, torch.ones(3, 4), False),
    (0.0, torch.ones(3, 4), True),
    (1.0, torch.ones(3, 4), True),
    (P, torch.ones(0, 4), True),
    (P, torch.ones(3, 4, device="meta"), True),  # any other device
])  # fmt: skip
def test_all_else_is_torchs_own(p, states, training, draws):
    module = dropping(p).train(training)
    found, expected = module(states), nn.functional.dropout(states, p, training)
    assert found.device == expected.device and found.shape == expected.shape
    if states.device.type == "cpu":
        assert torch.equal(found, expected)
    assert draws == []


def test_which_modules_draw_so(draws):
    class Other(nn.Dropout):
        pass

    net = nn.ModuleList([nn.Dropout(P), nn.Dropout(P, inplace=True), Other(P), nn.Linear(2, 2)])
    assert drop_in_bulk(net) == 1
    for module in net:
        module(torch.ones(3, 2))
    assert draws == [(3, 2)]


@pytest.mark.parametrize("mkl", [True, False])
def test_where_torch_draws_in_parallel_nothing_is_changed(mkl, monkeypatch, draws):
    monkeypatch.setattr(machine, "is_intel", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    module = nn.Dropout(P)
    assert drop_in_bulk(nn.Sequential(module)) == (not mkl)
    module(torch.ones(3, 2))
    assert bool(draws) == (not mkl)


def test_a_graph_that_is_compiled_has_torchs_own(draws, monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    dropping()(torch.ones(3, 2))
    assert draws == []


def test_a_net_keeps_its_names_and_can_be_copied(draws):
    torch.manual_seed(1)
    stock = tiny("bert", word_tokenizer()).train()
    net = copy.deepcopy(stock)
    assert drop_in_bulk(net) == drop_in_bulk(net) > 3  # and twice does no harm
    assert net.state_dict().keys() == stock.state_dict().keys()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        for module in other.modules():
            if type(module) is nn.Dropout:
                module.p = 0.5
                assert module.forward.args == (module,)  # not the module that it was copied from
    ids = torch.randint(5, 40, (3, 9))
    net(input_ids=ids).logits.sum().backward()
    assert (3, 9, 16) in draws and {p.grad is None for p in net.parameters()} == {False}
    draws.clear()
    torch.testing.assert_close(net.eval()(input_ids=ids).logits, stock.eval()(input_ids=ids).logits)
    assert draws == []


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fit_draws_so_on_cpus(device, encoder, draws):
    model = BertClassifier(str(encoder))
    model.build(["one", "two"])
    model.trainer = FakeTrainer(class_counts=lambda: [2, 2], rows_per_train_batch=lambda: None)
    model.trainer.strategy.root_device = torch.device(device)
    model.on_fit_start()
    ids = torch.randint(5, 40, (3, 9))
    model(ids, torch.ones_like(ids))
    assert bool(draws) == (device == "cpu")


@pytest.mark.parametrize("command, args", [("fit", "fit_args"), ("sft", "sft_args")])
def test_the_commands_draw_so(command, args, lit_ft, draws, request):
    code, _, err = lit_ft(command, *request.getfixturevalue(args), *ON_A_CPU[command])
    assert code == 0, err
    assert len(draws) > 3
