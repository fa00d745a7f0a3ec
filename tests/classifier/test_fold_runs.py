"""`data.folds`, `data.fold`, `data.train_share`: what is trained on, what `test` measures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, write_csv
from pyarrow.parquet import read_schema, read_table
from tagged import LABELS, tagged, write_tagged

from lit_ft import runs
from lit_ft.classifier.data import YelpDataModule
from lit_ft.errors import UserError

QUICK = ["--trainer.max_epochs", "1", "--baselines", "false"]


def rows_of(run: Path, prefix: str) -> np.ndarray:
    return np.sort(read_table(run / runs.PER_TEXT[prefix])["row"].to_numpy())


def test_all_folds_together_are_every_training_row_once(lit_ft, fit_args):
    measured = []
    for fold in (1, 2, 3):
        name, untested = ["--name", f"fold{fold}"], ["--data.test_path", "null"]
        chosen = ["--data.folds", "3", "--data.fold", str(fold)]
        code, out, err = lit_ft("fit", *fit_args, *QUICK, *name, *untested, *chosen)
        assert code == 0, err
        run = Path(f"runs/fold{fold}/version_0")
        said = re.search(rf"fold {fold} of 3: (\d+) texts held out of train, measured by test", out)
        assert said and (size := int(said[1])) in (32, 36)  # copies of a text, four each, stay together
        assert f"next:   python -m lit_ft test --name fold{fold}" in out
        assert not (run / "fold_predictions.parquet").is_file()
        code, out, err = lit_ft("test", *name)
        assert code == 0, err
        metrics = runs.read_metrics(run)
        assert metrics["fold/rows"] == size and 0 <= metrics["fold/accuracy"] <= 1
        assert not {tag for tag in metrics if tag.startswith("test/")}
        assert not set(rows_of(run, "fold")) & set(rows_of(run, "val"))
        measured.append(rows_of(run, "fold"))
    assert np.sort(np.concatenate(measured)).tolist() == [*range(1, 101)]


def test_a_fold_and_a_test_are_measured_apart(lit_ft, fit_args):
    run, chosen = Path("runs/small/version_0"), ["--data.folds", "3", "--data.fold", "2"]
    code, out, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1", *chosen, "--data.train_share=0.5")
    assert code == 0, err
    kept, left = re.search(r"train_share=0.5: (\d+) of (\d+) texts to train on", out).groups()
    assert int(kept) == int(left) // 2
    assert runs.read_facts(run)["splits"]["train"]["rows"] == int(kept)
    code, out, err = lit_ft("test", *fit_args, "--trainer.limit_test_batches", "1")
    assert code == 0 and "fold/accuracy" in out and "test/accuracy" in out, err
    metrics, facts = runs.read_metrics(run), runs.read_facts(run)
    assert (metrics["test/rows"], metrics["fold/rows"]) == (30, len(rows_of(run, "fold")))
    assert {"fold/loss", "fold/macro_f1", "fold/accuracy_low", "baseline/words/fold/accuracy"} <= {*metrics}
    assert "fold/confusion_matrix" not in metrics
    assert {*facts["evaluations"]} == {"val", "fold", "test"}
    assert facts["splits"]["fold"]["where"] == "fold 2 of 3, held out of train"
    note = json.loads(read_schema(run / "fold_predictions.parquet").metadata[b"lit_ft"])
    assert (note["split"], note["part"], note["held_out"]) == ("fold", "fold 2 of 3", True)
    page = (run / "report.html").read_text()
    assert "fold 2 of 3, held out of train" in page

    before = metrics["fold/accuracy"]
    message = one_line(lit_ft("test", *fit_args, "--data.fold", "1"))
    assert "data.fold is 1 here and 2 there; leave out --data.fold" in message
    message = one_line(lit_ft("test", *fit_args, "--data.train_path", "test.csv"))
    assert "expected the checkpoint's training data" in message
    assert runs.read_metrics(run)["fold/accuracy"] == before
    code, out, err = lit_ft("validate", *fit_args)
    assert code == 0 and runs.read_metrics(run)["val/accuracy"] == metrics["val/accuracy"], err

    code, _, err = lit_ft("fit", *fit_args, *chosen, "--data.train_share=0.5", "--ckpt_path", "last")
    assert code == 2 and "trainer.max_epochs=2 (there 1)" in err
    message = one_line(lit_ft("fit", *fit_args, *QUICK, *chosen, "--ckpt_path", "last"))
    assert "data.train_share=1.0 (there 0.5)" in message


def module(encoder, **settings) -> YelpDataModule:
    given = {"train_path": "train.csv", "validation_share": 0.2, "max_tokens": 64, "tokenizer": str(encoder)}
    data = YelpDataModule(**given | {"folds": 3, "fold": 1, "train_share": 0.5} | settings)
    data.setup("fit")
    return data


def test_a_scale_is_of_the_numbers_that_are_trained_on(encoder, work):
    write_csv(work / "train.csv", [(i * i / 10, f"text {i}") for i in range(60)], ("label", "text"))
    data = module(encoder, task="regression")
    train, fold = data.splits["train"], data.splits["fold"]
    assert (data.labels.mean, data.labels.deviation) == (train.labels.mean(), train.labels.std())
    np.testing.assert_allclose(data.labels.numbers(fold.rows.labels), fold.labels, rtol=1e-5, atol=1e-4)
    assert len(fold.labels) == 20 and 2 <= (fold.labels > 200).sum() <= 7  # stratified by quantiles


def test_sets_of_labels_are_divided(encoder, work):
    write_tagged(work / "train.jsonl", range(90))
    data = module(encoder, train_path="train.jsonl")
    rows = [data.splits[part].source_rows for part in ("train", "validation", "fold")]
    assert len(np.unique(np.concatenate(rows))) == sum(map(len, rows))
    whole = np.array([[label in tagged(i)[1] for label in LABELS] for i in range(90)])
    assert np.abs(data.splits["fold"].labels.mean(0) - whole.mean(0)).max() < 0.15


def test_what_a_checkpoint_keeps_of_its_fold(encoder, work, capfd):
    rows = [(i % 2, f"text {i}", f"author {i // 2}") for i in range(60)]
    write_csv(work / "train.csv", rows, ("label", "text", "author"))
    data = module(encoder, group_column="author")
    authors = [{row // 2 for row in split.source_rows - 1} for split in data.splits.values()]
    assert len(set.union(*authors)) == sum(map(len, authors))
    kept = data.state_dict()
    write_csv(
        work / "train.csv",
        [(*row[:2], f"author {i}") for i, row in enumerate(rows)],
        ("label", "text", "author"),
    )
    for stage, message in {"test": "of the fold that", "fit": "held out of its training data"}.items():
        again = YelpDataModule(**{**data.hparams})
        again.load_state_dict(kept)
        with pytest.raises(UserError, match=f"expected the rows .*{message}"):
            again.setup(stage)


def test_validation_texts_that_are_in_the_fold(encoder, work, capfd):
    module(encoder, validation_path="train.csv")
    err = capfd.readouterr().err
    assert re.search(r"3\d of 100 validation texts are copies of texts of the fold, which is to choose", err)


def test_check_divides_as_fit_does(lit_ft, fit_args):
    chosen = ["--data.folds", "3", "--data.fold", "2", "--data.train_share", "0.5"]
    code, out, err = lit_ft("check", *fit_args, *chosen, "--json")
    assert code == 0, err
    splits = json.loads(out)["splits"]
    assert splits["fold"]["where"] == "held out of train.csv (fold 2 of 3, of 32 to 36 texts each)"
    assert splits["train"]["where"].startswith("train.csv (data.train_share=0.5 of ")
    assert splits["fold"]["rows"] in (32, 36) and splits["train"]["rows"] < 40
