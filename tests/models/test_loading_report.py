"""Only the head and a pooler may be new: other weights that are missing, left over or reshaped are named."""

import json
from pathlib import Path

import pytest
import torch
from mlm_tiny import word_tokenizer
from safetensors.torch import load_file, save_file
from test_errors import one_line
from tiny_families import FAMILIES, tiny_config
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertForPreTraining,
    PretrainedConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

from lit_ft.errors import UserError
from lit_ft.models.load import Pretrained

WEIGHTS = "model.safetensors"


def rename(folder: Path, change) -> None:
    """Rename the weights; None drops one."""
    weights = load_file(folder / WEIGHTS)
    renamed = {change(name): weight for name, weight in weights.items()}
    renamed.pop(None, None)
    save_file(renamed, folder / WEIGHTS, metadata={"format": "pt"})


def merge(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def load(folder: Path) -> torch.nn.Module:
    pretrained = Pretrained.of(str(folder))
    pretrained.config.num_labels = 5
    return pretrained.classifier()


def save(config: PretrainedConfig, auto, folder: Path) -> Path:
    auto.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification])
@pytest.mark.parametrize("family", FAMILIES)
def test_sound_folders_of_every_kind(family, auto, tmp_path):
    """A bare model, a masked LM, a classifier of 3 classes: each can start one of 5."""
    config = tiny_config(family, num_labels=3)
    if auto is AutoModelForMaskedLM and type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        pytest.skip("no masked LM")
    source = auto.from_config(config)
    source.save_pretrained(tmp_path)
    net = load(tmp_path)
    base, prefix = source.base_model.state_dict(), f"{net.base_model_prefix}."
    own = {name: w for name, w in net.state_dict().items() if name.startswith(prefix)}
    shared = [name for name in own if name.removeprefix(prefix) in base]
    assert len(shared) >= len(own) - 2  # a pooler
    assert all(torch.equal(own[name], base[name.removeprefix(prefix)]) for name in shared)
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and family not in ("bart", "funnel"):
        lacking = Pretrained.of(str(tmp_path)).masked_lm()[1]
        assert bool(lacking) == (auto is not AutoModelForMaskedLM)
        assert not [name for name in lacking if name.startswith(prefix)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A masked LM with a vocabulary, a pooler and a next-sentence head."""
    tokenizer = word_tokenizer()
    config = tiny_config("bert", num_labels=3)
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    BertForPreTraining(config).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


PREFIXES = ["module.", "net.", "model.", "encoder.", "_orig_mod.", "base_model.model."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_another_prefix(prefix, folder):
    rename(folder, lambda name: prefix + name)
    said = f"m: 37 of 37 weights of the encoder are not .*their names begin with '{prefix}' there"
    with pytest.raises(UserError, match=said):
        load(folder)
    with pytest.raises(UserError, match=said):
        Pretrained.of(str(folder)).masked_lm()


@pytest.mark.parametrize("command", ["fit", "sft", "fill-mask"])
def test_another_prefix_is_one_line(command, folder, lit_ft, request, work):
    rename(folder, lambda name: f"module.{name}")
    args = ["a [MASK]"] if command == "fill-mask" else request.getfixturevalue(f"{command}_args")
    flag = "--model" if command == "fill-mask" else "--model.pretrained"
    line = one_line(lit_ft(command, *args, flag, str(folder)))
    assert "37 of 37 weights of the encoder are not in its files" in line
    assert not (work / "runs").exists()


def without_a_prefix(name: str) -> str:
    return name.removeprefix("bert.")


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (1, "16 weights of the encoder that its config.json has no place for .*layer.1.attention"),
        (3, "16 of 53 weights of the encoder are not in its files .bert.encoder.layer.2.attention"),
    ],
)
def test_another_number_of_layers(layers, message, bare, folder):
    if bare:
        rename(folder, lambda name: without_a_prefix(name) if name.startswith("bert.") else None)
    load(folder)
    merge(folder, num_hidden_layers=layers)
    with pytest.raises(UserError, match=message):
        load(folder)


def test_another_shape(folder):
    merge(folder, intermediate_size=24)
    message = (
        r"m: expected bert.encoder.layer.0.intermediate.dense.bias of shape \(24,\) by its config.json, "
        r"found \(16,\) in its files, and 5 more like it; save model and config again together"
    )
    with pytest.raises(UserError, match=message):
        load(folder)
    with pytest.raises(UserError, match=message):
        Pretrained.of(str(folder)).masked_lm()


@pytest.mark.parametrize("name", ["encoder.layer.1.output.dense.weight", "embeddings.LayerNorm.bias"])
def test_one_weight_is_missing(name, folder):
    rename(folder, lambda own: None if own == f"bert.{name}" else own)
    with pytest.raises(UserError, match=f"1 of 37 weights .*bert.{name}"):
        load(folder)


def test_what_may_be_left_over(folder):
    """Heads of other tasks, an unused pooler, and buffers that older versions saved."""
    weights = load_file(folder / WEIGHTS)
    weights["qa_outputs.weight"] = torch.zeros(2, 16)
    weights["bert.embeddings.position_ids"] = torch.arange(66)[None]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    load(folder)
    assert Pretrained.of(str(folder)).masked_lm()[1] == []
    rename(folder, lambda name: f"{name}.lora_A" if name.endswith("query.weight") else name)
    with pytest.raises(UserError, match="2 of 37 weights of the encoder are not in its files"):
        load(folder)


def test_float16_and_shards(folder):
    sound = load(folder).state_dict()
    other = folder.parent / "sharded"
    AutoModelForMaskedLM.from_pretrained(folder).half().save_pretrained(other, max_shard_size="8KB")
    assert len(list(other.glob("*.safetensors"))) > 1
    found = load(other)
    name = "bert.encoder.layer.0.output.dense.weight"
    assert found.dtype == torch.float32 and torch.allclose(found.state_dict()[name], sound[name], atol=1e-3)
    next(iter(sorted(other.glob("*.safetensors")))).unlink()
    with pytest.raises(UserError, match="sharded"):
        load(other)
