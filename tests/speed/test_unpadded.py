"""One row of tokens instead of padding: the same logits and gradients. A stand-in replaces the GPU kernel."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import one_line
from families import BERT, family_tokenizer
from lightning.pytorch.strategies import FSDPStrategy
from mlm_tiny import word_tokenizer
from test_model import tiny
from torch.nn import functional as F

from lit_ft.classifier.model import compiled_steps
from lit_ft.errors import UserError
from lit_ft.reliability.memory import BUDGET_FLAG, LastBatch
from lit_ft.speed import unpadded, varlen
from lit_ft.speed.attention import attend_in_pieces
from lit_ft.speed.first_token import compute_first_token_only

KERNEL = varlen.flash
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


def trainer(device="cuda", precision="bf16-mixed", strategy=SimpleNamespace):
    made = strategy.__new__(strategy)
    if strategy is SimpleNamespace:  # a property of Lightning's
        made.root_device = torch.device(device)
    return SimpleNamespace(strategy=made, precision=precision)


@pytest.fixture
def ampere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))


def test_supported_settings_are_accepted(ampere):
    net = network(True)
    unpadded.check_compile(True, net, trainer())
    unpadded.check_compile(False, net, trainer("cpu", "32-true"))


@pytest.mark.parametrize(
    ("kind", "where", "told"),
    [
        ("bert", trainer("cpu"), "expects a CUDA GPU, found cpu; set --model.compile=false and --data.padd"),
        ("bert", trainer(precision="32-true"), "found trainer.precision 32-true"),
        ("distilbert", trainer(), "found DistilBertForSequenceClassification"),
    ],
)
def test_anything_else_is_refused_in_one_line(kind, where, told, ampere):
    net = tiny(kind, word_tokenizer())
    attend_in_pieces(net)
    with pytest.raises(UserError, match=told):
        unpadded.check_compile(True, net, where)


def test_gpus_strategies_and_models_that_the_kernel_does_not_take(ampere, monkeypatch):
    net = network(True)
    monkeypatch.setattr(FSDPStrategy, "root_device", torch.device("cuda"))
    with pytest.raises(UserError, match="the whole model on each GPU, such as ddp, found FSDPStrategy"):
        unpadded.check_compile(True, net, trainer(strategy=FSDPStrategy))
    net.config.num_attention_heads = 1
    net.config.hidden_size = 26
    with pytest.raises(UserError, match="found heads of 26 dimensions"):
        unpadded.check_compile(True, net, trainer())
    net = network(True)
    net.set_attn_implementation("eager")
    with pytest.raises(UserError, match="expects torch's own attention, found attention by eager"):
        unpadded.check_compile(True, net, trainer())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(UserError, match="a GPU of compute capability 8.0 or more, found one of 7.5"):
        unpadded.check_compile(True, net, trainer())


def test_the_kernel_takes_what_it_is_given():
    """Its own shape function checks the arguments' types and order without a GPU."""
    q = torch.empty(40, 2, 16, dtype=torch.bfloat16, device="meta")
    bounds = torch.empty(6, dtype=torch.int32, device="meta")
    assert KERNEL(q, q, q, bounds, bounds, 9, 9, 0.1, None).shape == (40, 2, 16)
    with pytest.raises(RuntimeError):
        KERNEL(q, q, q, bounds, bounds, 0.1, 9, 9, None)


@pytest.mark.parametrize("first_token", [True, False])
def test_the_layer_drops_its_attention_weights(first_token, monkeypatch):
    given = []

    def recorded(q, k, v, bounds_q, bounds_k, most_q, most_k, dropout, scaling):
        given.append((len(bounds_q), most_q, most_k, dropout))
        return flash(q, k, v, bounds_q, bounds_k, most_q, most_k, dropout, scaling)

    monkeypatch.setattr(varlen, "flash", recorded)
    net = network(first_token).train()
    for module in net.modules():
        if hasattr(module, "query"):
            module.dropout.p = 0.3
    batch = {"input_ids": MASK, "attention_mask": MASK}
    unpadded.compiled_logits(net, 30, 5, 9)(batch)
    sequences = 5 + 4 + 1 + 1  # texts, what fills up 30 tokens by 9, the end
    assert given == [(sequences, 1 if first_token else 9, 9, 0.3)] * net.config.num_hidden_layers


UNPADDED = ["--model.compile", "true", "--data.padding", "none", "--data.token_budget", "512"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--data.max_tokens", "64"], "model.compile expects a CUDA GPU, found cpu"),
        (["--data.max_tokens", "200"], "expected data.token_budget of at least 800 (4 x data.max_tokens)"),
        (["--data.max_tokens", "64", "--data.token_budget", "null"], "padding none, found null"),
        (["--data.max_tokens", "64", "--data.batch_size", "1"], "data.batch_size of at least 2"),
        (["--model.compile", "false"], "found model.compile false and data.padding none; set --model.comp"),
        (["--data.padding", "longest"], "found model.compile true and data.padding longest; set --data.pad"),
        (["--data.max_tokens", "64", "--data.group_by_length", "false"], "set --data.group_by_length=true"),
    ],
)
def test_mistakes_get_one_line_and_leave_no_run(flags, told, lit_ft, fit_args):
    assert told in one_line(lit_ft("fit", *fit_args, *UNPADDED, *flags))
    assert not list(Path("runs").glob("*/version_*"))


def test_check_refuses_the_same(lit_ft, fit_args):
    assert "go together" in one_line(lit_ft("check", *fit_args, "--data.padding", "none"))


def test_out_of_memory_names_what_a_step_computes():
    batch = LastBatch()
    batch.note({"input_ids": MASK}, BUDGET_FLAG, tokens=30)
    with pytest.raises(
        UserError, match="in a batch of 4 texts and 30 tokens; lower --data.token_budget below 30"
    ):
        with batch.named("--trainer.accumulate_grad_batches"):
            raise torch.OutOfMemoryError


def test_a_checkpoint_of_such_a_run_can_be_tested(lit_ft, fit_args, monkeypatch):
    monkeypatch.setattr(unpadded, "check_compile", lambda *args: None)
    flags = [
        *UNPADDED,
        "--data.max_tokens",
        "64",
        "--trainer.precision",
        "32-true",
        "--trainer.max_steps",
        "2",
    ]
    code, _, err = lit_ft("fit", *fit_args, *flags)
    assert code == 0, err
    (path,) = Path("runs").glob("*/version_*/checkpoints/last.ckpt")
    code, _, err = lit_ft("validate", *fit_args, "--ckpt_path", str(path), "--data.padding", "longest")
    assert code == 0, err


def test_a_fit_has_the_loss_of_a_padded_one_and_counts_what_it_computes(lit_ft, fit_args, monkeypatch):
    """With a learning rate of 0, whose mean over an epoch no order of the rows changes."""
    monkeypatch.setattr(unpadded, "check_compile", lambda *args: None)
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


def test_token_types_of_a_template_are_refused():
    """The one row has none: BERT would read all as type 0."""
    types = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer = family_tokenizer(BERT, "[CLS]:0 $A:1 [SEP]:1", names=types)
    with pytest.raises(UserError, match="expects token types of 0.*--model.compile=false"):
        compiled_steps(network(False), SimpleNamespace(tokenizer=tokenizer, hparams={"pair_column": None}))
