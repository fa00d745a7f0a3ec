"""Positions, dropouts and output layer of many model families."""

import copy

import pytest
import torch
from tiny_families import FAMILIES, tiny_config
from transformers import AutoModel, AutoModelForSequenceClassification, GPT2Config

from lit_ft.errors import UserError
from lit_ft.models import blueprint
from lit_ft.models import load as pretrained
from lit_ft.models.checks import check_max_tokens, max_positions

RATE = 0.4321
# By hand, from transformers' model files: rows of the position table less the first position.
POSITIONS = dict.fromkeys(FAMILIES, 66) | {"roberta": 64, "mpnet": 64, "longformer": 64}
POSITIONS |= dict.fromkeys(("deberta-v2", "funnel", "modernbert", "xlnet", "t5"))  # no limit
HIDDEN_ONLY = {"mpnet", "longformer"}  # their heads use the hidden layers' dropout
NO_CLASSIFIER = {*HIDDEN_ONLY, "funnel", "gpt2"}
NO_ATTENTION = {"xlnet", "t5"}  # one dropout for all


@pytest.mark.parametrize("family", FAMILIES)
def test_positions(family):
    config = tiny_config(family)
    limit = max_positions(config)
    assert limit == POSITIONS[family]
    net = AutoModel.from_config(config).eval()
    assert max_positions(config, net) == limit
    if family == "longformer":  # pads to its windows by itself
        return
    ids = torch.full((1, limit or 200), 7)
    more = {"decoder_input_ids": ids} if family == "t5" else {}
    net(input_ids=ids, **more)
    if limit is not None:
        with pytest.raises((IndexError, RuntimeError)):
            net(input_ids=torch.full((1, limit + 1), 7))
        message = f"at most {limit}.*found {limit + 1}; set --data.max_tokens={limit}"
        with pytest.raises(UserError, match=message):
            check_max_tokens(config, limit + 1)


def test_longer_than_it_was_trained_on_is_said(capfd):
    tokenizer = type("T", (), {"model_max_length": 10**30})()
    config = tiny_config("modernbert")
    check_max_tokens(config, 66, tokenizer)
    assert capfd.readouterr().err == ""
    check_max_tokens(config, 200, tokenizer)
    assert "data.max_tokens is 200, more than the 66 tokens" in capfd.readouterr().err
    tokenizer.model_max_length = 32
    check_max_tokens(tiny_config("bert"), 60, tokenizer)
    assert "the 32 tokens that this bert model is meant for (its tokenizer's" in capfd.readouterr().err


def rates(net: torch.nn.Module) -> dict[tuple[str, str], float]:
    """All floats of the modules, including dropouts."""
    return {
        (name, key): value
        for name, module in net.named_modules()
        for key, value in vars(module).items()
        if type(value) is float
    }


@pytest.mark.parametrize("setting", pretrained.DROPOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_dropout_changes_the_model_or_is_refused(family, setting):
    config = tiny_config(family)
    changed = copy.deepcopy(config)
    missing = NO_CLASSIFIER if setting == "classifier_dropout" else NO_ATTENTION
    if family in missing and setting != "hidden_dropout":
        place = "sample.yaml, line 3"
        message = f"{family} models have no {setting}, found 0.4321 in {place}; set --model.{setting}=null"
        with pytest.raises(UserError, match=message):
            pretrained.set_dropout(config, setting, RATE, place)
        assert config.to_dict() == changed.to_dict()
        return
    pretrained.set_dropout(changed, setting, RATE)
    before, after = (rates(AutoModelForSequenceClassification.from_config(c)) for c in (config, changed))
    differing = {key for key in after if before.get(key) != after[key]}
    assert differing and {after[key] for key in differing} == {RATE}
    if setting == "classifier_dropout":  # before the head, and nowhere else
        prefix = AutoModelForSequenceClassification.from_config(config).base_model_prefix
        assert not [name for name, _ in differing if name.startswith(f"{prefix}.")]
        assert not family.startswith("xlm") or differing == {("sequence_summary.first_dropout", "p")}


@pytest.mark.parametrize("family", FAMILIES)
def test_output_layer(family):
    config = tiny_config(family, num_labels=16)  # as many as the hidden size
    names = blueprint.output_weights(config)
    net = AutoModelForSequenceClassification.from_config(config)
    assert {net.get_parameter(name).shape[0] for name in names} == {16}
    with torch.no_grad():
        for name in names:
            net.get_parameter(name).mul_(0)
    net.eval()
    ids = torch.tensor([[7, 8, 9, 2]])
    logits = net(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert logits.shape == (1, 16) and not logits.any()


def test_asking_draws_no_random_number_and_leaves_the_config():
    config = tiny_config("bert")
    before, state = config.to_dict(), torch.get_rng_state()
    max_positions(config)
    blueprint.dropout_names(config, pretrained.DROPOUTS["hidden_dropout"], AutoModel)
    blueprint.output_weights(config)
    assert torch.equal(state, torch.get_rng_state()) and config.to_dict() == before
    assert torch.zeros(1).device.type == "cpu"


def test_a_model_that_cannot_be_built_answers_none():
    config = GPT2Config(n_embd=15, n_head=2)
    assert blueprint.blueprint(config) is None
    assert max_positions(config) == 1024  # the config's value
    assert blueprint.dropout_names(config, ("attn_pdrop",), AutoModel) is None
