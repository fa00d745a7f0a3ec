"""`fill-mask`: its lines, its JSON, its choice of a model, and its errors in one line."""

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mlm_tiny import build
from transformers import BertConfig, BertForMaskedLM, BertModel, GPT2Config, GPT2LMHeadModel

from lit_ft.commands.fill_mask import main
from lit_ft.errors import UserError

LINE = re.compile(r"Predicted token: \S+, Confidence:  [01]\.\d\d")
TEXT = "the [MASK] was great"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model folder for each architecture, and three that fill no mask."""
    root = tmp_path_factory.mktemp("models")
    for architecture in ("bert", "distilbert", "roberta", "electra"):
        model, tokenizer = build(architecture)
        model.save_pretrained(root / architecture)
        tokenizer.save_pretrained(root / architecture)
    _, tokenizer = build("bert")
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    BertModel(BertConfig(**sizes, intermediate_size=64)).save_pretrained(root / "encoder")
    GPT2LMHeadModel(GPT2Config(vocab_size=90, n_embd=32, n_layer=1, n_head=2)).save_pretrained(root / "gpt2")
    for name in ("encoder", "gpt2"):
        tokenizer.save_pretrained(root / name)
    build("bert")[0].save_pretrained(root / "maskless")
    tokenizer.mask_token = None
    tokenizer.save_pretrained(root / "maskless")
    return root


def one_line(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_the_courses_lines(folders, capsys):
    model, tokenizer = build("bert")
    assert main("fill-mask", [TEXT, "--model", str(folders / "bert")]) == 0
    lines = capsys.readouterr().out.splitlines()
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = model.eval()(ids).logits[0, (ids[0] == tokenizer.mask_token_id).nonzero().item()]
    best = logits.softmax(-1).topk(5)
    expected = [
        f"Predicted token: {tokenizer.convert_ids_to_tokens(i)}, Confidence:  {p:.2f}"
        for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    assert lines == expected
    assert all(LINE.fullmatch(line) for line in lines)


@pytest.mark.parametrize("architecture", ["distilbert", "roberta", "electra"])
def test_mask_is_accepted_whatever_the_models_own(folders, architecture, capsys):
    assert main("fill-mask", [TEXT, "--model", str(folders / architecture), "--top_k", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (text,) = document["texts"]
    assert document["model"] == str(folders / architecture) and text["text"] == TEXT
    (candidates,) = text["masks"]
    assert len(candidates) == 3
    assert [c["confidence"] for c in candidates] == sorted(
        (c["confidence"] for c in candidates), reverse=True
    )
    assert set(candidates[0]) == {"token", "id", "confidence"}


def test_several_texts_and_masks(folders, capsys):
    two = "the [MASK] was [MASK]"
    assert main("fill-mask", [TEXT, two, "--model", str(folders / "bert"), "--top_k=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shape = ["line" if LINE.fullmatch(line) else line for line in lines]
    first, second = "[MASK] 1 of 2:", "[MASK] 2 of 2:"
    assert shape == [TEXT, "line", "line", "", two, first, "line", "line", second, "line", "line"]


def test_standard_input(folders, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{TEXT}\n\nit was [MASK]!\n"))
    assert main("fill-mask", ["-", "--model", str(folders / "bert"), "--json", "--top_k", "1000"]) == 0
    texts = json.loads(capsys.readouterr().out)["texts"]
    assert [text["text"] for text in texts] == [TEXT, "it was [MASK]!"]
    assert len(texts[0]["masks"][0]) == build("bert")[0].config.vocab_size
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    with pytest.raises(UserError, match="standard input, found none"):
        main("fill-mask", ["-", "--model", str(folders / "bert")])


def test_default_model_is_the_newest_masked_lm_run(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="under runs, found none; run `python -m lit_ft sft") as error:
        main("fill-mask", [TEXT])
    one_line(error)
    for age, name in enumerate(["new/version_0", "old/version_3", "classifier/version_0"]):
        model, tokenizer = build("bert")
        model.config.architectures = [
            "BertForSequenceClassification" if "class" in name else "BertForMaskedLM"
        ]
        folder = Path("runs", name, "model")
        model.save_pretrained(folder)
        if "class" in name:
            (folder / "config.json").write_text(
                json.dumps({"architectures": ["BertForSequenceClassification"]})
            )
        tokenizer.save_pretrained(folder)
        os.utime(
            folder / "config.json", (1e9 - age * ("class" not in name), 1e9 - age * ("class" not in name))
        )
    assert main("fill-mask", [TEXT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "runs/new/version_0/model"
    assert main("fill-mask", [TEXT, "--json", "--model", "sft:old"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "runs/old/version_3/model"
    with pytest.raises(UserError, match="did you mean --model=runs/old/version_3/model"):
        main("fill-mask", [TEXT, "--model", "runs/old/version_3"])
    with pytest.raises(UserError, match="--model=sft:other: no run under runs/other"):
        main("fill-mask", [TEXT, "--model", "sft:other"])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["great film", "--model", "{root}/bert"],
            r"expected \[MASK\] in every text, found none in 'great film'",
        ),
        ([TEXT, "plain", "--model", "{root}/roberta"], "found none in 'plain'"),
        (
            [TEXT, "--model", "runs/x/version_0/model"],
            "--model=runs/x/version_0/model: there is no such folder",
        ),
        ([TEXT, "--model", "{root}"], "expected a model folder with a config.json"),
        (
            [TEXT, "--model", "{root}/encoder"],
            "trained masked-LM head in .*/encoder, found BertModel without one",
        ),
        ([TEXT, "--model", "{root}/gpt2"], r"masked-LM head, such as BertForMaskedLM, found GPT2LMHeadModel"),
        ([TEXT, "--model", "{root}/maskless"], "tokenizer with a mask token, found none in .*/maskless"),
        (["the " * 80 + "[MASK]", "--model", "{root}/bert"], "at most 64 tokens, found 83 in 'the the"),
        (["the " * 80 + "[MASK]", "--model", "{root}/roberta"], "at most 64 tokens, found"),
        ([TEXT, "--top_k", "0"], "top_k of at least 1, found 0"),
    ],
)
def test_errors_are_one_line(folders, args, message):
    with pytest.raises(UserError, match=message) as error:
        main("fill-mask", [arg.replace("{root}", str(folders)) for arg in args])
    one_line(error)


def test_a_mistyped_flag_and_no_text(lit_ft):
    for args, line in (
        ([TEXT, "--topk=3"], "unknown flag --topk; did you mean --top_k?"),
        ([], 'expected TEXT, found none; usage: python -m lit_ft fill-mask "This is a [MASK] movie!"'),
    ):
        assert lit_ft("fill-mask", *args) == (2, "", f"lit_ft: error: {line}\n")


def test_hub_name_without_network_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="no-such-model-here") as error:
        main("fill-mask", [TEXT, "--model", "no-such-model-here"])
    one_line(error)


def test_float16_folder_is_filled_in_float32(folders, tmp_path, capsys):
    model, tokenizer = build("bert")
    model.half().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert BertForMaskedLM.from_pretrained(tmp_path).dtype == torch.float16
    assert main("fill-mask", [TEXT, "--model", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_help_needs_no_heavy_library():
    code = (
        "import sys; from lit_ft.commands.fill_mask import main\n"
        "try: main('fill-mask', ['--help'])\n"
        "except SystemExit as ex: assert ex.code == 0\n"
        "assert not {'torch', 'transformers', 'datasets', 'lightning'} & set(sys.modules)"
    )
    start = time.perf_counter()
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "--top_k" in done.stdout and time.perf_counter() - start < 5


@pytest.mark.slow
def test_nothing_but_the_answer_is_printed(folders):
    args = [TEXT, "--model", str(folders / "roberta")]
    code = f"from lit_ft.commands.fill_mask import main; raise SystemExit(main('fill-mask', {args!r}))"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5 and done.stderr == ""
