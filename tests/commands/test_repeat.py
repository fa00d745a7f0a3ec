"""`repeat`: real but tiny runs, what they leave together, and what happens when one of them does not end."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import lasting, one_line, write_csv
from pyarrow.parquet import read_table
from sklearn.metrics import accuracy_score, f1_score
from tagged import write_tagged
from transformers import AutoTokenizer
from trouble import SEEN, plan_trouble

from lit_ft.__main__ import main
from lit_ft.commands import several
from lit_ft.reliability import run_owner

pytestmark = pytest.mark.slow

LABELS = ("bad", "fine", "good")
NOUNS = ("movie", "film", "plot", "acting", "ending")
WORDS = {"bad": "terrible", "fine": "fine", "good": "great"}
ROWS, FOLDER = 48, Path("runs/small/repeat_0")
DIVIDED = ["--seeds=2", "--folds=2", "--shares=0.5,1"]
DIVIDED_ONCE = ["--seeds=1", "--folds=2", "--baselines=false", "--data.test_path=null"]
RUNS = [
    f"seed_{seed}_fold_{fold}{share}" for share in ("", "_share_0.5") for seed in (42, 43) for fold in (1, 2)
]
SETTINGS = """\
data:
  train_path: train.csv
  test_path: test.csv
  validation_share: 0.25
  max_tokens: 32
  batch_size: 6
model:
  pretrained: {encoder}
  learning_rate: 3.0e-3
trainer:
  max_epochs: 2
  accelerator: cpu
  enable_progress_bar: false
  precision: 32-true
  logger: false
  callbacks:
    - class_path: trouble.Watched
"""


class Done(NamedTuple):
    """A repeat that was run once for all: its working folder, exit code, standard output and error."""

    folder: Path
    code: int
    out: str
    err: str


def review(number: int) -> tuple[str, str]:
    """A label and a text that no other number has."""
    label = LABELS[number % 3]
    nouns = " ".join(NOUNS[number // 5**place % 5] for place in range(3))
    return label, f"the {nouns} was {WORDS[label]}, i liked it!"


def write_work(folder: Path, encoder: Path) -> None:
    """`small.yaml`, `train.csv` (48 rows, of which 7 and 8 are a text with two labels) and `test.csv`."""
    rows = [review(number) for number in range(ROWS)]
    rows[7] = (rows[7][0], rows[6][1])
    write_csv(folder / "train.csv", rows)
    write_csv(folder / "test.csv", [review(number) for number in range(60, 80)])
    (folder / "small.yaml").write_text(SETTINGS.format(encoder=encoder))


@pytest.fixture(scope="module")
def done(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Two seeds, two folds, two shares: eight runs."""
    folder = tmp_path_factory.mktemp("repeat")
    write_work(folder, encoder)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.chdir(folder)
        with contextlib.redirect_stderr(err):
            code = main(["repeat", "--config", "small.yaml", *DIVIDED])
    assert code == 0, err.getvalue()
    return Done(folder, code, out.getvalue(), err.getvalue())


@pytest.fixture
def here(done: Done, tmp_path: Path) -> Path:
    """A copy of it, to go on with."""
    shutil.copytree(done.folder, tmp_path, dirs_exist_ok=True)
    return tmp_path / FOLDER


@pytest.fixture
def repeat(lit_ft: Any, encoder: Path, work: Path) -> Any:
    """Run `repeat` with these flags, on the texts of this file."""
    write_work(work, encoder)
    return lambda *flags: lit_ft("repeat", "--config", "small.yaml", *flags)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def columns(path: Path) -> dict[str, list[Any]]:
    return read_table(path).to_pydict()


