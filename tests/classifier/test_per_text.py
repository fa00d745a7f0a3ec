"""`test_predictions.parquet` and `val_predictions.parquet`: what a run said of each text."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import xxhash
from conftest import one_line, review, write_csv
from test_preempt import signal_at

from lit_ft.report.pairs import note_of

RUN = Path("runs/small/version_0")
VAL, TEST = RUN / "val_predictions.parquet", RUN / "test_predictions.parquet"
OFTEN = ["--trainer.val_check_interval", "5"]


def metrics() -> dict:
    return json.loads((RUN / "metrics.json").read_text())


def rows_of(path: Path) -> list[dict]:
    return parquet.read_table(path).to_pylist()


def test_the_file_is_what_the_figures_were_measured_on(lit_ft, fit_args, work):
    """In the input's order though batches are of similar length; rows without text are not in it."""
    texts = [(i % 5 + 1, review(i % 5 + 1, i * 7 % 5) if i % 6 else " ") for i in range(30)]
    write_csv(work / "test.csv", texts)
    flags = ["--data.max_tokens", "20"]
    assert lit_ft("fit", *fit_args, *flags)[0] == 0
    code, out, err = lit_ft("test", *fit_args, *flags)
    assert code == 0 and f"texts:   {TEST}" in out, err
    rows = rows_of(TEST)
    assert [(row["row"], row["label"], row["text"]) for row in rows] == [
        (i + 1, str(stars), text) for i, (stars, text) in enumerate(texts) if text != " "
    ]
    names = [f"probability_{n}" for n in range(1, 6)]
    assert list(rows[0]) == ["row", "text_hash", "text", "label", "predicted", *names, "loss", "cut"]
    for row in rows:
        shares = [row[name] for name in names]
        assert row["text_hash"] == xxhash.xxh3_64_intdigest(row["text"].encode())
        assert sum(shares) == pytest.approx(1, abs=1e-6)
        assert row["predicted"] == names[int(np.argmax(shares))].removeprefix("probability_")
        assert row["loss"] == pytest.approx(-np.log(row[f"probability_{row['label']}"]), abs=1e-5)
        assert row["cut"] == (len(row["text"].split()) * 1.2 > 18)
    assert 0 < sum(row["cut"] for row in rows) < len(rows)
    right = [row["label"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(metrics()["test/accuracy"])
    assert np.mean([row["loss"] for row in rows]) == pytest.approx(metrics()["test/loss"], abs=1e-5)
    schema = parquet.read_schema(TEST)
    assert {str(schema.field(name).type) for name in (*names, "loss")} == {"float"}
    facts = json.loads((RUN / "report.json").read_text())
    note = note_of(TEST)
    assert {key: note[key] for key in ("split", "file", "held_out", "step", "labels")} == {
        "split": "test", "file": "test.csv", "held_out": False, "step": metrics()["test/step"],
        "labels": ["1", "2", "3", "4", "5"],
    }  # fmt: skip
    assert note["fingerprint"] == facts["splits"]["test"]["fingerprint"]
    # Of a file elsewhere only the name.
    elsewhere = work / "elsewhere"
    elsewhere.mkdir()
    (work / "test.csv").rename(elsewhere / "t.csv")
    (work / "here").mkdir()
    assert lit_ft("test", *fit_args, *flags, "--data.test_path", str(elsewhere / "t.csv"))[0] == 0
    assert note_of(TEST)["file"] == "elsewhere/t.csv"


def test_validate_writes_what_fit_did(lit_ft, fit_args):
    """The file of the best checkpoint, though the validation after it was worse."""
    assert (
        lit_ft("fit", *fit_args, *OFTEN, "--model.learning_rate", "0")[0] == 0
    )  # equal: the first is the best
    note, by_fit = note_of(VAL), parquet.read_table(VAL)
    assert note["step"] == metrics()["val/step"] == 5 and note["held_out"] and note["file"] == "train.csv"
    assert len(by_fit) == 20 and np.all(np.diff(by_fit["row"].to_numpy()) > 0)
    VAL.unlink()
    assert lit_ft("validate", *fit_args)[0] == 0
    assert note_of(VAL) == note
    again = parquet.read_table(VAL)
    for name in by_fit.column_names:
        values = [table[name].to_pylist() for table in (by_fit, again)]
        assert values[0] == (
            pytest.approx(values[1], abs=1e-6) if name.startswith(("prob", "loss")) else values[1]
        )
    # Figures of other weights, or of texts read in another way, are kept apart: so is the file.
    before = VAL.read_bytes()
    for flags in (["--ckpt_path", "last"], ["--data.max_tokens", "12"]):
        for command in ("validate", "test"):
            assert lit_ft(command, *fit_args, *flags)[0] == 0
    assert VAL.read_bytes() == before and not TEST.exists()
    # A limit measures a part.
    assert (
        lit_ft("test", *fit_args, "--data.eval_batch_size", "4", "--trainer.limit_test_batches", "2")[0] == 0
    )
    assert len(rows_of(TEST)) == metrics()["test/rows"] == 8


def test_many_classes_have_their_five_likeliest(lit_ft, fit_args, work):
    rows = [(f"class {c:02}", f"the movie was {word}") for c in range(51) for word in ("great", "fine")]
    write_csv(work / "many.csv", rows)
    args = [*fit_args, "--data.train_path", "many.csv", "--data.validation_share", "0.5"]
    assert lit_ft("fit", *args, "--trainer.max_epochs", "1")[0] == 0
    found = rows_of(VAL)
    assert len(found) == 51 and not [name for name in found[0] if name.startswith("probability_")]
    for row in found:
        shares = row["likeliest_probabilities"]
        assert len(row["likeliest"]) == len(set(row["likeliest"])) == len(shares) == 5
        assert shares == sorted(shares, reverse=True) and row["likeliest"][0] == row["predicted"]


def test_a_resumed_run_has_the_file_of_its_best_weights(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, *OFTEN, "--name", "whole")[0] == 0
    assert lit_ft("fit", *fit_args, *OFTEN, signal_at(batch=7))[0] == 143
    assert note_of(VAL)["step"] == 5
    assert lit_ft("test", *fit_args)[0] == 0
    code, out, err = lit_ft("fit", *fit_args, *OFTEN, "--ckpt_path", "last")
    assert code == 0, err
    step = metrics()["val/step"]
    assert note_of(VAL)["step"] == step > 5
    whole = Path("runs/whole/version_0") / VAL.name
    assert whole.read_bytes() == VAL.read_bytes()
    # The test was of the weights before.
    best = f"{RUN}/checkpoints/best.ckpt"
    told = f"{TEST} was of step 5, model/ is of step {step}: removed; `test --ckpt_path {best}` writes it\n"
    assert told in out and not TEST.exists()
    # A file that is gone is not missed in silence, nor is one of other weights left.
    for content, told in ((None, f"there is no {VAL}; "), (b"PAR1", f"{VAL} cannot be read: removed; ")):
        VAL.unlink(missing_ok=True)
        if content:
            VAL.write_bytes(content)
        code, out, err = lit_ft("fit", *fit_args, *OFTEN, "--ckpt_path", "last")
        assert code == 0 and f"{told}`validate --ckpt_path {best}` writes it\n" in out, err
        assert not VAL.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line(lit_ft, fit_args, monkeypatch):
    from lit_ft import runs

    whole = runs.written_whole

    def full(path: Path):
        return whole(path) if path.suffix != ".parquet" else open("/dev/full", "wb")

    monkeypatch.setattr(runs, "written_whole", full)
    code, out, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")
    warning = f"warning: {VAL} could not be written (No space left on device); the run continues\n"
    assert code == 0 and warning in err and f"there is no {VAL}; `validate --ckpt_path" in out
    TEST.write_bytes(b"of an earlier test")
    assert "No space left on device" in one_line(lit_ft("test", *fit_args))
    assert "test/accuracy" in metrics() and not TEST.exists() and not list(RUN.glob(".*"))
