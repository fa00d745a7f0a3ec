"""One tiny encoder and one small corpus for the session; no network, nothing left in the user's folders."""

import csv
import gc
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # before any library reads it
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# One thread in a worker of pytest-xdist, which inherits what the first process has set here: two workers with
# two threads each, which spin while they wait, make a fit on two cores five times slower.
IN_WORKER = "PYTEST_XDIST_WORKER" in os.environ
os.environ["OMP_NUM_THREADS"] = "1" if IN_WORKER else os.environ.get("OMP_NUM_THREADS", "2")

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"
# For a process of its own whose callbacks are classes of the tests
TEST_PATHS = os.pathsep.join(map(str, [REPOSITORY, REPOSITORY / "tests", *(REPOSITORY / "tests").glob("*/")]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs a command as slow: `-m "not slow"` is the answer in a minute and a half.

    The files with tests that are marked slow themselves come first: with two workers, a long file that comes
    last leaves one of them idle.
    """
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
    for item in items:
        if "lit_ft" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches of this session only."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_FT_CACHE", str(folder / "lit_ft"))
        patch.setenv("HF_DATASETS_CACHE", str(folder / "datasets"))
        import datasets

        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
        yield folder


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder of its own: the repository may have `runs/` from quickstart.sh, and gets nothing."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def unscanned() -> None:
    """Leave what is there already out of garbage collection.

    accelerate and Lightning collect after every run; with all libraries in the process that takes most of a
    second, longer than the run itself.
    """
    gc.collect()
    gc.freeze()


PICTURED = {"test_browser", "test_checkpoint_io", "test_dashboard", "test_figures", "test_report"}


@pytest.fixture(autouse=True)
def pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw only where pictures are looked at: they cost half a second per validation, more per report."""
    if request.module.__name__ in PICTURED or "lit_ft" not in request.fixturenames:
        return
    from pictures import draw_nothing

    draw_nothing(monkeypatch)


def run_cli(*args: str, cwd: Path, timeout: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m lit_ft ARGS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "lit_ft", *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def free_port() -> int:
    """A port of this machine that nobody listens on at the moment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT as an ordinary model folder, with a pooler."""
    import torch
    from mlm_tiny import word_tokenizer
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = word_tokenizer()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,  # BERT's 0.02 is meant for 768 dimensions: 32 would learn nothing in 100 steps
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_line(result: tuple[int, str, str]) -> str:
    """The only line of a refused command."""
    code, _, err = result
    lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
    lines = [line for line in lines if not line.endswith(": loading libraries ...")]
    assert code == 2, err
    assert len(lines) == 1 and lines[0].startswith("lit_ft: error: "), err
    assert "Traceback" not in err
    return lines[0].removeprefix("lit_ft: error: ")


def with_a_flipped_bit(checkpoint: Path) -> bytes:
    """A checkpoint damaged within a tensor: what stands between two of them nobody reads, nor sums up."""
    damaged = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        tensor = archive.read(max(archive.infolist(), key=lambda record: record.file_size))
    damaged[damaged.index(tensor) + len(tensor) // 2] ^= 1
    return bytes(damaged)


def lasting(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures of a run that come out the same each time: not those of the clock and of memory."""
    return {tag: v for tag, v in figures.items() if not tag.endswith(("seconds", "_second", "memory_gb"))}


WORDS_OF_STARS = {1: "terrible", 2: "boring", 3: "fine", 4: "great", 5: "wonderful"}


def review(stars: int, number: int) -> str:
    """A review of one to five sentences that says its stars."""
    noun = ("movie", "film", "plot", "acting", "ending")[number % 5]
    return " ".join([f"the {noun} was {WORDS_OF_STARS[stars]}, i liked it!"] * (number % 5 + 1))


def write_csv(path: Path, rows: list[tuple], header: tuple[str, ...] = ("label", "text")) -> Path:
    """Write rows under a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own working folder with `train.csv` (100 rows, stars 1 to 5) and `test.csv` (30 rows)."""
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "train.csv", [(i % 5 + 1, review(i % 5 + 1, i // 5)) for i in range(100)])
    write_csv(tmp_path / "test.csv", [(i % 5 + 1, review(i % 5 + 1, i // 5)) for i in range(30)])
    return tmp_path


@pytest.fixture
def lit_ft(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command line in this process: arguments -> (exit code, standard output, standard error)."""
    from lit_ft.__main__ import main

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lit_ft", *args])
        monkeypatch.delenv("LIT_FT_RUN", raising=False)
        capfd.readouterr()  # what an earlier call left by raising
        try:
            code = main(list(args))
        except SystemExit as stop:
            code = stop.code
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def fit_args(encoder: Path, work: Path) -> list[str]:
    """Flags of a fit that takes a second or two."""
    (work / "small.yaml").write_text(
        f"""\
data:
  train_path: train.csv
  test_path: test.csv
  validation_share: 0.2
  max_tokens: 64
  batch_size: 8
model:
  pretrained: {encoder}
  learning_rate: 3.0e-3
trainer:
  max_epochs: 2
  accelerator: cpu
  log_every_n_steps: 1
  enable_progress_bar: false
  precision: 32-true
"""
    )
    return ["--config", "small.yaml"]


@pytest.fixture
def sft_args(encoder: Path, work: Path) -> list[str]:
    """Flags of a run of 20 steps that takes a second."""
    from mlm_tiny import texts

    (work / "texts.txt").write_text("\n".join(texts(120)) + "\n")
    (work / "small.yaml").write_text(
        f"""\
data:
  train_path: texts.txt
  validation_share: 0.2
  max_tokens: 32
  batch_size: 8
model:
  pretrained: {encoder}
  learning_rate: 1.0e-2
  warmup_share: 0.0
max_steps: 20
logging_steps: 5
probes:
  - "the [MASK] was great!"
  - "the plot was [MASK], and i [MASK] it!"
"""
    )
    return ["--config", "small.yaml"]


@pytest.fixture(scope="module")
def driver() -> Iterator:
    """Chromium that asks nobody outside this machine."""
    from chromium import CHROMIUM, DRIVER
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (
        "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync hide-scrollbars disable-dev-shm-usage"
    ).split():
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as browser:
        browser.set_window_size(1400, 1100)
        yield browser
