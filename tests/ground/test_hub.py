"""The Hub: reached or not in bounded time, the offline switch, and errors of real loading code as one line.

A small server on 127.0.0.1 stands in for the Hub; the libraries read its address when imported, so each
scenario runs in a process of its own.
"""

import hashlib
import http.server
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lit_ft import hub
from lit_ft.errors import UserError

COMMIT = "a" * 40
CARD = b"""---
configs:
- config_name: full
  data_files:
  - split: train
    path: full/train.parquet
  - split: test
    path: full/test.parquet
---
"""


def parquet(texts: list[str]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"label": list(range(len(texts))), "text": texts}), buffer)
    return buffer.getvalue()


RAW_FILES = {
    "train.csv": b"text;label\nNA;None\nfine;007\n",
    "test_0.jsonl": b'{"text": "a", "label": 1}\n',
    "test_1.jsonl": b'{"text": null, "label": "None"}\n',
}
RAW = {"me/tables": ["train.csv"], "me/lines": [name for name in RAW_FILES if "jsonl" in name]}
FILES = {
    "README.md": CARD,
    "full/train.parquet": parquet(["bad", "meh", "good"]),
    "full/test.parquet": parquet(["fine"]),
    "config.json": b'{"model_type": "bert", "vocab_size": 16, "hidden_size": 8, "num_attention_heads": 2}',
    "pytorch_model.bin": b"no safetensors",
}


