"""Two processes on one machine: the same run, each sample once, one end for both."""

import csv
import json
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
import slurm
import torch
from conftest import TEST_PATHS, lasting, one_line, run_cli, write_csv
from lightning import Callback
from pair import DDP, run_pair
from tagged import write_tagged
from test_preempt import signal_at
from test_resume import state
from text_pairs import PAIRS, write_pairs

from lit_ft.reliability.processes import is_lost

pytestmark = pytest.mark.slow

# 75 rows in batches of 16: the last one has 11, which the two share as 6 and 5. Of unlike weights, too.
EXACT = ["--data.train_path", "uneven.csv", "--data.validation_path", "rest.csv", "--data.pad_multiple", "1"]
EXACT += [f"--model.{name}_dropout=0" for name in ("hidden", "attention", "classifier")]
EXACT += ["--model.class_weights", "[1.0, 2.0, 0.0, 5.0, 0.5]", "--model.label_smoothing", "0.1"]

# Two processes with 64 tokens each and one with 128 have the same batches: of 76 rows none is left.
BUDGET = [*EXACT, "--data.train_path", "train.csv", "--data.validation_path", "null"]
BUDGET += ["--data.validation_share", "0.24", "--data.pad_multiple", "32", "--data.token_budget"]

NUMBERS = [flag for flag in BUDGET if flag not in ("--model.class_weights", "[1.0, 2.0, 0.0, 5.0, 0.5]")]
NUMBERS = ["--data.task", "regression", *(flag if flag != "0.1" else "0" for flag in NUMBERS)]
TAGS = [
    "--data.train_path",
    "tags.jsonl",
    "--model.class_weights",
    "balanced",
    "--data.validation_share",
    "0.3",
]
PREDICT_NUMBERS, OUTPUT = ["--data.predict_path", "train.csv", "--name"], ["--data.predict_output"]
PREDICT_FEW = ["predict", "--name", "whole", "--data.predict_path", "few.csv", "--data.predict_output"]
PREDICT_PAIRS = ["predict", "--name", "two_of_pairs", "--data.predict_path", "pairs.csv"]
PREDICT_PAIRS += ["--data.predict_output"]
REQUEUE = signal_at(batch=4, rank=0, number=int(signal.SIGUSR1))
# Of 45 pairs the last batch of 16 has 13, which the two share as 7 and 6.
OF_PAIRS = [*PAIRS, "--data.train_path", "pairs.csv", "--data.validation_path", "pairs.csv"]
OF_PAIRS += ["--data.pad_multiple", "1", *EXACT[6:9]]
SPLITS = {"val": 20, "test": 30}  # texts
CODES = {"stopped": 143, "requeued": 138}  # else 0


@pytest.fixture
def two(fit_args, work, monkeypatch):
    """One pair of processes for all of the commands: a pair costs more than what they do."""
    lines = (work / "train.csv").read_text().splitlines(keepends=True)
    (work / "uneven.csv").write_text("".join(lines[:76]))
    (work / "rest.csv").write_text("".join(lines[:1] + lines[76:]))
    fit, predict = ["fit", *fit_args], ["predict", *fit_args, "--data.predict_path", "train.csv"]
    calls = {
        "whole": [*fit, "--name", "whole"],
        "stopped": [*fit, "--name", "parts", signal_at(batch=3, rank=1)],
        "requeued": ["srun", *fit, "--name", "parts", "--ckpt_path", "last", REQUEUE],
        "resumed": [*fit, "--name", "parts", "--ckpt_path", "last"],
        "exact": [*fit, *EXACT, "--name", "two"],
        "estimate": [*fit, *EXACT, "--name", "none", "--estimate"],
        "budget": [*fit, *BUDGET, "64", "--name", "two_with_budget"],
        "pairs": [*fit, *OF_PAIRS, "--name", "two_of_pairs"],
        "predict pairs": [*PREDICT_PAIRS, "two_pairs.csv"],
        "numbers": [*fit, *NUMBERS, "64", "--name", "numbers_by_two"],
        "tags": [*fit, *NUMBERS[2:], "64", *TAGS, "--name", "tags_by_two"],
        "predict tags": ["predict", *PREDICT_NUMBERS, "tags_by_two", *OUTPUT, "tags_by_two.csv"],
        "predict numbers": ["predict", *PREDICT_NUMBERS, "numbers_by_two", *OUTPUT, "numbers_by_two.csv"],
        "test": ["test", *fit_args, "--name", "whole"],
        "predict": [*predict, "--name", "whole", "--data.predict_output", "two.csv"],
        "predict parquet": [*predict, "--name", "whole", "--data.predict_output", "two.parquet"],
        "predict few": [*PREDICT_FEW, "few_by_two.csv"],
        "predict few parquet": [*PREDICT_FEW, "few_by_two.parquet"],
    }
    write_pairs(work / "pairs.csv", 45)
    write_tagged(work / "tags.jsonl", range(100))
    write_csv(work / "few.csv", [("a", ""), ("b", "fine"), ("c", "")], ("id", "text"))
    monkeypatch.setenv("PATH", slurm.scontrol(work))
    return dict(zip(calls, run_pair(*calls.values(), cwd=work), strict=True))


