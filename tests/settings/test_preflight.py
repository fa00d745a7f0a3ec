"""Without a network, what only the Hub has is refused before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from lit_ft import hub
from lit_ft.errors import UserError
from lit_ft.settings import preflight


@pytest.fixture
def probes(tmp_path, monkeypatch):
    """An empty cache, and a Hub that does not answer; the list counts the questions."""
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(hub, "go_offline_if_unreachable", lambda: asked.append(1) or True)
    return asked


YELP = ["--config", str(REPOSITORY / "configs" / "yelp.yaml")]


def test_model_and_dataset_are_asked_for(probes, tmp_path):
    with pytest.raises(UserError, match="model 'bert-base-cased'.*--config sample.yaml"):
        preflight.check_hub(YELP)
    (tmp_path / "home/hub/models--bert-base-cased").mkdir(parents=True)
    with pytest.raises(UserError, match="dataset 'Yelp/yelp_review_full'"):
        preflight.check_hub(YELP)
    (tmp_path / "home/datasets/Yelp___yelp_review_full").mkdir(parents=True)
    preflight.check_hub(YELP)
    assert len(probes) == 3


def test_pinned_names(probes, tmp_path):
    (tmp_path / "home/hub/models--ours--bert").mkdir(parents=True)
    preflight.check_hub(["--model.pretrained", "ours/bert@v1"])
    with pytest.raises(UserError, match="ours/other@v1"):
        preflight.check_hub(["--model.pretrained=ours/other@v1"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--model.pretrained", "sample", "--data.source", "null"],
        ["--model.pretrained=sft:reviews", "--data.train_path", "a.csv"],
        ["--model.pretrained", "./folder", "--data.train_path", "a.csv"],
        ["--ckpt_path", "last"],
        ["--model", "{}"],
        ["--data=data.yaml"],
        ["--help"],
        ["--trainer.callbacks.help"],
        ["--config", "broken.yaml"],
        ["--config", "list.yaml"],
        ["--config", "number.yaml"],
        ["--config", "deep.yaml"],
        ["--config", "group.yaml"],
    ],
    ids=lambda flags: flags[-1],
)
def test_nothing_is_asked_where_nothing_is_sure(flags, probes):
    Path("broken.yaml").write_text("data: [1")
    Path("list.yaml").write_text("- 1")
    Path("number.yaml").write_text("data: !!int x")
    Path("deep.yaml").write_text("[" * 5000)
    Path("group.yaml").write_text("data: yelp_data.yaml")
    preflight.check_hub([*YELP, *flags])
    assert not probes


def test_no_torch_for_the_answer(tmp_path):
    code = """import sys
from lit_ft.__main__ import main
code = main(["fit", "--config", "yelp.yaml"])
print(code, sorted({"torch", "transformers", "lightning", "datasets"} & set(sys.modules)))"""
    env = {"PATH": "", "PYTHONPATH": str(REPOSITORY), "HF_ENDPOINT": "http://127.0.0.1:9"}
    env |= {"HF_HOME": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env, timeout=60
    )
    assert done.stdout == "2 []\n", done.stderr
    assert "127.0.0.1:9 cannot be reached" in done.stderr and done.stderr.count("\n") == 1
