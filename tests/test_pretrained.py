"""What `--model.pretrained` comes to mean, and stays."""

import json
import pickle
import shutil
from pathlib import Path

import yaml
from test_errors import one_line

from lit_ft import pretrained


def masked_lm(encoder: Path, version: int) -> str:
    """A run as `sft` leaves it."""
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
    """In the very first fit nothing else has silenced the library yet."""
    from transformers.utils import logging

    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path / "cache"))
    logging.enable_progress_bar()
    pretrained.load_config("sample")
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