def figures(name: str) -> dict:
    return json.loads(Path(f"runs/{name}/version_0/metrics.json").read_text())


def assert_same_figures(one: dict, other: dict, but: str = "") -> None:
    for key, value in lasting(one).items():
        if key != but:
            same = value == other[key] if "matrix" in key else other[key] == pytest.approx(value, abs=1e-5)
            assert same, f"{key}: {value} and {other[key]}"


def assert_same_weights(one: str, other: str) -> None:
    found = state(other)["state_dict"]
    for key, value in state(one)["state_dict"].items():
        if key.endswith("key.bias"):  # no gradient but rounding, which AdamW scales up: attention knows
            continue  # only differences between keys
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-5, msg=key)


def assert_same_texts(by_two: pyarrow.Table, path: str, rows: int) -> None:
    """What was said of each text, in the order of the input."""
    by_one = parquet.read_table(path)
    assert by_one.schema.equals(by_two.schema, check_metadata=True) and len(by_one) == rows
    assert by_one["row"].to_pylist() == sorted(by_one["row"].to_pylist())
    for name in by_one.column_names:
        one, two = by_one[name].to_pylist(), by_two[name].to_pylist()
        assert two == (pytest.approx(one, abs=1e-5) if isinstance(one[0], float) else one), name


def assert_same_predictions(one: str, two: str, *columns: str) -> list[dict[str, str]]:
    """Of the same rows in the same order; the second file's are returned."""
    one_rows, two_rows = (list(csv.DictReader(Path(name).open(newline=""))) for name in (one, two))
    for a, b in zip(one_rows, two_rows, strict=True):
        assert [a[name] for name in (*columns, "predicted")] == [b[name] for name in (*columns, "predicted")]
        assert float(a["confidence"]) == pytest.approx(float(b["confidence"]), abs=2e-6)
    return two_rows


