"""Two processes on one machine: the same run, each sample once, predictions complete and in order."""

import csv
import json
from pathlib import Path

import pytest
from conftest import run_cli

DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]

pytestmark = pytest.mark.slow


def test_fit_test_and_predict_on_two_processes(fit_args, work, encoder):
    result = run_cli("fit", *fit_args, *DDP, cwd=work)
    assert result.returncode == 0, result.stderr[-3000:]
    assert [p.name for p in Path("runs/small").iterdir()] == ["version_0"]
    assert result.stdout.count("val/accuracy") == 1  # one process speaks
    run = Path("runs/small/version_0")
    two = json.loads((run / "metrics.json").read_text())
    one = run_cli("validate", "--config", "small.yaml", cwd=work)
    assert one.returncode == 0, one.stderr[-3000:]
    after = json.loads((run / "metrics.json").read_text())
    for key in ("val/loss", "val/accuracy", "val/mae", "val/kappa", "val/ece"):
        assert two[key] == pytest.approx(after[key], abs=1e-6), key
    files = ["--data.predict_path", "train.csv"]
    for name, flags in {"one.csv": [], "two.csv": DDP}.items():
        done = run_cli(
            "predict", "--config", "small.yaml", *files, "--data.predict_output", name, *flags, cwd=work
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one_rows, two_rows = (list(csv.DictReader(Path(n).open(newline=""))) for n in ("one.csv", "two.csv"))
    assert len(two_rows) == 100
    for a, b in zip(one_rows, two_rows, strict=True):
        assert (a["text"], a["predicted"]) == (b["text"], b["predicted"])
        assert float(a["confidence"]) == pytest.approx(float(b["confidence"]), abs=2e-6)