class StandIn(http.server.BaseHTTPRequestHandler):
    """The dataset, and pickled model, me/reviews, the gated me/gated; nothing else exists."""

    def log_message(self, *args: object) -> None:
        pass

    def files(self, repo: str) -> dict[str, bytes]:
        return {name: RAW_FILES[name] for name in RAW[repo]} if repo in RAW else FILES

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if "me/gated" in path:
            self.reply(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        elif not (repo := next((name for name in ("me/reviews", *RAW) if name in path), "")):
            self.reply(404, X_Error_Code="RepoNotFound")
        elif "@v9" in path or "/v9" in path:
            self.reply(404, X_Error_Code="RevisionNotFound")
        elif "/tree/" in path:
            folder = path.rpartition(COMMIT)[2].strip("/")
            files = self.files(repo)
            found = [
                {"type": "file", "path": f, "size": len(files[f]), "oid": "0"} for f in files if folder in f
            ]
            self.reply(200, json.dumps(found).encode())
        elif "/resolve/" in path:
            content = self.files(repo).get(path.partition("/resolve/")[2].partition("/")[2])
            if content is None:
                self.reply(404, X_Error_Code="EntryNotFound")
            else:
                tag = hashlib.sha1(content).hexdigest()
                self.reply(200, content, X_Repo_Commit=COMMIT, ETag=f'"{tag}"')
        else:
            siblings = [{"rfilename": name} for name in self.files(repo)]
            self.reply(200, json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode())

    do_HEAD = do_GET


@pytest.fixture(scope="module")
def stand_in():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def closed_port():
    """An address where nothing answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(autouse=True)
def own_state(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(hub, "_offline_by_probe", False)


def run(code: str, endpoint: str, home: Path, **env: str) -> list[str]:
    """What a program prints, a line each; the Hub is at `endpoint`, its caches in `home`."""
    program = (
        "import time\n"
        "def attempt(call):\n"
        "    start = time.perf_counter()\n"
        "    try: print('ok', call())\n"
        "    except Exception as error: print(f'{type(error).__name__}: {error}')\n"
        "    assert time.perf_counter() - start < 5, 'slow'\n" + code
    )
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))
    }
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
        | {"PYTHONPATH": str(Path(__file__).parents[2])}
        | env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_loads_a_dataset_and_names_what_exists(stand_in, tmp_path):
    lines = run(
        "from lit_ft import hub\nfrom lit_ft.data import corpus\n"
        "print(hub.go_offline_if_unreachable())\n"
        "def load(source, subset=None, split='train'):\n"
        "    return corpus.read_hub(source, subset=subset, split=split)['text'][:]\n"
        "attempt(lambda: load('me/reviews'))\n"
        "attempt(lambda: load('me/reviews', 'full', 'test'))\n"
        f"attempt(lambda: load('me/reviews@{COMMIT}', split='train[1:]'))\n"
        "attempt(lambda: load('me/reviews', split='dev'))\n"
        "attempt(lambda: load('me/reviews', 'small'))\n"
        "attempt(lambda: load('me/reviews@v9'))\n"
        "attempt(lambda: load('me/reveiws'))\n"
        "attempt(lambda: load('me/gated'))\n",
        stand_in,
        tmp_path,
    )
    assert lines[:4] == ["False", "ok ['bad', 'meh', 'good']", "ok ['fine']", "ok ['meh', 'good']"]
    assert lines[4].startswith(
        "UserError: dataset 'me/reviews' has no split 'dev', but 'train', 'test'; set --"
    )
    assert lines[5] == (
        "UserError: dataset 'me/reviews' has no subset 'small'; set --data.subset to one of 'full'"
    )
    assert (
        lines[6].startswith("UserError: could not load dataset 'me/reviews@v9': the Hub at")
        and "'@'" in lines[6]
    )
    assert (
        "dataset 'me/reveiws': it is neither a local folder nor visible" in lines[7] and stand_in in lines[7]
    )
    assert "dataset 'me/gated': it is gated" in lines[8] and "hf auth login" in lines[8]
    assert len(lines) == 9


def test_raw_files_are_read_as_those_of_a_path(stand_in, tmp_path):
    program = (
        "from lit_ft import hub\nfrom lit_ft.data import corpus\n"
        "hub.go_offline_if_unreachable()\n"
        "def load(source, split): return corpus.read_hub(source, subset=None, split=split)[:]\n"
        "attempt(lambda: load('me/tables', 'train'))\n"
        "attempt(lambda: load('me/lines', 'test'))\n"
        "attempt(lambda: load('me/lines', 'train'))\n"
    )
    ours = {"LIT_FT_CACHE": str(tmp_path / "ours")}
    for env in (ours, {**ours, "HF_HUB_OFFLINE": "1"}):  # from the cache
        lines = run(program, stand_in, tmp_path, **env)
        assert lines[0].endswith("train.csv: recognised semicolons between the values")
        assert lines[1] == "ok {'text': ['NA', 'fine'], 'label': ['None', '007']}"
        assert lines[2] == "ok {'text': ['a', None], 'label': ['1', 'None']}"
        assert "dataset 'me/lines' has no split 'train', but 'test'" in lines[3]
    (tmp_path / "ours/hub").rename(tmp_path / "ours/lost")
    assert "it is not in the local cache" in run(program, stand_in, tmp_path, **env)[0]


@pytest.mark.slow
def test_models(stand_in, tmp_path):
    (tmp_path / "folder").mkdir()
    lines = run(
        "from lit_ft import hub\n"
        "from transformers import AutoConfig, AutoTokenizer\n"
        "def load(name, kind=AutoConfig):\n"
        "    with hub.hub_errors(f\"model '{name}'\", 'sample.yaml'): return kind.from_pretrained(name)\n"
        "attempt(lambda: load('me/nothing'))\n"
        "attempt(lambda: load('me/gated'))\n"
        "attempt(lambda: load('/no/such/folder'))\n"
        "attempt(lambda: load('folder'))\n"
        "attempt(lambda: load('me/nothing', AutoTokenizer))\n"
        "attempt(lambda: load(['a bug of ours']))\n"
        "import os; from lit_ft.machine import ENVIRONMENT; os.environ.update(ENVIRONMENT)\n"
        "from lit_ft.models.load import Pretrained\n"
        "attempt(lambda: Pretrained.of('me/reviews').classifier())\n"
        "attempt(lambda: Pretrained.of('me/reviews@main').masked_lm())\n"
        "attempt(lambda: Pretrained.of('me/reviews@v9').config)\n",
        stand_in,
        tmp_path,
    )
    assert lines[0].startswith(
        "UserError: could not load model 'me/nothing': it is neither a local folder nor"
    )
    assert lines[1].startswith("UserError: could not load model 'me/gated': it is gated")
    assert lines[2].startswith("UserError: could not load model '/no/such/folder': there is no such folder")
    assert lines[3].startswith("UserError: could not load model 'folder': ") and "folder" in lines[3][45:]
    assert lines[4].startswith(
        "UserError: could not load model 'me/nothing': it is neither a local folder nor"
    )
    assert lines[5].startswith("TypeError: ") and len(lines) == 9
    for line, name in zip(lines[6:8], ("me/reviews", "me/reviews@main"), strict=True):
        assert line == (
            f"UserError: {name}: expected model.safetensors, the Hub does not have it, but perhaps a pickle; "
            "use another model, or set --model.allow_pickle true"
        )
    assert "could not load model 'me/reviews@v9'" in lines[8] and "not that revision" in lines[8]


IMPORTS = "from transformers import AutoTokenizer\nimport datasets\n"


@pytest.mark.slow
@pytest.mark.parametrize("first, second", [(IMPORTS, ""), ("", IMPORTS)], ids=["imported before", "after"])
def test_unreachable_is_said_at_once_and_the_cache_still_loads(
    first, second, stand_in, closed_port, tmp_path
):
    load = "attempt(lambda: corpus.read_hub('me/reviews', subset=None, split='train')['text'][:])\n"
    assert run("from lit_ft.data import corpus\n" + load, stand_in, tmp_path) == ["ok ['bad', 'meh', 'good']"]
    lines = run(
        first
        + "from lit_ft import hub\nprint(hub.go_offline_if_unreachable())\n"
        + second
        + "from lit_ft.data import corpus\nprint(datasets.config.HF_HUB_OFFLINE)\n"
        + load
        + "attempt(lambda: corpus.read_hub('me/other', subset=None, split='train'))\n"
        + "def tokenizer():\n"
        + "    with hub.hub_errors(\"model 'me/m'\", 'x.yaml'): AutoTokenizer.from_pretrained('me/m')\n"
        + "attempt(tokenizer)\n",
        closed_port,
        tmp_path,
    )
    reason = (
        f"the Hub at {closed_port} cannot be reached and it is not in the local cache; check the network or"
    )
    assert lines == [
        "True",
        "True",
        "ok ['bad', 'meh', 'good']",
        f"UserError: could not load dataset 'me/other': {reason} try --config sample.yaml",
        f"UserError: could not load model 'me/m': {reason} try --config x.yaml",
    ]


def test_says_that_the_user_switched_offline(stand_in, tmp_path):
    lines = run(
        "from lit_ft import hub\nfrom lit_ft.data import corpus\n"
        "print(hub.go_offline_if_unreachable())\n"
        "attempt(lambda: corpus.read_hub('me/reviews', subset=None, split='train'))\n",
        stand_in,
        tmp_path,
        HF_HUB_OFFLINE="1",
    )
    assert lines[0] == "True" and len(lines) == 2
    assert (
        "dataset 'me/reviews': HF_HUB_OFFLINE is set and it is not in the local cache; unset it" in lines[1]
    )


def test_probe(stand_in, closed_port, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", stand_in)
    assert hub.hub_reachable()
    monkeypatch.setenv("HF_ENDPOINT", closed_port)
    assert not hub.hub_reachable()
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert hub.hub_reachable()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert not hub.hub_reachable()
    monkeypatch.setenv("HF_ENDPOINT", stand_in)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.hub_reachable()


@pytest.mark.parametrize("slow", ["getaddrinfo", "create_connection"])
def test_probe_ends_in_time_when_packets_are_dropped(slow, monkeypatch):
    def drop(*args, **kwargs):
        time.sleep(1.5)
        raise TimeoutError

    monkeypatch.setattr(socket, slow, drop)
    start = time.perf_counter()
    assert not hub.hub_reachable(timeout_seconds=0.2)
    assert time.perf_counter() - start < 1


def test_other_errors(tmp_path):
    def line(error: Exception) -> str:
        with pytest.raises(UserError) as caught, hub.hub_errors("model 'm'", "sample.yaml"):
            raise error
        return str(caught.value)

    busy = OSError("Server Error\nfor url ...")
    busy.response = SimpleNamespace(status_code=503)  # the libraries try five times, 26 s, before they raise
    assert "answered with status 503; try again later" in line(busy)
    assert "No space left on device (/cache)" in line(OSError(28, "No space left on device", "/cache"))
    assert (
        line(ValueError("first.\n\nsecond"))
        == "could not load model 'm': first; check it, or try --config sample.yaml"
    )
    assert line(UserError("as it is")) == "as it is"
    with pytest.raises(KeyError), hub.hub_errors("model 'm'", "sample.yaml"):
        raise KeyError("ours")


def test_what_no_cache_can_hold_is_refused_at_once(tmp_path, monkeypatch):
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wanted = "could not load model 'some/encoder': .* not in the local cache; .* try --config sample_sft.yaml"
    with pytest.raises(UserError, match=wanted):
        hub.check_cached({"model": "some/encoder"}, "sample_sft.yaml")
    with pytest.raises(UserError, match="could not load dataset 'texts@main'"):
        hub.check_cached({"model": "sample", "dataset": "texts@main"}, "sample_sft.yaml")
    (tmp_path / "hub/models--some--encoder").mkdir(parents=True)
    (tmp_path / "datasets/some___texts").mkdir(parents=True)
    (tmp_path / "reviews.csv").touch()
    for name in ("some/encoder", "some/encoder@main", "sft:mine", "./nowhere", "/nowhere", "reviews.csv"):
        hub.check_cached({"model": name}, "sample_sft.yaml")
    hub.check_cached({"dataset": "some/texts@main"}, "sample_sft.yaml")
