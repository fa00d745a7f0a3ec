"""One row of tokens instead of padding: the same logits and gradients. A stand-in plays the GPU's kernel."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import one_line
from mlm_tiny import word_tokenizer
from test_model import tiny
from torch.nn import functional as F

from lit_ft import unpadded, varlen
from lit_ft.dropped_attention import attend_in_pieces
from lit_ft.errors import UserError
from lit_ft.first_token import compute_first_token_only

LENGTHS = [9, 4, 1, 7]
MASK = (torch.arange(9) < torch.tensor(LENGTHS)[:, None]).long()


def flash(q, k, v, bounds_q, bounds_k, most_q, most_k, dropout, scaling):
    """Sequence by sequence: (N, heads, D)."""
    parts = []
    for i in range(len(bounds_q) - 1):
        a, b = int(bounds_q[i]), int(bounds_q[i + 1])
        c, d = int(bounds_k[i]), int(bounds_k[i + 1])
        assert b - a <= most_q and d - c <= most_k
        one, keys, values = (x.transpose(0, 1) for x in (q[a:b], k[c:d], v[c:d]))
        if d > c:
            parts.append(F.scaled_dot_product_attention(one, keys, values, scale=scaling).transpose(0, 1))
        else:
            parts.append(torch.zeros_like(q[a:b]))
    return torch.cat(parts)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(varlen, "flash", flash)
    monkeypatch.setattr(torch, "compile", lambda function, **kwargs: function)


def network(first_token: bool):
    torch.manual_seed(1)
    net = tiny("bert", word_tokenizer())
    assert attend_in_pieces(net) and (not first_token or compute_first_token_only(net))
    return net.eval()


@pytest.mark.parametrize("num_tokens", [sum(LENGTHS), 40])
@pytest.mark.parametrize("most_rows", [4, 7])
@pytest.mark.parametrize("first_token", [True, False])
def test_logits_and_gradients_are_those_of_the_padded_batch(first_token, most_rows, num_tokens):
    net = network(first_token)
    ids = torch.randint(5, 40, MASK.shape, generator=torch.Generator().manual_seed(3))
    ids = ids * MASK  # 0 is [PAD]
    stock = copy.deepcopy(network(False))
    expected = stock(input_ids=ids, attention_mask=MASK).logits
    compiled = unpadded.compiled_logits(net, num_tokens, most_rows, 9)
    found = compiled({"input_ids": ids, "attention_mask": MASK})
    torch.testing.assert_close(found, expected)
    for logits in (expected, found):
        (30 * logits).square().mean().backward()
    ours = dict(net.named_parameters())
    for name, parameter in stock.named_parameters():
        if parameter.grad is None:
            assert ours[name].grad is None
        else:
            torch.testing.assert_close(ours[name].grad, parameter.grad, msg=name)


def test_one_row_has_the_same_shape_whatever_the_batch():
    shapes, ids = set(), torch.arange(36).view(4, 9)
    for rows, width in ((4, 9), (2, 9), (3, 5)):
        row = unpadded.as_one_row(ids[:rows, :width], MASK[:rows, :width], 30, 9, 9)
        shapes.add(tuple(tuple(x.shape) for x in row))
    assert shapes == {((1, 30), (1, 30), (10,))}
    tokens, positions, bounds = unpadded.as_one_row(ids, MASK, 30, 9, 9)
    assert tokens[0, :14].tolist() == [*range(9), *range(9, 13), 18]
    assert positions[0, :14].tolist() == [*range(9), *range(4), 0]
    assert bounds.tolist() == [0, 9, 13, 14, 21, 30, 30, 30, 30, 30]
    assert bounds.dtype == torch.int32  # that the kernel takes


def trainer(device="cuda", precision="bf16-mixed"):
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)), precision=precision)


def test_what_it_is_made_for_is_let_through():
    net = network(True)
    unpadded.check(True, "none", net, trainer())
    unpadded.check(False, "longest", net, trainer("cpu", "32-true"))


@pytest.mark.parametrize(
    ("compiled", "padding", "kind", "where", "told"),
    [
        (True, "none", "bert", trainer("cpu"), "expects a CUDA GPU, found cpu; set --model.compile=false"),
        (True, "none", "bert", trainer(precision="32-true"), "found trainer.precision 32-true"),
        (True, "longest", "bert", trainer(), "expects --data.padding=none, found data.padding longest"),
        (True, "none", "distilbert", trainer(), "found DistilBertForSequenceClassification"),
        (False, "none", "bert", trainer(), "data.padding none expects --model.compile=true, found false"),
    ],
)
def test_whatever_else_is_refused_in_one_line(compiled, padding, kind, where, told):
    net = tiny(kind, word_tokenizer())
    attend_in_pieces(net)
    with pytest.raises(UserError, match=told):
        unpadded.check(compiled, padding, net, where)


def test_other_attention_is_refused():
    net = tiny("bert", word_tokenizer())
    net.set_attn_implementation("eager")
    with pytest.raises(UserError, match="expects torch's own attention, found attention by eager"):
        unpadded.check(True, "none", net, trainer())


UNPADDED = ["--model.compile", "true", "--data.padding", "none", "--data.token_budget", "512"]


def test_a_fit_without_a_gpu_is_refused_and_leaves_no_run(lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, *UNPADDED, "--data.max_tokens", "64"))
    assert "model.compile expects a CUDA GPU, found cpu" in line
    assert not list(Path("runs").glob("*/version_*"))


def test_a_budget_too_small_is_refused(lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, *UNPADDED, "--data.max_tokens", "200"))
    assert "expected data.token_budget of at least 800" in line
    line = one_line(lit_ft("fit", *fit_args, "--data.padding", "none"))
    assert "data.padding none expects a data.token_budget" in line


def test_a_fit_has_the_loss_of_a_padded_one_and_counts_what_it_computes(lit_ft, fit_args, monkeypatch):
    """With a learning rate of 0, whose mean over an epoch no order of the rows changes."""
    monkeypatch.setattr(unpadded, "check", lambda *args: None)
    flags = ["--data.max_tokens", "64", "--trainer.precision", "32-true", "--trainer.max_epochs", "1"]
    flags += ["--model.learning_rate", "0", "--model.hidden_dropout", "0", "--model.attention_dropout", "0"]
    losses = []
    for own in ([], UNPADDED):
        code, _, err = lit_ft("fit", *fit_args, *flags, *own)
        assert code == 0, err
        run = Path(f"runs/small/version_{len(losses)}")
        metrics = json.loads((run / "metrics.json").read_text())
        losses.append(metrics["train/epoch_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    computed = metrics["train/tokens"] / metrics["train/real_share"]
    steps = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"]
    assert computed / steps == pytest.approx(unpadded.ALIGNED * round(computed / steps / unpadded.ALIGNED))
    assert metrics["train/tokens"] < computed < 2 * metrics["train/tokens"]
