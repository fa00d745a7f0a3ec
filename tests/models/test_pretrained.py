"""What `--model.pretrained` refers to, and that it stays so."""

import csv
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import yaml
from mlm_tiny import word_tokenizer
from sentencepiece import sentencepiece_model_pb2
from test_errors import one_line
from tokenizers import processors
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    pipeline,
)

from lit_ft.errors import UserError
from lit_ft.models import load as pretrained
from lit_ft.models.checks import check_vocabulary, take_padding_token


def masked_lm(encoder: Path, version: int) -> str:
    """An `sft` run's model folder."""
    folder = Path(f"runs/mine/version_{version}/model")
    shutil.copytree(encoder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    return str(folder)


def test_sft_name_is_pinned_to_the_run_it_means(lit_ft, fit_args, encoder):
    first = masked_lm(encoder, 0)
    args = [*fit_args, "--model.pretrained", "sft:mine"]
    assert lit_ft("fit", *args, "--trainer.max_epochs", "1")[0] == 0
    kept = yaml.safe_load(Path("runs/small/version_0/config.yaml").read_text())
    assert kept["model"]["pretrained"] == first
    again = ["fit", *args, "--trainer.max_epochs", "1", "--ckpt_path", "last"]
    assert lit_ft(*again)[0] == 0
    assert lit_ft("test", *args)[0] == 0
    second = masked_lm(encoder, 1)
    code, _, err = lit_ft(*again)
    assert code == 2 and f"model.pretrained={second} (there {first})" in err
    code, _, err = lit_ft("test", *args)
    assert code == 2 and "a checkpoint of another model" in err and repr(first) in err
    assert lit_ft("test", *fit_args, "--model.pretrained", first)[0] == 0


def test_building_the_sample_encoder_shows_no_bar(tmp_path, monkeypatch, capfd):
    """In the very first fit nothing else has silenced the library."""
    from transformers.utils import logging

    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path / "cache"))
    logging.enable_progress_bar()
    assert pretrained.Pretrained.of("sample").config.model_type == "bert"
    assert capfd.readouterr().err == ""


class Code:
    def __reduce__(self):
        return Path.touch, (Path("sentinel"),)


def damage(encoder: Path, name: str, content: bytes | str) -> None:
    """A copy of the model folder, `odd`, with another file of this name."""
    shutil.rmtree("odd", ignore_errors=True)
    shutil.copytree(encoder, "odd")
    Path("odd", name).write_bytes(content if isinstance(content, bytes) else content.encode())


def test_damaged_model_folders_are_one_line(lit_ft, fit_args, encoder):
    config = json.loads((encoder / "config.json").read_text())
    tokenizer = json.loads((encoder / "tokenizer.json").read_text())
    odd = [
        (
            "config.json",
            json.dumps(config | {"num_hidden_layers": 10**12}),
            "at most 1000 layers, found 1000000000000",
        ),
        ("config.json", json.dumps(config | {"hidden_size": "x"}), "the model './odd' cannot be used ("),
        (
            "tokenizer.json",
            json.dumps(tokenizer | {"truncation": 3}),
            "the tokenizer of './odd' cannot be used (",
        ),
        (
            "model.safetensors",
            (encoder / "model.safetensors").read_bytes()[:-9],
            "could not load model './odd'",
        ),
    ]
    for name, content, message in odd:
        damage(encoder, name, content)
        line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./odd"))
        assert message in line
    assert not Path("runs").exists()


def test_code_in_a_model_folder_is_not_run(lit_ft, fit_args, encoder):
    damage(encoder, "pytorch_model.bin", pickle.dumps(Code()))
    Path("odd/model.safetensors").unlink()
    line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./odd"))
    assert "found only pytorch_model.bin, a pickle" in line
    line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./odd", "--model.allow_pickle", "true"))
    assert "its pickle holds more than weights (nothing of it was run)" in line
    assert not Path("sentinel").exists() and not Path("runs").exists()


# ---- other kinds of folders ------------------------------------------------------------------------


