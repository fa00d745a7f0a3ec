"""`out_of_fold.parquet`: the files of a repeat's runs as one, by kind of label, and what cannot be joined."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from fold_files import of_classes, repetition

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report import out_of_fold
from lit_ft.report.out_of_fold import write_out_of_fold
from lit_ft.report.pairs import note_of

NAMES = ["bad", "so so", "good"]
SHARES = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.1, 0.2, 0.7], [0.4, 0.35, 0.25]])
LABELS = [0, 1, 2, 2]


def two_seeds(folder, names=NAMES, **settings):
    """Rows 3 and 9 are of fold 1, rows 5 and 7 of fold 2; seed 43 sees the classes the other way round."""
    found = []
    for seed, shares in ((42, SHARES), (43, SHARES[:, ::-1])):
        for fold, at, rows in ((1, [0, 3], [3, 9]), (2, [1, 2], [5, 7])):
            columns = of_classes(rows, [LABELS[i] for i in at], shares[at], NAMES)
            found.append(repetition(folder, seed, fold, {**columns, **settings}, labels=names))
    return found


def test_every_row_once_in_the_order_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(out_of_fold, "GROUP_ROWS", 3)
    given = two_seeds(tmp_path, pair=["a", "b"])
    (given[0].folder / "report.json").write_text(json.dumps({"ordered": True, "decide": "mode"}))
    smaller = replace(given[0], share=0.5)
    path = write_out_of_fold([smaller, *given], tmp_path / "out_of_fold.parquet")
    table = parquet.read_table(path)
    assert table.column_names == [
        "row", "text_hash", "text", "pair", "label", "fold",
        "predicted", "predicted_42", "predicted_43", "agreeing", "label_probability",
        "probability_bad", "probability_so so", "probability_good", "loss", "cut",
    ]  # fmt: skip
    rows = table.to_pylist()
    assert [(row["row"], row["fold"], row["label"]) for row in rows] == [
        (3, 1, "bad"), (5, 2, "so so"), (7, 2, "good"), (9, 1, "good")
    ]  # fmt: skip
    assert [row["text"] for row in rows] == [f"text {row['row']}" for row in rows]
    assert [row["agreeing"] for row in rows] == [1, 2, 1, 1]
    assert [row["predicted_43"] for row in rows] == ["good", "so so", "bad", "good"]
    mean = (SHARES + SHARES[:, ::-1]) / 2
    for i, row in enumerate(rows):
        assert [row[f"probability_{name}"] for name in NAMES] == pytest.approx(mean[i])
        assert row["label_probability"] == pytest.approx(mean[i, LABELS[i]])
        assert row["predicted"] == NAMES[mean[i].argmax()]
        losses = [-np.log(shares[i, LABELS[i]]) for shares in (SHARES, SHARES[:, ::-1])]
        assert row["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    note = note_of(path)
    assert note["seeds"] == [42, 43] and note["folds"] == [1, 2] and note["missing"] == []
    assert note["ordered"] is True and note["labels"] == NAMES and note["split"] == "fold"
    assert parquet.ParquetFile(path).num_row_groups == 2


def test_the_decision_is_the_settings(tmp_path):
    given = two_seeds(tmp_path)
    (given[0].folder / "report.json").write_text(json.dumps({"decide": "median"}))
    said = parquet.read_table(write_out_of_fold(given, tmp_path / "o.parquet"))["predicted"].to_pylist()
    assert said == ["so so"] * 4  # each mean is symmetric


def test_the_median_is_of_calibrated_probabilities(tmp_path):
    """As the runs decide: one seed's answer stays, those of several are of what their temperatures make."""
    shares = [[0.52, 0.28, 0.2]]  # its median is bad, with a temperature of 4 so so

    def said(*temperatures):
        given = [
            repetition(tmp_path / str(len(temperatures)), seed, 1, {**of_classes([1], [2], shares, NAMES),
                       "predicted": ["so so"]}, labels=NAMES, temperature=temperature)
            for seed, temperature in enumerate(temperatures)
        ]  # fmt: skip
        (given[0].folder / "report.json").write_text(json.dumps({"decide": "median"}))
        return parquet.read_table(write_out_of_fold(given, tmp_path / "o.parquet"))["predicted"].to_pylist()

    assert said(1.0) == said(4.0, 4.0) == ["so so"] and said(1.0, 1.0, None) == ["bad"]


def test_a_missing_run_is_told(tmp_path):
    """The other seed's answers stand alone; a fold without any is left out."""
    given = two_seeds(tmp_path)
    (given[0].folder / runs.PER_TEXT["fold"]).unlink()
    path = write_out_of_fold(given, tmp_path / "o.parquet")
    rows = parquet.read_table(path).to_pylist()
    assert [row["predicted_42"] for row in rows] == [None, "so so", "good", None]
    assert rows[0]["probability_bad"] == pytest.approx(0.1) and rows[0]["agreeing"] == 0
    assert note_of(path)["missing"] == [{"seed": 42, "fold": 1}]
    (given[2].folder / runs.PER_TEXT["fold"]).unlink()
    assert parquet.read_table(write_out_of_fold(given, path))["row"].to_pylist() == [5, 7]
    before = path.read_bytes()
    for one in (given[1], given[3]):
        (one.folder / runs.PER_TEXT["fold"]).unlink()
    with pytest.raises(
        UserError, match="expected fold_predictions.parquet .*seed_42_fold_1; repeat with --fol"
    ):
        write_out_of_fold(given, path)
    assert path.read_bytes() == before


