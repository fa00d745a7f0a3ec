import json
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lit_ft import runs
from lit_ft.errors import UserError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def checkpoint(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"weights" * 100)
    return path


def test_versions_count_up_and_gaps_stay():
    assert [runs.new_run("a").name for _ in range(3)] == ["version_0", "version_1", "version_2"]
    (runs.RUNS / "a/version_1").rmdir()
    (runs.RUNS / "a/version_notes").mkdir()
    assert runs.new_run("a").name == "version_3"
    assert [p.name for p in runs.versions("a")] == ["version_3", "version_2", "version_0"]


def test_runs_started_together_get_a_folder_each():
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: runs.new_run("a"), range(40)))
    assert len(set(made)) == 40


@pytest.mark.parametrize("name", ["../a", "", ".", "a/b", "a b"])
def test_names_that_are_no_folder(name):
    with pytest.raises(UserError, match="--name"):
        runs.new_run(name)


def test_discarding_leaves_what_is_not_empty():
    kept, empty = runs.new_run("a"), runs.new_run("b")
    (kept / "x").touch()
    runs.discard_if_empty(kept)
    runs.discard_if_empty(empty)
    assert kept.is_dir() and not Path("runs/b").exists()
    (kept / "x").unlink()
    runs.discard_if_empty(kept)
    assert not Path("runs").exists()


def test_newest_readable_checkpoint():
    assert runs.find_checkpoint("a", "last") == (None, [])
    old = checkpoint(Path("runs/a/version_0/checkpoints/last.ckpt"))
    new = checkpoint(Path("runs/a/version_10/checkpoints/last.ckpt"))
    assert runs.find_checkpoint("a", "last") == (new, [])  # 10 is newer than 2, and than 0
    damaged = bytearray(new.read_bytes())
    damaged[60] ^= 1
    new.write_bytes(damaged)
    assert not runs.is_readable(new)
    assert runs.find_checkpoint("a", "last") == (old, [new])
    assert runs.find_checkpoint("a", "best") == (None, [])


def test_the_checkpoint_before_a_damaged_one():
    checkpoint(Path("runs/a/version_0/checkpoints/last.ckpt"))
    best = checkpoint(Path("runs/a/version_1/checkpoints/best.ckpt"))
    last = checkpoint(Path("runs/a/version_1/checkpoints/last.ckpt"))
    assert runs.find_checkpoint("a", "last") == (last, [])
    last.write_bytes(last.read_bytes()[:50])
    assert runs.find_checkpoint("a", "last") == (best, [last])  # not that of the older run


def test_run_of_a_checkpoint():
    path = checkpoint(Path("runs/a/version_0/checkpoints/best.ckpt"))
    assert runs.run_of(path) is None  # no config.yaml: not a run's folder
    (path.parents[1] / "config.yaml").touch()
    assert runs.run_of(path) == Path("runs/a/version_0")
    assert runs.run_of(checkpoint(Path("elsewhere.ckpt"))) is None


def test_metrics_are_merged():
    run = runs.new_run("a")
    assert runs.read_metrics(run) == {}
    runs.add_metrics(run, {"val/loss": 1.0})
    runs.add_metrics(run, {"test/loss": 2.0, "val/loss": 0.5})
    assert json.loads((run / "metrics.json").read_text()) == {"test/loss": 2.0, "val/loss": 0.5}
    assert [p.name for p in run.iterdir()] == ["metrics.json"]
    assert time.time() - (run / "metrics.json").stat().st_mtime < 60


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (0.123456789, 0.123457), (-0.99999951, -1.0), (2.5e-7, 0.0), (0.00012345678, 0.000123),
        (1.23456789, 1.23457), (1234.56789, 1234.57), (12345678.9, 12345700.0),
        (123456789.0, 123456789.0), (123456789, 123456789), (True, True), (None, None), ("a", "a"),
    ],
)  # fmt: skip
def test_metrics_are_rounded_as_they_are_written(value, kept):
    run = runs.new_run("a")
    assert runs.add_metrics(run, {"x": value}) == {"x": kept} == runs.read_metrics(run)
    assert type(runs.read_metrics(run)["x"]) is type(kept)
    runs.add_facts(run, {"x": value})
    assert runs.read_facts(run) == {"x": value}  # facts keep all digits


def test_a_matrix_is_a_line_a_row():
    run = runs.new_run("a")
    values = {
        "matrix": [[1, 2], [3, None]],
        "names": ["a [\n1  2]"],
        "others": ["b  c"],
        "shares": [0.5, -1e-9],
        "x": {"y": []},
    }
    runs.add_facts(run, values)
    text = (run / "report.json").read_text()
    assert json.loads(text) == values
    lines = [line.strip() for line in text.splitlines()]
    assert {"[1, 2],", "[3, null]", '"shares": [0.5, -1e-09],'} <= set(lines)


def test_tags_may_go_before_others_come():
    run = runs.new_run("a")
    runs.add_metrics(run, {"test/loss": 1.0, "val/loss": 1.0})
    runs.add_metrics(run, {"val/loss": 2.0}, without=lambda tag: tag.startswith("test/"))
    assert runs.read_metrics(run) == {"val/loss": 2.0}


def test_names_of_files_that_are_no_utf8():
    """Python reads such a byte of a name as half a surrogate pair."""
    runs.write(Path("page.html"), "caf\udce9.csv \u597d")
    assert Path("page.html").read_text(encoding="utf-8") == "caf\\udce9.csv \u597d"


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": 1', b"\xff", b"[" * 100_000])
def test_damaged_metrics_are_one_line(content):
    Path("metrics.json").write_bytes(content)
    with pytest.raises(UserError, match=r"^metrics.json cannot be used \(.*replace it by an intact copy"):
        runs.read_metrics(Path("."))
    with pytest.raises(UserError):
        runs.add_metrics(Path("."), {"a": 1})
    assert Path("metrics.json").read_bytes() == content