def test_two_processes_are_one_run(two, lit_ft, fit_args, work):
    for name, done in two.items():
        assert done.code == CODES.get(name, 0), done.err[-3000:]

    # Only one of them gets the signal; neither waits for the other's gradients.
    for name, said in {"stopped": "SIGTERM at step 3", "requeued": "SIGUSR1 at step 7"}.items():
        assert two[name].err.count(f"stopped by {said}, saved in ") == 1, two[name].err
    assert (work / "scontrol.txt").read_text().splitlines() == slurm.REQUEUED
    assert two["resumed"].out.startswith("resuming at step 7 of 10 ")
    for key, value in state("whole")["state_dict"].items():
        assert torch.equal(value, state("parts")["state_dict"][key]), key

    # An estimate trains with both, tells once, and leaves nothing.
    assert [line.count(", each of 2 processes") for line in two["estimate"].out.splitlines()].count(1) == 1
    assert "(10 steps of " in two["estimate"].out and not Path("runs/none").exists()

    # One process with the same batches takes the same steps.
    code, _, err = lit_ft("fit", *fit_args, *EXACT, "--data.batch_size", "16", "--name", "one")
    assert code == 0, err
    assert [p.name for p in Path("runs/two").iterdir()] == ["version_0"]
    assert two["exact"].out.count("val/accuracy") == 1  # one process speaks
    assert figures("two")["train/samples"] == 2 * 75
    # A process pads its share to the share's own longest row.
    assert figures("two")["train/real_share"] >= figures("one")["train/real_share"]
    assert_same_figures(figures("one"), figures("two"), but="train/real_share")
    assert_same_weights("one", "two")
    assert lit_ft("fit", *fit_args, *BUDGET, "128", "--name", "one_with_budget")[0] == 0
    assert_same_figures(figures("one_with_budget"), figures("two_with_budget"), but="train/real_share")
    assert_same_weights("one_with_budget", "two_with_budget")

    # Pairs, too
    assert lit_ft("fit", *fit_args, *OF_PAIRS, "--data.batch_size", "16", "--name", "one_of_pairs")[0] == 0
    assert_same_figures(figures("one_of_pairs"), figures("two_of_pairs"), but="train/real_share")
    assert_same_weights("one_of_pairs", "two_of_pairs")
    assert lit_ft(*PREDICT_PAIRS, "one_pairs.csv")[0] == 0
    assert len(assert_same_predictions("one_pairs.csv", "two_pairs.csv", "first", "second")) == 45

    # Measured, and predicted with, by one process.
    by_two = figures("whole")
    said = {
        split: parquet.read_table(f"runs/whole/version_0/{split}_predictions.parquet") for split in SPLITS
    }
    assert two["test"].out.count("test/accuracy") == 1
    for command in ("validate", "test"):
        assert lit_ft(command, *fit_args, "--name", "whole")[0] == 0
    assert_same_figures(by_two, figures("whole"))
    for split, rows in SPLITS.items():
        assert_same_texts(said[split], f"runs/whole/version_0/{split}_predictions.parquet", rows)
    predict = ["predict", *fit_args, "--name", "whole", "--data.predict_path", "train.csv"]
    assert lit_ft(*predict, "--data.predict_output", "one.csv")[0] == 0
    two_rows = assert_same_predictions("one.csv", "two.csv", "text")
    assert len(two_rows) == 100 and len({row["confidence"] for row in two_rows}) > 20

    assert two["predict"].out.count(" of 100 below confidence 0.5\n") == 1
    table = parquet.read_table("two.parquet")
    assert [row["text"] for row in two_rows] == table["text"].to_pylist()
    assert [float(row["confidence"]) for row in two_rows] == pytest.approx(
        table["confidence"].to_pylist(), abs=2e-6
    )

    # Numbers: weights, figures, and predictions in the order of the rows
    assert lit_ft("fit", *fit_args, *NUMBERS, "128", "--name", "numbers_by_one")[0] == 0
    assert_same_figures(figures("numbers_by_one"), figures("numbers_by_two"), but="train/real_share")
    assert_same_weights("numbers_by_one", "numbers_by_two")
    code, out, _ = lit_ft("predict", *PREDICT_NUMBERS, "numbers_by_one", *OUTPUT, "numbers_by_one.csv")
    by_one, by_two = (
        np.array([float(row["predicted"]) for row in csv.DictReader(Path(n).open(newline=""))])
        for n in ("numbers_by_one.csv", "numbers_by_two.csv")
    )
    np.testing.assert_allclose(by_two, by_one, atol=2e-4)
    assert code == 0 and len(by_two) == 100 and np.ptp(by_two) > 0.5
    # Several labels: the same, with the thresholds
    assert lit_ft("fit", *fit_args, *NUMBERS[2:], "128", *TAGS, "--name", "tags_by_one")[0] == 0
    # Equal texts have equal probabilities but for rounding, by which an average precision ranks them.
    tags_by_one = {tag: v for tag, v in figures("tags_by_one").items() if "average_precision" not in tag}
    assert_same_figures(tags_by_one, figures("tags_by_two"), but="train/real_share")
    assert_same_weights("tags_by_one", "tags_by_two")
    assert state("tags_by_two")["thresholds"] == pytest.approx(state("tags_by_one")["thresholds"], abs=1e-4)
    assert lit_ft("predict", *PREDICT_NUMBERS, "tags_by_one", *OUTPUT, "tags_by_one.csv")[0] == 0
    tagged = [list(csv.DictReader(Path(f"tags_by_{n}.csv").open(newline=""))) for n in ("one", "two")]
    for a, b in zip(*tagged, strict=True):
        assert a["text"] == b["text"]
        assert float(a["probability_good"]) == pytest.approx(float(b["probability_good"]), abs=1e-5)
    assert " of 100 without a label" in two["predict tags"].out

    assert [" of 100 texts, " in said for said in (out, two["predict numbers"].out)] == [True, True]

    # Fewer texts than processes
    assert lit_ft(*PREDICT_FEW, "few_by_one.csv")[0] == 0
    few = Path("few_by_two.csv").read_text()
    assert few == Path("few_by_one.csv").read_text()
    assert parquet.read_table("few_by_two.parquet")["predicted"].null_count == 2
    assert [line.split(",")[0] for line in few.splitlines()] == ["id", "a", "b", "c"]


