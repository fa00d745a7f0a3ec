"""The shortened last layer against the stock forward."""

import copy

import pytest
import torch
from label_objects import classes
from mlm_tiny import byte_tokenizer, word_tokenizer
from test_model import tiny

from lit_ft.classifier.model import BertClassifier
from lit_ft.speed.first_token import compute_first_token_only

MASK = torch.tensor([[1] * 9, [1] * 4 + [0] * 5, [1] * 1 + [0] * 8])


def computed(net, seed: int | None = None) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits and gradients of a loss."""
    net.zero_grad()
    ids = torch.randint(5, 40, (3, 9), generator=torch.Generator().manual_seed(3))
    logits = net(input_ids=ids, attention_mask=MASK).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1])).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_logits_and_gradients_are_the_stock_ones(kind, implementation):
    torch.manual_seed(1)
    stock = tiny(kind, byte_tokenizer() if kind == "roberta" else word_tokenizer()).eval()
    stock.set_attn_implementation(implementation)
    net = copy.deepcopy(stock)
    assert compute_first_token_only(net)
    shapes = []
    encoder = getattr(net, kind).encoder
    encoder.register_forward_hook(lambda module, args, output: shapes.append(output.last_hidden_state.shape))
    (logits, gradients), (expected, stock_gradients) = computed(net), computed(stock)
    assert shapes == [(3, 1, 16)]  # it is the shortened one
    torch.testing.assert_close(logits, expected)
    assert gradients.keys() == stock_gradients.keys()
    for name, gradient in stock_gradients.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name)
    assert net.state_dict().keys() == stock.state_dict().keys()


def test_dropout_is_on_in_training_only():
    net = tiny("bert", word_tokenizer()).train()
    compute_first_token_only(net)
    assert not torch.equal(computed(net)[0], computed(net)[0])
    net.eval()
    assert torch.equal(computed(net)[0], computed(net)[0])


def test_other_architectures_keep_their_forward():
    net = tiny("distilbert", word_tokenizer())
    assert not compute_first_token_only(net)
    decoder = tiny("bert", word_tokenizer())
    decoder.config.is_decoder = True
    assert not compute_first_token_only(decoder)


def test_other_attention_keeps_its_forward():
    """Flash attention's mask is (B, T)."""
    net = tiny("bert", word_tokenizer())
    net.config._attn_implementation = "flash_attention_2"  # the setter asks for its package
    assert not compute_first_token_only(net)


def test_a_classifier_is_built_with_it(encoder):
    model = BertClassifier(str(encoder))
    model.build(classes(["bad", "good"]))
    attention = model.net.bert.encoder.layer[-1].attention
    assert attention(torch.rand(2, 5, model.net.config.hidden_size))[0].shape[1] == 1