def times(folders: Iterable[Path]) -> dict[Path, int]:
    """When each file below was last written."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


# ---- what a repeat leaves ------------------------------------------------------------------------------


def test_the_folders_and_files(done: Done):
    assert [path.name for path in (done.folder / "runs/small").iterdir()] == ["repeat_0"]
    folder = done.folder / FOLDER
    files = {"plan.json", "repeat.json", "repeat.html", "out_of_fold.parquet", "labels_to_check.csv"}
    assert {path.name for path in folder.iterdir()} == {*files, "logs", *RUNS}
    assert {path.name for path in (folder / "logs").iterdir()} == {f"{run}.txt" for run in RUNS}
    kept = {"config.yaml", "metrics.json", "report.json", "report.html", "loss.png", "model", SEEN}
    kept |= {f"{prefix}_predictions.parquet" for prefix in ("val", "fold", "test")} | {"baseline"}
    for run in RUNS:
        names = {path.name for path in (folder / run).iterdir()}
        assert {name for name in names if not name.startswith("events.out.tfevents.")} == kept
    log = (folder / "logs" / f"{RUNS[0]}.txt").read_text()
    assert "fold 1 of 2: " in log and "fold/accuracy" in log and "test/accuracy" in log
    # The run has no name of its own by which `test` would find it.
    assert f"next:   python -m lit_ft test --ckpt_path {FOLDER}/{RUNS[0]}/checkpoints/best.ckpt" in log


def test_every_training_text_is_held_out_once(done: Done, encoder: Path):
    folder = done.folder / FOLDER
    found = columns(folder / "out_of_fold.parquet")
    with (done.folder / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert found["row"] == [*range(1, ROWS + 1)]
    assert found["text"] == [row["text"] for row in rows] and found["label"] == [r["label"] for r in rows]
    fold_of = dict(zip(found["row"], found["fold"], strict=True))
    assert sorted(set(found["fold"])) == [1, 2] and fold_of[7] == fold_of[8]  # equal texts
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    ids = {row: tuple(tokenizer(found["text"][row - 1])["input_ids"]) for row in fold_of}
    trained: dict[str, set[int]] = {}
    for run in RUNS:
        seed, fold = (int(run.split("_")[place]) for place in (1, 3))
        held = columns(folder / run / "fold_predictions.parquet")
        assert set(held["row"]) == {row for row in fold_of if fold_of[row] == fold}  # whatever the seed
        if "share" not in run:
            said = {row: found[f"predicted_{seed}"][row - 1] for row in held["row"]}
            assert said == dict(zip(held["row"], held["predicted"], strict=True))
        seen = {tuple(text) for text in read(folder / run / SEEN)}
        trained[run] = {row for row in ids if ids[row] in seen}
        chose = set(columns(folder / run / "val_predictions.parquet")["row"])
        assert not trained[run] & ({*held["row"]} | chose)
        splits = read(folder / run / "report.json")["splits"]
        assert splits["train"]["rows"] == len(trained[run])
        assert splits["test"]["rows"] == 20
    for run in RUNS[:4]:
        part = trained[f"{run}_share_0.5"]
        assert part < trained[run] and abs(len(part) - len(trained[run]) / 2) <= 1
    assert trained[RUNS[0]] == trained[RUNS[2]]  # validation is the same for both seeds, too


def test_the_figures_are_those_of_scikit_learn(done: Done):
    folder, names = done.folder / FOLDER, [*LABELS]
    results = read(folder / "repeat.json")["results"]
    assert [*results] == ["fold", "test"]
    by_seed = []
    for seed in (42, 43):
        folds = [columns(folder / f"seed_{seed}_fold_{fold}/fold_predictions.parquet") for fold in (1, 2)]
        both = {name: folds[0][name] + folds[1][name] for name in ("label", "predicted", "loss")}
        accuracy = accuracy_score(both["label"], both["predicted"])
        f1 = f1_score(both["label"], both["predicted"], labels=names, average="macro", zero_division=0)
        by_seed.append((accuracy, f1, np.mean(both["loss"])))
    scores = results["fold"]["scores"]
    for place, name in enumerate(("accuracy", "macro_f1", "loss")):
        values = [of[place] for of in by_seed]
        assert scores[name]["seeds"]["values"] == pytest.approx(values, abs=1e-6)
        assert scores[name]["value"] == pytest.approx(np.mean(values), abs=1e-6)
        assert scores[name]["seeds"]["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert scores["accuracy"]["low"] < scores["accuracy"]["value"] < scores["accuracy"]["high"]
    assert results["fold"]["texts"] == ROWS and results["fold"]["folds"] == [1, 2]
    values = []
    for run in RUNS[:4]:
        found = columns(folder / run / "test_predictions.parquet")
        values.append(accuracy_score(found["label"], found["predicted"]))
        assert read(folder / run / "metrics.json")["test/accuracy"] == pytest.approx(values[-1], abs=1e-6)
    assert results["test"]["scores"]["accuracy"]["runs"] == pytest.approx(values)
    assert results["test"]["scores"]["accuracy"]["value"] == pytest.approx(np.mean(values))


def test_the_learning_curve_has_both_shares(done: Done):
    facts = read(done.folder / FOLDER / "repeat.json")
    half, whole = facts["curve"]["rows"]
    assert (half["share"], whole["share"]) == (0.5, 1.0) and half["texts"] < whole["texts"]
    assert whole["figure"] == pytest.approx(facts["results"]["fold"]["scores"]["accuracy"]["value"])
    assert len(half["by_seed"]) == 2 and 0 < half["baseline"] <= 1
    said = [
        read(done.folder / FOLDER / run / "metrics.json")["fold/accuracy"] for run in RUNS if "share" in run
    ]
    assert half["figure"] == pytest.approx(np.mean(said), abs=0.02)  # of folds of nearly the same size


def test_the_page_loads_nothing(done: Done):
    page = (done.folder / FOLDER / "repeat.html").read_text()
    assert "<script" not in page and "javascript:" not in page
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', page))
    assert not re.search(r"url\((?!['\"]?(?:data:|#))", page)
    links = re.findall(r'<a href="([^#"]+)"', page)
    assert set(links) == {"labels_to_check.csv", *(f"{run}/report.html" for run in RUNS)}
    assert all((done.folder / FOLDER / link).is_file() for link in links)
    assert "8 of 8 runs done" in page and "python -m lit_ft repeat --config small.yaml --seeds=2" in page


def test_labels_to_check(done: Done):
    with (done.folder / FOLDER / "labels_to_check.csv").open(newline="", encoding="utf-8-sig") as file:
        listed = list(csv.DictReader(file))
    found = columns(done.folder / FOLDER / "out_of_fold.parquet")
    assert [int(row["rank"]) for row in listed] == [*range(1, len(listed) + 1)]
    first = listed[0]
    assert first["reason"] == "equal text" and int(first["row"]) in (7, 8)
    for row in listed:
        place = int(row["row"]) - 1
        assert row["text"] == found["text"][place]
        assert row["label"] == found["label"][place] != row["suggestion"]
    labels = read(done.folder / FOLDER / "repeat.json")["labels"]
    assert (labels["count"], labels["of"], labels["file"]) == (len(listed), ROWS, "labels_to_check.csv")


def test_the_lines_of_the_console(done: Done):
    lines = done.out.splitlines()
    assert f"repeat: {FOLDER}: 2 seeds (42, 43) x 2 folds x 2 shares (0.5, 1) = 8 runs" in lines
    told = [line for line in lines if line.startswith("seed ")]
    assert [line.partition(":")[0] for line in told] == [
        *(f"seed {seed}, fold {fold}" for seed in (42, 43) for fold in (1, 2)),
        *(f"seed {seed}, fold {fold}, share 0.5" for seed in (42, 43) for fold in (1, 2)),
    ]
    form = r"accuracy 0\.\d+ \(fold\), 0\.\d+ \(test\) \(\d+:\d\d\); 1 of 8, at most \d+:\d\d left"
    assert re.fullmatch(f"seed 42, fold 1: {form}", told[0])
    assert "left" not in told[-1]
    assert re.search(rf"% of the {ROWS} texts are right \(95 %: .* to .*\), each said by", done.out)
    assert f"out of fold: {FOLDER}/out_of_fold.parquet" in lines
    assert any(line.startswith("labels to check: ") and "but the models are hardly" in line for line in lines)
    assert lines[-1] == f"report:  {FOLDER}/repeat.html"
    assert "Traceback" not in done.err and "warning: " not in done.err.replace("warning: 1 training", "")


# ---- the same command again ----------------------------------------------------------------------------


def test_again_it_only_sums_up(lit_ft, here: Path):
    runs = [here / run for run in RUNS]
    before, facts, table = times(runs), read(here / "repeat.json"), columns(here / "out_of_fold.parquet")
    for name in ("repeat.json", "repeat.html", "out_of_fold.parquet", "labels_to_check.csv"):
        (here / name).unlink()
    code, out, err = lit_ft("repeat", "--config", "small.yaml", *DIVIDED)
    assert code == 0 and "= 8 runs, 8 of them done before" in out, err
    again = read(here / "repeat.json")
    del facts["plan"]["finished"], again["plan"]["finished"]
    assert again == facts and columns(here / "out_of_fold.parquet") == table
    assert times(runs) == before and not (here.parent / "repeat_1").exists()


def test_more_seeds_go_on_in_the_same_folder(lit_ft, here: Path):
    """So do fewer shares; and what is kept of runs can become less."""
    before = times(here / run for run in RUNS)
    code, out, err = lit_ft(
        "repeat", "--config", "small.yaml", "--seeds=3", "--folds=2", "--keep=figures", "--jobs=1",
        "--trainer.enable_progress_bar=true",
    )  # fmt: skip
    assert code == 0, err
    assert f"repeat: {FOLDER}: 3 seeds (42, 43, 44) x 2 folds = 6 runs, 4 of them done before" in out
    after = times(here / run for run in RUNS)
    assert before.items() >= after.items()
    assert not [path for path in here.glob("seed_*/model") if "share" not in path.parent.name]
    facts = read(here / "repeat.json")
    assert facts["results"]["fold"]["seeds"] == [42, 43, 44] and facts["curve"] is None
    assert {"predicted_42", "predicted_43", "predicted_44"} <= columns(here / "out_of_fold.parquet").keys()


def test_other_settings_or_data_are_another_repeat(repeat, work: Path, monkeypatch):
    """Which folder it is, without a run in it."""
    monkeypatch.setattr(several, "run_jobs", lambda *args: iter(()))

    def number(*flags: str) -> int:
        code, out, err = repeat(*DIVIDED_ONCE, *flags)
        assert code == 2 and "expected fold_predictions.parquet of a run, found none" in err
        return int(re.search(r"^repeat: runs/small/repeat_(\d+): ", out, re.MULTILINE)[1])

    assert number() == 0
    same = "--seeds=3 --shares=0.25,0.5 --jobs=2 --keep=all --data.num_workers=1 --baselines=true"
    assert number(*same.split(), "--trainer.enable_progress_bar=true", "--seed_everything=7") == 0
    assert number("--folds=3") == 1
    assert number("--model.learning_rate=1e-3") == 2
    assert number("--data.split_seed=1") == 3
    assert number("--data.test_path=test.csv") == 4
    lines = (work / "train.csv").read_text().splitlines(keepends=True)
    (work / "train.csv").write_text("".join(lines[:-1]))
    assert number() == 5
    (work / "train.csv").write_text("".join(lines))
    assert number() == 0


def test_its_config_makes_a_run_again(lit_ft, here: Path):
    run = here / RUNS[3]
    code, _, err = lit_ft("fit", "--config", str(run / "config.yaml"), "--name", "again")
    assert code == 0, err
    assert lit_ft("test", "--name", "again")[0] == 0
    again = read(Path("runs/again/version_0/metrics.json"))
    assert lasting(again) == lasting(read(run / "metrics.json"))


# ---- runs that do not end ------------------------------------------------------------------------------


def same(run: Path, other: Path) -> None:
    """Two runs came to the same, to the last bit."""
    assert lasting(read(run / "metrics.json")) == lasting(read(other / "metrics.json"))
    for prefix in ("val", "fold", "test"):
        name = f"{prefix}_predictions.parquet"
        assert columns(run / name) == columns(other / name)
    name = "model/model.safetensors"
    assert (run / name).read_bytes() == (other / name).read_bytes()


def test_runs_that_fail_are_told_and_resumed(lit_ft, here: Path, done: Done):
    """One is killed, one fails in its own words, and another goes on; then the same command does both."""
    killed, other, failing = RUNS[2], RUNS[3], RUNS[7]
    for run in (killed, other, failing):
        shutil.rmtree(here / run)
    plan_trouble(**{killed: ("kill", 4), failing: ("fail", 3)})
    code, out, err = lit_ft("repeat", "--config", "small.yaml", *DIVIDED)
    assert code == 1
    log, reason = f"{FOLDER}/logs/{killed}.txt", "ended by SIGKILL, as when memory runs out"
    assert f"warning: seed 43, fold 1 failed: {reason} (its output: {log}); the others go on" in err
    assert re.search("^seed 43, fold 2: accuracy .*\\)", out, re.MULTILINE)
    assert "warning: seed 43, fold 2, share 0.5 failed: " in err and "no such column" in err
    facts, page = read(here / "repeat.json"), (here / "repeat.html").read_text()
    assert [one["folder"] for one in facts["plan"]["runs"] if not one["done"]] == [killed, failing]
    assert facts["plan"]["failed"].keys() == {killed, failing} and facts["plan"]["failed"][killed] == reason
    assert "6 of 8 runs done" in page and f"{killed} <span" in page and f"{failing} <span" in page
    assert "seed 43, fold 1 is left out: it is not finished" in page
    assert facts["results"]["fold"]["seeds"] == [42] and "! seed 43, fold 1 is left out" in out
    assert "Of share 0.5: seed 43, fold 2, share 0.5 is left out: it is not finished." in out
    assert not (here / killed / "report.html").exists()

    Path("trouble.json").unlink()
    code, out, err = lit_ft("repeat", "--config", "small.yaml", *DIVIDED)
    assert code == 0 and "= 8 runs, 6 of them done before" in out, err
    assert f"resuming at step 3 of 6 from {FOLDER}/{killed}/checkpoints/last" in Path(log).read_text()
    for run in (killed, other, failing):
        same(here / run, done.folder / FOLDER / run)
    whole, again = (read(folder / "repeat.json") for folder in (done.folder / FOLDER, here))
    assert whole["results"] == again["results"] and whole["labels"] == again["labels"]


def test_a_stopped_command_goes_on(lit_ft, here: Path, done: Done):
    stopped = RUNS[6]
    shutil.rmtree(here / stopped)
    plan_trouble(**{stopped: ("stop", 2)})
    code, out, err = lit_ft("repeat", "--config", "small.yaml", *DIVIDED)
    assert code == 143 and "warning: stopped: 1 of 8 runs are left; the same command does them" in err
    assert not (here / stopped / "report.html").exists() and not (here / ".lock").exists()
    Path("trouble.json").unlink()
    code, out, err = lit_ft("repeat", "--config", "small.yaml", *DIVIDED)
    assert code == 0 and "= 8 runs, 7 of them done before" in out, err
    assert "resuming at step 3 of 4" in (here / "logs" / f"{stopped}.txt").read_text()
    same(here / stopped, done.folder / FOLDER / stopped)


def test_the_first_mistake_ends_it(repeat):
    plan_trouble(seed_42=("fail", 0))
    message = one_line(repeat("--seeds=2", "--folds=1", "--baselines=false"))
    assert message.startswith("seed 42: ") and "no such column" in message
    assert message.endswith(f"(its output: {FOLDER}/logs/seed_42.txt)")
    assert not (FOLDER / "repeat.json").exists() and not (FOLDER / ".lock").exists()


def test_two_at_a_time(repeat):
    """Each waits for the other; without a test and without folds, validation is what is measured."""
    plan_trouble(seed_42=("meet", 1), seed_43=("meet", 1))
    code, out, err = repeat(
        "--seeds=2", "--folds=1", "--jobs=2", "--baselines=false", "--data.test_path=null", "--keep=all"
    )
    assert code == 0, err
    assert re.search(r"^seed 4[23]: accuracy 0\.\d+ \(validation\) \(", out, re.MULTILINE)
    assert re.search("% of the 12 validation texts are right", out)
    told = "which chose the checkpoints: new texts will fare a little worse, as a mean of 2 seeds"
    assert told in " ".join(out.split())
    facts = read(FOLDER / "repeat.json")
    assert [*facts["results"]] == ["val"] and all(one["done"] for one in facts["plan"]["runs"])
    assert facts["labels"] is None and not (FOLDER / "out_of_fold.parquet").exists()
    assert (FOLDER / "seed_43/checkpoints/best.ckpt").is_file()


# ---- other kinds of label ------------------------------------------------------------------------------


def test_several_labels(repeat, work: Path):
    write_tagged(work / "train.jsonl", range(60))
    code, out, err = repeat(*DIVIDED_ONCE, "--data.train_path=train.jsonl")
    assert code == 0, err
    facts, found = read(FOLDER / "repeat.json"), columns(FOLDER / "out_of_fold.parquet")
    assert facts["kind"] == "multi_label" and found["row"] == [*range(1, 61)]
    names = facts["names"]
    given, said = (
        np.array([[name in row for name in names] for row in found[column]])
        for column in ("label", "predicted_42")
    )
    figure = facts["results"]["fold"]["scores"]["micro_f1_chosen"]["value"]
    assert figure == pytest.approx(f1_score(given, said, average="micro"), abs=1e-6)
    assert "micro F1 0." in out and (FOLDER / "labels_to_check.csv").is_file()
    assert "fold 1: micro F1, own thresholds 0." in out  # of each run, too: the same figure


def test_numbers(repeat, work: Path):
    write_csv(work / "train.csv", [(number % 10 / 2, review(number)[1]) for number in range(40)])
    code, out, err = repeat(*DIVIDED_ONCE, "--data.task=regression", "--shares=0.5")
    assert code == 0, err
    facts, found = read(FOLDER / "repeat.json"), columns(FOLDER / "out_of_fold.parquet")
    errors = np.abs(np.array(found["predicted_42"]) - found["label"])
    assert facts["results"]["fold"]["scores"]["mae"]["value"] == pytest.approx(errors.mean(), abs=1e-5)
    assert found["row"] == [*range(1, 41)] and "label: off by " in out
    with (FOLDER / "labels_to_check.csv").open(newline="", encoding="utf-8-sig") as file:
        assert next(csv.reader(file))[-2:] == ["robust_z", "fold"]
    assert 'id="labels"' in (FOLDER / "repeat.html").read_text()


# ---- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seeds=0"], "expected --seeds of at least 1, found 0; set --seeds=3"),
        (["--folds=0"], "expected --folds of at least 1, found 0; set --folds=5"),
        (["--folds=49"], "one for each of data.folds=49, found 47 in train.csv; set --folds=47"),
        (["--jobs=0"], "expected --jobs of at least 1, found 0; set --jobs=1"),
        (["--jobs=999"], "cores here, found 999; set --jobs="),
        (["--shares=0.5,2"], "expected shares of the training texts above 0 and at most 1, found 2"),
        (["--seed_everything=4294967295"], "expected 3 seeds below 4294967296"),
        (["--ckpt_path=last"], "repeat resumes its own runs; leave out --ckpt_path=last"),
        (["--data.fold=2"], "repeat sets data.fold of each run itself, found 2; leave it out"),
        (["--data.folds=3", "--data.fold=1"], "data.folds of each run itself, found 3; set --folds instead"),
        (["--data.train_share=0.5"], "data.train_share of each run itself, found 0.5; set --shares instead"),
        (["--trainer.limit_test_batches=1"], "found trainer.limit_test_batches=1; leave it out"),
        (["--trainer.limit_test_batches=0.5"], "found trainer.limit_test_batches=0.5; leave it out"),
        (["--trainer.limit_test_batches=0"], "found trainer.limit_test_batches=0; leave it out"),
        (["--trainer.fast_dev_run=true"], "found trainer.fast_dev_run=True; leave it out"),
        (["--trainer.overfit_batches=1"], "found trainer.overfit_batches=1; leave it out"),
        (["--keep=none"], "keep"),
        (["--estimate"], "unknown flag --estimate of repeat: it is one of fit"),
        (["--data.train_path=nowhere.csv"], "nowhere.csv"),
        (["--model.pretrained=nowhere"], "nowhere"),
    ],
)
def test_refused(repeat, flags, message):
    assert message in one_line(repeat(*flags))
    assert not Path("runs").exists()


def test_own_flags_in_a_config_are_refused(repeat):
    Path("more.yaml").write_text("seeds: 2\n")
    assert "take it out of the config, and write --seeds=2" in one_line(repeat("--config", "more.yaml"))


def test_who_started_it(repeat, monkeypatch):
    """Each run is a command of its own; a batch job of one task is no obstacle."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    message = one_line(repeat("--seeds=0"))
    assert "repeat starts the processes of its runs itself, found one started by hand" in message
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for tasks, told in {"2": "found one started by srun", "1": "expected --seeds of at least 1"}.items():
        monkeypatch.setenv("SLURM_NTASKS", tasks)
        assert told in one_line(repeat("--seeds=0"))


def test_two_at_the_same_folder(lit_ft, here: Path):
    run_owner.own(here)
    try:
        message = one_line(lit_ft("repeat", "--config", "small.yaml", *DIVIDED))
    finally:
        run_owner.release()
    assert message.startswith(f"{FOLDER} is being written by process {os.getpid()} on ")
    assert message.endswith("; wait until it ends or stop it")