def merge(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def lora(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/encoder"}')


def quantised(folder: Path) -> None:
    merge(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


def gguf(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-q4.gguf")


def onnx(folder: Path) -> None:
    (folder / "onnx").mkdir()
    (folder / "model.safetensors").rename(folder / "onnx/model.onnx")


def variant(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


def nothing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def sentence_transformer(folder: Path) -> None:
    """As saved until 2021: the encoder in a subfolder."""
    (folder / "0_Transformer").mkdir()
    for path in list(folder.glob("*.*")):
        path.rename(folder / "0_Transformer" / path.name)
    (folder / "modules.json").write_text("[]")


def no_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


FOLDERS = {
    lora: "found an adapter of some/encoder (adapter_config.json); merge it with peft's merge_and_unload",
    quantised: "found quantised ones (quantization_config in its config.json: bitsandbytes); set the model",
    gguf: "expected model.safetensors, found model-q4.gguf; use a model that has it",
    onnx: "expected model.safetensors, found onnx/model.onnx; use",
    variant: "expected model.safetensors, found model.fp16.safetensors; rename model.fp16.safetensors if",
    nothing: "expected model.safetensors, found no weights; use",
    sentence_transformer: "did you mean --model.pretrained=odd/0_Transformer?",
    no_vocabulary: "expected a tokenizer with a vocabulary in ./odd, found 5 special tokens and 0 more; copy",
}


@pytest.mark.parametrize("craft", FOLDERS)
def test_folders_that_are_no_model(craft, lit_ft, fit_args, encoder):
    shutil.copytree(encoder, "odd")
    craft(Path("odd"))
    assert FOLDERS[craft] in one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./odd"))
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["fit", "sft", "fill-mask"])
def test_tokens_that_the_model_has_no_row_for(command, lit_ft, request, encoder, tmp_path):
    args = ["a [MASK]"] if command == "fill-mask" else request.getfixturevalue(f"{command}_args")
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["covid", "zoom"])
    folder = str(tmp_path / "more")
    shutil.copytree(encoder, folder)
    tokenizer.save_pretrained(folder)
    flag = "--model" if command == "fill-mask" else "--model.pretrained"
    line = one_line(lit_ft(command, *args, flag, folder))
    assert (
        f"at most {rows} tokens, as the model has, in {folder}, found 'covid' as number {rows}, and" in line
    )
    assert "model.resize_token_embeddings(len(tokenizer))" in line and not Path("runs").exists()


def test_spare_rows_are_sound_and_another_models_tokenizer_is_doubted(encoder, capfd):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    for rows, said in (
        (len(tokenizer) + 1000, ""),
        (len(tokenizer) + 9000, "if it belongs to another model"),
    ):
        check_vocabulary(BertConfig(vocab_size=rows), tokenizer, "m")
        err = capfd.readouterr().err
        assert said in err and bool(err) == bool(said)


def decoder(folder: str, pad: str | None, eos: str | None) -> None:
    """A GPT-2 whose config has no padding token."""
    backend = word_tokenizer().backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=pad, eos_token=eos, unk_token="[UNK]"
    )
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=2, n_head=2, n_positions=66)
    config.pad_token_id = config.bos_token_id = config.eos_token_id = None
    GPT2Model(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(("pad", "eos"), [("[PAD]", None), (None, "[SEP]")])
def test_a_padding_token_that_the_config_lacks(pad, eos, lit_ft, fit_args):
    """Batches of many lengths; the pipeline on the exported folder gives the same for each text."""
    decoder("gpt", pad, eos)
    args = [
        *fit_args,
        "--model.pretrained",
        "./gpt",
        "--trainer.max_epochs",
        "1",
        "--model.learning_rate",
        "0",
    ]
    code, _, err = lit_ft("fit", *args)
    assert code == 0, err
    assert ("its end of text, '[SEP]', is used" in err) == (pad is None)
    config = json.loads(Path("runs/small/version_0/model/config.json").read_text())
    assert config["pad_token_id"] == (0 if pad else 3)
    out = ["--data.predict_path", "test.csv", "--data.predict_output", "out.csv"]
    assert lit_ft("predict", *args, *out)[0] == 0
    classify = pipeline("text-classification", "runs/small/version_0/model", top_k=None)
    rows = list(csv.DictReader(Path("out.csv").open()))
    answers = classify([row["text"] for row in rows], batch_size=8, truncation=True)
    for row, answer in zip(rows, answers, strict=True):
        for entry in answer:
            assert float(row[f"probability_{entry['label']}"]) == pytest.approx(entry["score"], abs=1e-5)


def test_no_padding_token_at_all(lit_ft, fit_args):
    decoder("gpt", None, None)
    line = one_line(lit_ft("fit", *fit_args, "--model.pretrained", "./gpt"))
    assert "expected a tokenizer with a padding token for ./gpt, found none" in line


def test_positions_counted_from_another_padding_token(encoder):
    tokenizer = AutoTokenizer.from_pretrained(encoder)  # [PAD] is 0
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = RobertaConfig(pad_token_id=1, **shape)
    with pytest.raises(UserError, match=r"m: expected one padding token, .* roberta models .* 0 in .* 1 in"):
        take_padding_token(config, tokenizer, "m")
    config = BertConfig(pad_token_id=None, **shape)
    take_padding_token(config, tokenizer, "m")
    assert config.pad_token_id == 0


LETTERS = [("\u2581the", -1.0, 1), ("\u2581film", -2.0, 1), ("\u2581", -3.0, 1)]
LETTERS += [(letter, -5.0 - i / 10, 1) for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")]
BERT_LIKE = [("[CLS]", 0.0, 3), ("[SEP]", 0.0, 3), ("[MASK]", 0.0, 4)]
# Family -> its file, the pieces before the letters (type 2: unknown, 3: control, 4: written by the user).
SENTENCEPIECE = {
    "deberta-v2": ("spm.model", [("[PAD]", 0.0, 3), *BERT_LIKE[:2], ("[UNK]", 0.0, 2), BERT_LIKE[2]]),
    "xlm-roberta": ("sentencepiece.bpe.model", [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]),
    "albert": ("spiece.model", [("<pad>", 0.0, 3), ("<unk>", 0.0, 2), *BERT_LIKE]),
    "rembert": ("sentencepiece.model", [("<pad>", 0.0, 3), ("<unk>", 0.0, 2), *BERT_LIKE]),
    "t5": ("spiece.model", [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]),
}


@pytest.mark.parametrize("family", SENTENCEPIECE)
def test_a_sentencepiece_model_alone(family, tmp_path):
    """As microsoft/deberta-v3-base: no tokenizer.json. A checkpoint gives the same tokenizer back."""
    name, special = SENTENCEPIECE[family]
    model = sentencepiece_model_pb2.ModelProto()
    for piece, score, kind in [*special, *LETTERS]:
        model.pieces.add(piece=piece, score=score, type=kind)
    model.trainer_spec.model_type, model.trainer_spec.pad_id = 1, 0
    model.trainer_spec.unk_id = next(i for i, (_, _, kind) in enumerate(special) if kind == 2)
    (tmp_path / name).write_bytes(model.SerializeToString())
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    tokenizer = pretrained.Pretrained.of(str(tmp_path)).tokenizer()
    ends = {"t5": ([], ["</s>"]), "xlm-roberta": (["<s>"], ["</s>"])}
    before, after = ends.get(family, (["[CLS]"], ["[SEP]"]))
    expected = [*before, "\u2581the", "\u2581film", "\u2581", "a", *after]
    assert tokenizer("the film a").tokens() == expected
    files = pretrained.tokenizer_files(tokenizer)
    assert pretrained.tokenizer_from_files(files)("the film a").tokens() == expected
    for damaged in (b"", b"no protobuf"):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read as a sentencepiece|cannot be used|a vocabulary"):
            pretrained.Pretrained.of(str(tmp_path)).tokenizer()


def test_a_dropout_that_the_model_lacks_is_told_with_its_place(lit_ft, work):
    decoder("gpt", "[PAD]", None)
    Path("drops.yaml").write_text("model:\n  classifier_dropout: 0.2\n")
    args = ["fit", "--config", "drops.yaml", "--data.train_path", "train.csv", "--model.pretrained", "./gpt"]
    args += ["--data.max_tokens", "64"]
    line = one_line(lit_ft(*args))
    assert (
        "gpt2 models have no classifier_dropout, found 0.2 in drops.yaml, line 2; set --model.class" in line
    )
    flag = ["--model.classifier_dropout", "0.3"]
    assert "have no classifier_dropout, found 0.3; set" in one_line(lit_ft(*args, *flag))
    code, _, err = lit_ft(*args, line.rpartition("set ")[2], "--trainer.fast_dev_run", "true")
    assert code == 0, err


def test_a_config_that_names_another_model_than_the_checkpoint(lit_ft, fit_args, encoder):
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    Path("other.yaml").write_text(
        "name: small\nmodel:\n  pretrained: sample\ndata:\n  train_path: train.csv\n"
    )
    line = one_line(lit_ft("validate", "--config", "other.yaml"))
    assert f"other.yaml, line 3 sets it: add --model.pretrained={encoder}" in line
    assert lit_ft("validate", "--config", "other.yaml", f"--model.pretrained={encoder}")[0] == 0


def test_an_export_does_not_say_how_it_was_loaded(lit_ft, fit_args):
    before = os.umask(0o027)  # the group may read, others not
    try:
        assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0  # offline
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in Path("runs/small/version_0/model").iterdir()}
    assert set(modes.values()) == {0o640} and "model.safetensors" in modes
    values = json.loads(Path("runs/small/version_0/model/tokenizer_config.json").read_text())
    assert not {"local_files_only", "is_local", "trust_remote_code", "name_or_path"} & values.keys()
    assert values["model_max_length"] == 64
