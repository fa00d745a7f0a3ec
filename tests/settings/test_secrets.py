"""Nothing is sent anywhere, and no token reaches the console or a file of a run."""

import socket
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger
from test_errors import one_line

from lit_ft.errors import UserError
from lit_ft.machine import ENVIRONMENT
from lit_ft.settings.secrets import refuse_secrets

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz012345"
ADDRESS = "https://me:open-sesame@hub.example/me/texts"


@pytest.fixture
def dialled(monkeypatch):
    """What was asked of the network, which does not answer; nothing is switched off but the telemetry."""
    import datasets
    from huggingface_hub import constants

    asked: list = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("no network in this test")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: refuse(address))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("CI", raising=False)  # TRL 1.16 counts nothing there
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    return asked


def wait_for_telemetry() -> None:
    """What huggingface_hub sends, a thread of its own sends."""
    from huggingface_hub.utils import _telemetry

    _telemetry._TELEMETRY_QUEUE.join()


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fit_sends_nothing_and_keeps_no_token(lit_ft, fit_args, dialled, caches, monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, TOKEN)
    shown = ""
    for command in ("fit", "test", "predict", "report"):
        args = ["small"] if command == "report" else [*fit_args, "--data.predict_path", "test.csv"]
        code, out, err = lit_ft(command, *args)
        assert code == 0, err
        shown += out + err
    check_kept_nowhere(shown, caches)
    assert dialled == []


def test_a_masked_lm_sends_nothing_and_keeps_no_token(lit_ft, sft_args, dialled, caches, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, out, err = lit_ft("sft", *sft_args)
    assert code == 0, err
    shown = out + err
    code, out, err = lit_ft("fill-mask", "the [MASK] was great!")
    assert code == 0, err
    check_kept_nowhere(shown + out + err, caches)
    wait_for_telemetry()
    assert dialled == []


def check_kept_nowhere(shown: str, caches: Path) -> None:
    files = {**everything_below(Path("runs")), **everything_below(caches)}
    assert {Path(name).name for name in files} >= {
        "config.yaml",
        "report.html",
        "report.json",
        "metrics.json",
    }
    assert TOKEN not in shown
    assert [name for name, content in files.items() if TOKEN.encode() in content] == []


def test_the_same_trainer_with_telemetry_would_be_seen(dialled, tmp_path, monkeypatch):
    """So that the test above cannot pass because nothing would have been noticed."""
    from huggingface_hub import constants
    from mlm_tiny import make_trainer

    make_trainer(tmp_path)
    wait_for_telemetry()
    assert dialled == []
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    make_trainer(tmp_path)
    wait_for_telemetry()
    assert dialled


def test_what_is_off_before_a_library_is_imported():
    assert ENVIRONMENT["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert ENVIRONMENT["DISABLE_SAFETENSORS_CONVERSION"] == "1"  # it posts the model's name and the token


LOGGER = """\
trainer:
  logger:
    class_path: lightning.pytorch.loggers.CSVLogger
    init_args:
      save_dir: here
"""


@pytest.mark.parametrize(
    ("command", "flags", "key"),
    [
        ("fit", ["--trainer.logger", f'{{"class_path": "X", "init_args": {{"api_key": "{TOKEN}"}}}}'],
         "trainer.logger.init_args.api_key"),
        ("fit", ["--trainer.logger", "{class_path: X, init_args: {password: open-sesame}}"],
         "trainer.logger.init_args.password"),
        ("fit", ["--trainer.logger.init_args.url", ADDRESS], "trainer.logger.init_args.url"),
        ("fit", [f"--data.source={ADDRESS}", "--data.train_path", "null"], "data.source"),
        ("fit", ["--model.pretrained", TOKEN], "model.pretrained"),
        ("test", ["--name", TOKEN], "name"),
        ("check", ["--data.text_column", TOKEN], "data.text_column"),
        ("sft", ["--model.pretrained", TOKEN], "model.pretrained"),
        ("sft", ["--trainer_args.optim_args", TOKEN], "trainer_args.optim_args"),
        ("fit", ["--config", "logger.yaml"], "trainer.logger.init_args.name"),
        ("fit", ["--config", "logger.yaml", "--print_config"], "trainer.logger.init_args.name"),
        ("fit", ["--trainer.logger", "inner.yaml"], "trainer.logger.init_args.name"),
        ("fit", ["--trainer.logger", "test_secrets.Sends", "--trainer.logger.api_key", "open-sesame"],
         "trainer.logger.init_args.api_key"),
        ("sft", ["--data.batch_size", TOKEN], "data.batch_size"),
        ("check", [f"--data.batch_size={TOKEN}"], "data.batch_size"),
        ("test", ["--", TOKEN], "the command line"),
        ("fit", [TOKEN], "the command line"),
    ],
)  # fmt: skip
def test_a_secret_that_is_typed_is_neither_kept_nor_repeated(command, flags, key, lit_ft, request, work):
    (work / "logger.yaml").write_text(LOGGER + f"      name: {TOKEN}\n")
    (work / "inner.yaml").write_text(
        f"class_path: lightning.pytorch.loggers.CSVLogger\ninit_args: {{save_dir: here, name: {TOKEN}}}\n"
    )
    args = request.getfixturevalue("sft_args" if command == "sft" else "fit_args")
    result = lit_ft(command, *args, *flags)
    line = one_line(result)
    assert line.startswith(f"{key}: found a secret, which config.yaml") and "HF_TOKEN" in line
    assert TOKEN not in str(result) and "open-sesame" not in str(result)
    assert not Path("runs").exists()


def test_a_secret_in_the_wrong_place_of_a_file_is_not_repeated(lit_ft, fit_args, work):
    (work / "wrong.yaml").write_text(f"data:\n  batch_size: {TOKEN}\n")
    line = one_line(lit_ft("check", *fit_args, "--config", "wrong.yaml"))
    assert "expected a whole number, found 'a secret' (wrong.yaml, line 2)" in line


class Sends(CSVLogger):
    """A logger as those of services are: with a key that may stay away."""

    def __init__(self, save_dir: str = "here", api_key: str | None = None) -> None:
        super().__init__(save_dir)


def test_a_key_without_a_value_and_words_that_only_look_like_secrets_pass(lit_ft, fit_args):
    flags = ["--trainer.logger", "test_secrets.Sends", "--trainer.max_epochs", "1"]
    code, _, err = lit_ft("fit", *fit_args, *flags)
    assert code == 0, err
    kept = yaml.safe_load(Path("runs/small/version_0/config.yaml").read_text())
    assert kept["trainer"]["logger"]["init_args"]["api_key"] is None
    for settings in (
        {"pad_token": "[PAD]", "trainer": {"max_tokens": 3}, "eos_token": "x", "tokenizer": "y"},
        {"password": None, "token": ""},
        {"probes": ["my password: [MASK]", "see https://hub.example/a@b"]},
    ):
        refuse_secrets(settings)
    for name in ("token", "hub_token", "API_KEY", "db.password", "client_secret"):
        with pytest.raises(UserError, match=f"^{name}: found a secret"):
            refuse_secrets({name: "x"})
