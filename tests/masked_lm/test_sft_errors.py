"""What a user can mend ends an `sft` as one line, and leaves no run folder behind."""

import time
from pathlib import Path

import pytest
from conftest import run_cli
from mlm_tiny import build

from lit_ft.commands.sft import main


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.train_path", "nowhere.csv"], "nowhere.csv"),
        (["--data.train_path", "null"], "expected data to train on"),
        (["--data.text_column", "body"], "expected column 'body' in texts.txt"),
        (["--data.max_tokens", "65"], "data.max_tokens of at most 64"),
        (["--data.max_tokens", "2"], "data.max_tokens of at least 3, found 2"),
        (
            ["--probes", '["no mask here"]'],
            "probes: expected [MASK] in every text, found none in 'no mask here'",
        ),
        (["--model.pretrained", "./nowhere"], "--model.pretrained=./nowhere: there is no such folder"),
        (["--model.pretrained", "gpt2"], "masked-LM head, such as BertForMaskedLM, found GPT2LMHeadModel"),
        (["--model.pretrained", "maskless"], "tokenizer with a mask token, found none in maskless"),
        (
            [
                "--data.validation_path",
                "short.txt",
                "--data.layout",
                "truncate",
                "--data.mask_probability=1e-6",
            ],
            "expected a masked token in the 1 rows to evaluate on, found none; hold out more texts",
        ),
        (["--ckpt_path", "runs/nothing"], "runs/nothing: there is no such checkpoint folder"),
    ],
)
def test_mistakes_leave_no_run_folder(flags, message, lit_ft, sft_args):
    from transformers import GPT2Config, GPT2LMHeadModel

    Path("short.txt").write_text("fine\n")
    model, tokenizer = build("bert")
    shape = {"n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 64}
    GPT2LMHeadModel(GPT2Config(**shape)).save_pretrained("gpt2")
    tokenizer.save_pretrained("gpt2")
    model.save_pretrained("maskless")
    tokenizer.mask_token = None
    tokenizer.save_pretrained("maskless")
    code, _, err = lit_ft("sft", *sft_args, *flags)
    assert code == 2 and message in err and err.startswith("lit_ft: error: ") and err.count("\n") == 1, err
    assert not Path("runs").exists()


def test_several_gpus_without_a_launcher(lit_ft, sft_args, monkeypatch):
    from trl import SFTConfig

    monkeypatch.setattr(SFTConfig, "n_gpu", 2)
    code, _, err = lit_ft("sft", *sft_args)
    assert code == 2 and "found 2; start with `torchrun --nproc_per_node 2 -m lit_ft sft" in err
    assert not Path("runs").exists()


def test_without_a_network_one_line_within_ten_seconds(work):
    offline = {"HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(work / "empty")}
    start = time.perf_counter()
    result = run_cli("sft", cwd=work, **offline)
    assert (
        result.returncode == 2 and time.perf_counter() - start < 10
    )  # 0.4 s: it ends before torch is loaded
    default, error = result.stderr.splitlines()
    assert "no --config given, using imdb.yaml" in default
    told = "could not load model 'bert-base-cased': the Hub at http://127.0.0.1:9 cannot be reached"
    assert error.startswith(f"lit_ft: error: {told}") and "--config sample_sft.yaml" in error
    assert result.stdout == "" and not Path("runs").exists()


@pytest.mark.parametrize(
    ("flags", "probed"),
    [
        ([], False),  # files and a folder
        (["--model.pretrained", "some/encoder"], True),
        (["--data.train_path", "null", "--data.source", "some/texts"], True),
        (["--data.train_path", "null", "--data.source", "sample", "--model.pretrained", "sample"], False),
        (["--model.pretrained", "some/encoder", "--ckpt_path", "last"], True),  # it may start fresh
    ],
)
def test_the_hub_is_asked_for_only_where_it_is_needed(flags, probed, sft_args, monkeypatch):
    asked = []
    monkeypatch.setattr("lit_ft.hub.go_offline_if_unreachable", lambda: asked.append(True))
    monkeypatch.setattr("lit_ft.masked_lm.run.run", lambda *given: 0)
    assert main("sft", [*sft_args, *flags]) == 0
    assert bool(asked) == probed


@pytest.mark.parametrize(
    "key", ["data.max_tokens", "data.batch_size", "model.warmup_share", "num_train_epochs"]
)
def test_null_is_no_number(key, lit_ft, sft_args):
    *group, name = key.split(".")
    Path("odd.yaml").write_text(f"{group[0]}:\n  {name}: null\n" if group else f"{name}: null\n")
    code, _, err = lit_ft("sft", *sft_args, "--config", "odd.yaml")
    assert code == 2 and f"{key}: expected a " in err and "found null (odd.yaml, line" in err, err
    assert err.count("\n") == 1 and not Path("runs").exists()
