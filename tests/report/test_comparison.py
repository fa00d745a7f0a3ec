"""What `report A B ...` says of runs, from files made by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report.comparison import as_text, compare, write_comparison
from lit_ft.report.pairs import with_note

NAMES = ["bad", "<b>good</b>"]


def make(
    name: str,
    right: list[bool],
    prefixes: tuple[str, ...] = ("test",),
    hashed: str = "",
    files: bool = True,
    **settings,
) -> Path:
    """A run that was right on these texts."""
    run = Path("runs") / name / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints/best.ckpt").touch()
    (run / "config.yaml").write_text(yaml.safe_dump({"name": name, "seed_everything": 42, **settings}))
    metrics, splits = {}, {}
    for prefix in prefixes:
        accuracy = sum(right) / len(right)
        metrics |= {f"{prefix}/accuracy": accuracy, f"{prefix}/step": 5, f"{prefix}/rows": len(right)}
        split = {"test": "test", "fold": "fold", "val": "validation"}[prefix]
        splits[split] = {"where": f"{hashed}{prefix}.csv", "fingerprint": hashed + prefix}
        texts = [f"{hashed}<i>text</i> {i}" for i in range(len(right))]
        labels = [NAMES[i % 2] for i in range(len(right))]
        said = [
            label if good else NAMES[label == NAMES[0]] for label, good in zip(labels, right, strict=True)
        ]
        table = pa.table(
            {
                "row": pa.array(range(1, len(right) + 1), pa.int64()),
                "text_hash": pa.array([len(hashed) * 1000 + i for i in range(len(right))], pa.uint64()),
                "text": texts, "label": labels, "predicted": said,
                "loss": pa.array([0.1 if good else 2.0 for good in right], pa.float32()),
            }
        )  # fmt: skip
        if files:
            note = {"step": 5, "labels": NAMES}
            parquet.write_table(table.cast(with_note(table.schema, note)), run / runs.PER_TEXT[prefix])
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "report.json").write_text(json.dumps({"kind": "classifier", "splits": splits}))
    return run


GOOD, WORSE = [True] * 36 + [False] * 4, [True] * 20 + [False] * 20


def test_two_runs_on_the_same_texts():
    folders = [make("a", GOOD), make("b", WORSE, model={"learning_rate": 0.1})]
    compared = compare(folders)
    text = as_text(compared)
    assert text.startswith("A  a/version_0\nB  b/version_0\n\non the same 40 test texts:\n")
    assert "  accuracy  B - A: -40.0 points (95 %: -55.0 to -25.0): A is better\n" in text
    assert "only A is right on 16 texts, only B on 0; McNemar's exact test: p < 0.001\n" in text
    assert "A, B: not all say the same of 16 of 40 texts; the page has them\n" in text
    write_comparison(compared, Path("page.html"))
    page = Path("page.html").read_text()
    assert "Accuracy, B - A: -40.0 points (95 %: -55.0 to -25.0): A is better. On the same 40 test" in page
    assert page.count("&lt;i&gt;text&lt;/i&gt;") == 16 and "<i>" not in page and "<b>good" not in page
    assert "&lt;b&gt;good&lt;/b&gt; ✓" in page


def test_other_texts_are_not_compared():
    folders = [make("a", GOOD), make("b", WORSE, hashed="x"), make("c", GOOD)]
    compared = compare(folders)
    assert [pair["names"] for pair in compared["pairs"]] == ["C - A"]
    assert compared["notes"] == [
        "B and A are not comparable: they were measured on different test texts (xtest.csv, 40 texts; "
        "test.csv, 40 texts)"
    ]
    assert compared["differ"]["letters"] == ["A", "C"] and compared["differ"]["count"] == 0
    # A part of the texts is told.
    table = parquet.read_table(folders[2] / "test_predictions.parquet")
    parquet.write_table(table.slice(0, 30), folders[2] / "test_predictions.parquet")
    (folders[2] / "metrics.json").write_text('{"test/accuracy": 1.0, "test/step": 5, "test/rows": 30}')
    compared = compare([folders[0], folders[2]])
    assert compared["pairs"][0]["rows"] == 30
    assert compared["notes"] == ["B - A is of the 30 texts that both were measured on, of 30 and 40"]
    # So are labels that changed.
    places = [NAMES[1]] + table["label"].to_pylist()[1:]
    changed = table.set_column(3, "label", pa.array(places)).set_column(4, "predicted", pa.array(places))
    parquet.write_table(changed, folders[2] / "test_predictions.parquet")
    compared = compare([folders[0], folders[2]])
    assert compared["pairs"] == []
    assert compared["notes"] == [
        "B and A are not comparable: 1 of their 40 texts in common have different labels"
    ]


def test_runs_without_the_files():
    both = ("test", "val")
    folders = [make("a", GOOD, both), make("b", WORSE, both), make("c d", GOOD, files=False)]
    compared = compare([folders[0], folders[2]])
    assert compared["pairs"] == [] and compared["notes"] == [
        "B cannot be compared text by text: there is no test_predictions.parquet; python -m lit_ft test "
        "--ckpt_path 'runs/c d/version_0/checkpoints/best.ckpt' writes it"
    ]
    # The validation has them.
    (folders[1] / "test_predictions.parquet").unlink()
    compared = compare(folders[:2])
    assert compared["texts"] == "validation" and compared["pairs"][0]["rows"] == 40
    assert compared["notes"][1:] == [
        "until then the validation texts are compared",
        "each run chose its best checkpoint by its validation texts; a test is fairer",
    ]
    assert "on the same 40 validation texts:" in as_text(compared)
    # A run that was not tested.
    compared = compare([folders[0], make("g", GOOD, ("val",))])
    assert compared["texts"] == "validation"
    assert compared["notes"][0] == "not all of the runs were tested, so the validation texts are compared"
    # Runs that left out the same fold, of which one was tested.
    folds = [make("h", GOOD, ("fold", "val")), make("i", WORSE, ("test", "fold", "val"))]
    compared = compare(folds)
    assert compared["texts"] == "fold" and compared["pairs"][0]["rows"] == 40
    assert compared["notes"] == ["not all of the runs were tested, so the fold texts are compared"]
    # Known to be others, even without the files.
    folders = [make("e", GOOD, files=False), make("f", GOOD, files=False, hashed="y")]
    assert "B and A are not comparable" in compare(folders)["notes"][-1]
    report = folders[1] / "report.json"
    report.write_text(report.read_text().replace("ytest.csv", "test.csv"))
    told = "different test texts (both of test.csv, 40 texts: it was changed, or read by other columns or"
    assert told in compare(folders)["notes"][-1]


def test_seeds_have_a_mean_and_a_standard_deviation():
    shares = (30, 32, 34)
    folders = [
        make(f"s{i}", [k < share for k in range(40)], seed_everything=i) for i, share in enumerate(shares)
    ]
    other = make("t", GOOD, model={"learning_rate": 0.1})
    compared = compare([*folders, other])
    assert compared["groups"] == [
        {"letters": "A, B, C", "rows": [("test/accuracy", "0.8000 ± 0.0500", "0.7500 to 0.8500")]}
    ]
    assert "A, B, C differ only in the seed (mean ± standard deviation, range):" in as_text(compared)
    assert "of 20 differences that are none, about one seems certain by chance" in compared["notes"]
    # Of an sft its own figures.
    for folder, value in zip(folders, (3.0, 5.0, 4.0), strict=True):
        (folder / "metrics.json").write_text(json.dumps({"val/loss": 1.0, "val/perplexity": value}))
        (folder / "report.json").write_text('{"kind": "masked_lm"}')
    ((loss, perplexity),) = [group["rows"] for group in compare(folders)["groups"]]
    assert loss[0] == "val/loss" and perplexity == ("val/perplexity", "4.0000 ± 1.0000", "3.0000 to 5.0000")
    assert compare([folders[0], other])["groups"] == [] == compare([folders[0]] * 2)["groups"]


@pytest.mark.parametrize("missing", [runs.METRICS, runs.CONFIG])
def test_an_unfinished_run_is_told(missing):
    folders = [make("a", GOOD), make("b", GOOD)]
    (folders[1] / missing).unlink()
    with pytest.raises(
        UserError, match=r"expected a finished run in runs/b/version_0, with metrics\.json and"
    ):
        compare(folders)


def test_a_classifier_and_a_masked_lm_share_no_row():
    folders = [make("a", GOOD), make("b", GOOD)]
    figures = {"val/loss": 2.0, "val/perplexity": 7.0, "sft/seconds": 3.0}
    (folders[1] / "metrics.json").write_text(json.dumps(figures))
    (folders[1] / "report.json").write_text('{"kind": "masked_lm"}')
    runs.add_metrics(folders[0], {"val/loss": 0.5, "fit/seconds": 4.0})
    results = dict(compare(folders)["results"])
    assert results["val/loss (classifier)"] == [0.5, None]
    assert results["val/loss (masked LM)"] == [None, 2.0]
    assert results["val/perplexity"] == [None, 7.0] and "val/loss" not in results


@pytest.mark.parametrize("count", [2, 7, 30])
def test_the_text_fits_80_columns(count):
    folders = [
        make(
            f"run{i}", GOOD, seed_everything=i, model={"pretrained": f"a/b{i}" + "/a long name" * 4, "lr": i}
        )
        for i in range(count)
    ]
    lines = as_text(compare(folders)).splitlines()
    paths = [line for line in lines if "a long name" in line]
    assert len(paths) == count and max(len(line) for line in lines if line not in paths) <= 80
    values = [line.split() for line in lines if line.startswith("test/accuracy")]
    assert [value for row in values for value in row[1:]] == ["0.9000"] * count