class KilledInValidation(Callback):
    """The first process is killed while the second one has long to do: it exchanges nothing."""

    def on_validation_start(self, trainer, pl_module) -> None:
        if trainer.global_rank == 0:
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(300)


IN_VALIDATION = json.dumps([{"class_path": "test_processes.KilledInValidation"}])
KILLED = {  # where -> the callback, the line
    "the second in training": (
        signal_at(batch=7, rank=1, number=int(signal.SIGKILL)),
        "process 1 (of 0 to 1) was ended by SIGKILL",
    ),
    "the first in validation": (
        f"--trainer.callbacks={IN_VALIDATION}",
        "process 0 (of 0 to 1) is gone",
    ),
}


@pytest.mark.parametrize("callback, told", KILLED.values(), ids=KILLED)
def test_the_others_end_where_one_is_killed(callback, told, fit_args, work):
    """The real command; its pipes are closed, and the call returns, when both have ended."""
    done = run_cli("fit", *fit_args, *DDP, callback, cwd=work, PYTHONPATH=TEST_PATHS)
    assert time.time() - (work / "killed").stat().st_mtime < 60
    assert done.returncode in (1, -signal.SIGKILL)
    advice = "run the same command again (fit and sft: with --ckpt_path last)"
    loading, line = done.stderr.splitlines()
    assert loading == "lit_ft: fit with small.yaml into runs/small: loading libraries ..."
    assert line == f"lit_ft: error: {told}, so all processes end; {advice}"


def test_a_port_that_is_taken(fit_args, work):
    """The real command: the first process tells it, and the second is ended."""
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_cli("fit", *fit_args, *DDP, cwd=work, MASTER_PORT=str(port))
    line = one_line((done.returncode, done.stdout, done.stderr))
    assert line.startswith(
        f"port {port}, by which the processes of a run find each other, is used by another"
    )
    assert "(EADDRINUSE); set the variable MASTER_PORT" in line
    assert not (work / "runs").exists()


TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "GROUP_RANK": "0",
    "WORLD_SIZE": "2",
}
MISFITS = {  # variables, flags, line
    "more processes than devices": (
        TORCHRUN,
        [],
        "--trainer.num_nodes=1 times --trainer.devices=1, found that torchrun started this one as RANK=0 of "
        "WORLD_SIZE=2",
    ),
    "more devices than processes": (TORCHRUN, [*DDP, "--trainer.devices", "3"], "match the world size (2)"),
    "no port": ({"MASTER_PORT": "many"}, DDP, "expected a port of 1 to 65535 in the variable MASTER_PORT"),
    "Lightning's own nodes": (
        {"NODE_RANK": "1", "MASTER_ADDR": "host0", "MASTER_PORT": "29500"},
        [*DDP, "--trainer.num_nodes", "2"],
        "expected torchrun or srun to start the processes of --trainer.num_nodes=2, found neither",
    ),
}


@pytest.mark.parametrize("variables, flags, line", MISFITS.values(), ids=MISFITS)
def test_processes_that_do_not_fit(variables, flags, line, lit_ft, fit_args, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert line in one_line(lit_ft("fit", *fit_args, *flags))
    assert not Path("runs").exists()


def test_stray_variables_change_nothing(lit_ft, fit_args, monkeypatch):
    for number, stray in enumerate(("RANK", "LOCAL_RANK", "SLURM_PROCID")):
        monkeypatch.setenv(stray, "1")
        code, out, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")
        assert code == 0 and f"run: runs/small/version_{number} (" in out, err
        assert err.startswith(
            f"warning: ignoring {stray}=1: this process was not started by torchrun or srun\n"
        )
        assert list(Path(f"runs/small/version_{number}").glob("events.out.*"))


def test_other_errors_are_no_lost_connection():
    assert is_lost(torch.distributed.DistNetworkError("The client socket has timed out"))
    assert is_lost(RuntimeError("[pair.cc:553] Connection closed by peer [127.0.0.1]:9118. This is ..."))
    assert not is_lost(RuntimeError("CUDA out of memory")) and not is_lost(ConnectionResetError("reset"))