def test_runs_of_other_data_are_refused(tmp_path):
    def again(rows, labels, texts=None, seed=43, fold=1, **note):
        columns = of_classes(rows, labels, SHARES[:2], NAMES)
        texts = {} if texts is None else {"text": texts}
        return repetition(tmp_path / str(len(list(tmp_path.iterdir()))), seed, fold, columns | texts,
                          labels=NAMES, **note)  # fmt: skip

    first = again([1, 4], [0, 1], seed=42)
    for other, said in (
        (again([1, 5], [0, 1]), "same rows in fold 1 of seeds 42 and 43, found 2 and 2 rows"),
        (again([1, 4], [0, 2]), "same label in row 4 in seeds 42 and 43"),
        (again([1, 4], [0, 1], ["text 1", "x"]), "same text in row 4 in seeds 42 and 43"),
        (again([4, 6], [1, 1], seed=42, fold=2), r"found row 4 in folds \[1, 2\]"),
        (again([1, 4], [0, 1], kind="regression"), r"found \['classifier', 'regression'\]"),
    ):
        with pytest.raises(UserError, match=said):
            write_out_of_fold([first, other], tmp_path / "o.parquet")
    assert not list(tmp_path.glob("*o.parquet*"))
    (first.folder / runs.PER_TEXT["fold"]).write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be used .*; repeat the run: delete"):
        write_out_of_fold([first], tmp_path / "o.parquet")


def test_of_many_classes_the_likeliest(tmp_path):
    """Averaged over the seeds, of which each knows five; the label's probability is in the loss."""
    names = [f"c{i}" for i in range(60)]
    given = []
    for seed, most in ((42, 0), (43, 3)):
        shares = np.full((2, 60), 0.2 / 55)
        shares[:, most : most + 5] = 0.16
        shares[:, most] += 0.01
        given.append(
            repetition(tmp_path, seed, 1, of_classes([1, 2], [4, 59], shares, names, 5), labels=names)
        )
    rows = parquet.read_table(write_out_of_fold(given, tmp_path / "o.parquet")).to_pylist()
    assert rows[0]["likeliest"][:2] == ["c3", "c4"] and len(rows[0]["likeliest"]) == 5
    assert rows[0]["likeliest_probabilities"][:3] == pytest.approx([0.165, 0.16, 0.085])
    assert [row["label_probability"] for row in rows] == pytest.approx([0.16, 0.2 / 55])
    assert rows[0]["predicted"] == "c0" and rows[0]["predicted_43"] == "c3"
    assert "probability_c0" not in rows[0]


def test_several_labels(tmp_path):
    """At the thresholds of the fold's models, averaged."""
    given = [
        repetition(
            tmp_path, seed, 1,
            {
                "row": [1, 2], "label": [["bug"], []], "predicted": [["bug"], said], "loss": [0.5, 1.0],
                "probability_bug": pa.array([0.8, share], pa.float32()),
                "probability_cost": pa.array([0.3, 0.1], pa.float32()),
            },
            kind="multi_label", labels=["bug", "cost"], thresholds=[least, 0.5],
        )
        for seed, share, said, least in ((1, 0.5, ["bug"], 0.4), (2, 0.2, [], 0.5))
    ]  # fmt: skip
    rows = parquet.read_table(write_out_of_fold(given, tmp_path / "o.parquet")).to_pylist()
    assert [row["predicted"] for row in rows] == [["bug"], []]  # 0.35, and the mean threshold is 0.45
    assert [row["agreeing"] for row in rows] == [2, 1] and rows[1]["probability_bug"] == pytest.approx(0.35)
    assert rows[1]["predicted_1"] == ["bug"] and rows[1]["label"] == [] and rows[0]["loss"] == 0.5
    alone = parquet.read_table(write_out_of_fold(given[:1], tmp_path / "o.parquet")).to_pylist()
    assert [row["predicted"] for row in alone] == [row["predicted_1"] for row in alone]


def test_numbers(tmp_path):
    given = [
        repetition(
            tmp_path, seed, 1,
            {
                "row": [1, 2], "label": [10.0, 20.0], "predicted": [said, 20.0],
                "error": [said - 10, 0.0], "loss": [1, 0],
            },
            kind="regression", labels=["stars"],
        )
        for seed, said in ((1, 12.0), (2, 13.0))
    ]  # fmt: skip
    table = parquet.read_table(write_out_of_fold(given, tmp_path / "o.parquet"))
    assert table.column_names[4:] == [
        "fold",
        "predicted",
        "predicted_1",
        "predicted_2",
        "error",
        "loss",
        "cut",
    ]
    assert table["predicted"].to_pylist() == [12.5, 20] and table["error"].to_pylist() == [2.5, 0]
