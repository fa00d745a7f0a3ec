"""What `predict` writes, what it never replaces, and what a path means."""

import csv
import json
import math
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from conftest import one_line, review, write_csv
from datasets import Dataset
from label_objects import classes

from lit_ft.classifier.predictions import PredictionWriter, check_output, is_prediction_of
from lit_ft.classifier.single_label import ClassAnswers
from lit_ft.errors import UserError

FIXED = ["predicted", "confidence", "second", "second_confidence", "cut"]
ADDED = [*FIXED, "probability_a", "probability_b"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def table() -> Dataset:
    return Dataset.from_dict({"id": [1, None], "text": ["good, really", 'a "quote"\nand a line']})


def predicted(path: str, rows: list[list[str]], columns: tuple[str, ...] = ("id", "text")) -> Path:
    """A file as `predict` writes it."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    added = ("a", "0.9", "b", "0.1", "false", "0.9", "0.1")
    return write_csv(Path(path), [(*row, *added) for row in rows], (*columns, *ADDED))


ROWS = [["1", "good, really"], ["", 'a "quote"\nand a line']]


def run_folder(path: str) -> Path:
    """What makes a folder that of a run."""
    folder = Path(path)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("name: a\n")
    return folder


def test_columns_are_never_named_twice():
    writer = PredictionWriter(Path("p.csv"), ClassAnswers(SimpleNamespace(labels=classes("ab")), True))
    columns = ["id", "text"]
    for prefix, suffix in (("", ""), ("lit_ft_", ""), ("lit_ft_", "_2"), ("lit_ft_", "_3")):
        added = list(writer.columns(columns))
        assert added == [f"{prefix}{name}{suffix}" for name in ADDED]
        columns += added
    assert len(set(columns)) == len(columns)
    assert list(writer.columns(["confidence"]))[:2] == ["predicted", "lit_ft_confidence"]
    assert (
        list(
            PredictionWriter(
                Path("p.csv"), ClassAnswers(SimpleNamespace(labels=classes("ab")), False)
            ).columns([])
        )
        == FIXED
    )


def test_only_a_prediction_of_the_same_rows_is_renewed(here, table):
    assert is_prediction_of(predicted("p.csv", ROWS), table)
    others = {
        "other values": predicted("a.csv", [["2", "good, really"], ROWS[1]]),
        "a row less": predicted("b.csv", ROWS[:1]),
        "a row more": predicted("c.csv", [*ROWS, ["3", "more"]]),
        "other columns": predicted("d.csv", ROWS, ("nr", "text")),
        "the rows alone": write_csv(Path("e.csv"), ROWS, ("id", "text")),
        "notes beside": write_csv(
            Path("f.csv"), [(*row, "x", "y") for row in ROWS], ("id", "text", "n", "m")
        ),
    }
    for what, path in others.items():
        assert not is_prediction_of(path, table), what
        with pytest.raises(UserError, match=f"{path} exists, and is no prediction of the same input; "):
            check_output(path, table, [], None, overwrite=False)
        assert check_output(path, table, [], None, overwrite=True) == here / path
    Path("g.csv").write_bytes(b"\xff\x00\xfe")
    assert not is_prediction_of(Path("g.csv"), table)


def test_the_input_is_known_under_all_its_names(here, table):
    data = write_csv(here / "data[1].csv", ROWS, ("id", "text"))
    os.symlink(data, "link.csv")
    os.link(data, "hard.csv")
    (here / "folder").mkdir()
    for name in ("data[1].csv", "link.csv", "hard.csv", "folder/../data[1].csv", str(data)):
        with pytest.raises(UserError, match="is the input file"):
            check_output(Path(name), table, [str(data)], None, overwrite=True)


def test_folders_of_other_runs_are_left_alone(here, table):
    own, other = run_folder("runs/a/version_0"), run_folder("runs/b/version_3")
    theirs = predicted("runs/b/version_3/predictions.csv", ROWS)
    for path in (theirs, other / "checkpoints/new.csv", here / "runs/a/../b/version_3/x.csv"):
        with pytest.raises(UserError, match="in the folder of another run, runs/b/version_3; set --data"):
            check_output(path, table, [], own, overwrite=False)
    os.symlink(theirs, "link.csv")
    with pytest.raises(UserError, match="in the folder of another run"):
        check_output(Path("link.csv"), table, [], own, overwrite=False)
    with pytest.raises(UserError, match="in model/"):
        check_output(own / "model/p.csv", table, [], own, overwrite=False)
    with pytest.raises(UserError, match="is the name of a file that `fit`, `validate` or `test` writes"):
        check_output(own / "test_predictions.parquet", table, [], own, overwrite=False)
    mine = predicted("runs/a/version_0/predictions.csv", ROWS)
    for path in (mine, own / "new.csv", Path("runs/a/new.csv")):
        assert check_output(path, table, [], own, overwrite=False) == here / path
    predicted(str(mine), [["5", "of another input"]])
    with pytest.raises(UserError, match="is no prediction of the same input"):
        check_output(mine, table, [], own, overwrite=False)


def test_a_link_is_written_through(here, table):
    os.symlink("elsewhere.csv", "out.csv")
    assert check_output(Path("out.csv"), table, [], None, overwrite=False) == here / "elsewhere.csv"


@pytest.mark.parametrize("name", ["o.json", "o.xlsx", "o.tsv", "o.csv.gz", "o"])
def test_other_formats_are_refused(name, here, table):
    with pytest.raises(
        UserError, match=f"expected a .csv, .parquet or .jsonl for data.predict_output, found {name}; set"
    ):
        check_output(Path(name), table, [], None, overwrite=True)
    with pytest.raises(UserError, match="there is no user of that name"):
        check_output(Path("~nobody_at_all/o.csv"), table, [], None, overwrite=True)
    assert check_output(Path("o.CSV"), table, [], None, overwrite=False) == here / "o.CSV"


def header(path: str | Path) -> list[str]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def test_predict_on_the_command_line(lit_ft, fit_args, work, monkeypatch):
    """One run, and what its `predict` reads, writes and refuses."""
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    run = Path("runs/small/version_0")

    def predict(path: str, output: str | None = None, *more: str) -> tuple[int, str, str]:
        given = [] if output is None else ["--data.predict_output", output]
        return lit_ft("predict", "--name", "small", "--data.predict_path", path, *given, *more)

    # The default's file is that of one input; the same one may come again.
    for _ in range(2):
        assert predict("test.csv")[0] == 0
    before = (run / "predictions.csv").read_bytes()
    write_csv(work / "other.csv", [("fine",), ("great",)], ("text",))
    line = one_line(predict("other.csv"))
    assert line == (
        f"{run}/predictions.csv exists, and is no prediction of the same input; "
        "set --data.predict_output to another file, or --overwrite true"
    )
    assert (run / "predictions.csv").read_bytes() == before
    assert predict("other.csv", None, "--overwrite")[0] == 0
    assert header(run / "predictions.csv")[:2] == ["text", "predicted"]
    # Nor is anything else replaced that stands there.
    text = (work / "train.csv").read_text()
    assert "is no prediction of the same input" in one_line(predict("other.csv", "train.csv"))
    assert (work / "train.csv").read_text() == text
    # ~ and brackets, in and out.
    home = work / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    shutil.copy("other.csv", home / "new[1].csv")
    code, out, err = predict("~/new[1].csv", "~/out [1].csv")
    assert code == 0 and (home / "out [1].csv").is_file() and not Path("~").exists(), err
    assert "is the input file" in one_line(predict("~/new[1].csv", "~/new[1].csv", "--overwrite", "true"))
    shutil.copytree(run, home / "run")
    checkpoint = ["--ckpt_path", "~/run/checkpoints/best.ckpt"]
    args = ["predict", "--data.predict_path", "other.csv", *checkpoint]
    code, out, err = lit_ft(*args)
    assert code == 0 and "predictions: home/run/predictions.csv" in out, err
    # A header without rows has a header of predictions.
    write_csv(work / "none.csv", [], ("id", "text"))
    code, _, err = predict("none.csv", "none_out.csv")
    assert code == 0 and "none.csv has no rows: the predictions are its header alone" in err
    assert Path("none_out.csv").read_text().splitlines() == [
        ",".join(["id", "text", *FIXED, *(f"probability_{n}" for n in range(1, 6))])
    ]
    for _ in range(2):
        for name in ("none_out.csv", "none_out.jsonl", "none_out.parquet"):
            code, out, err = predict("none.csv", name)
            assert code == 0 and "below confidence" not in out, err
    assert Path("none_out.jsonl").read_text() == ""
    assert parquet.read_table("none_out.parquet").num_rows == 0
    # The same in each format, and never over another file.
    formats(predict, work)
    assert not [path for path in work.rglob(".*") if "predictions" in path.name]
    assert "has no rows" in one_line(lit_ft("test", "--name", "small", "--data.test_path", "none.csv"))


def formats(predict, work: Path) -> None:
    """Types of the input, a row without text, our columns; only a prediction of the same is replaced."""
    rows = [(i, 1.5 * i if i else math.nan, " " if i == 3 else review(i % 5 + 1, i)) for i in range(30)]
    given = pa.table({name: [row[k] for row in rows] for k, name in enumerate(("id", "x", "text"))})
    parquet.write_table(given, "given.parquet")
    flags = ["--data.max_tokens", "20"]
    for suffix in ("csv", "jsonl", "parquet"):
        for _ in range(2):
            code, out, err = predict("given.parquet", f"all.{suffix}", *flags, "--overwrite", "true")
            assert code == 0, err
        assert "is no prediction of the same input" in one_line(predict("other.csv", f"all.{suffix}"))
    told = re.search(r"^predicted:   (.*); (\d+) of 29 below confidence 0.5$", out, re.MULTILINE)
    by_json = [json.loads(line) for line in Path("all.jsonl").read_text().splitlines()]
    by_csv = list(csv.DictReader(Path("all.csv").open(newline="")))
    table = parquet.read_table("all.parquet")
    assert table.select(["id", "x", "text"]).schema.remove_metadata() == given.schema
    by_parquet = table.to_pylist()
    shares = [f"probability_{n}" for n in range(1, 6)]
    assert table.schema.names == [*given.column_names, *FIXED, *shares] == list(by_json[0]) == list(by_csv[0])
    assert {str(table.schema.field(name).type) for name in ("confidence", "second_confidence", *shares)} == {
        "float"
    }
    assert [row["id"] for row in by_json] == [row["id"] for row in by_parquet] == list(range(30))
    assert by_json[0]["x"] is None and math.isnan(by_parquet[0]["x"])
    for i, (one, other, text) in enumerate(zip(by_parquet, by_json, by_csv, strict=True)):
        if i == 3:
            assert {one[name] for name in (*FIXED, *shares)} == {other[name] for name in FIXED} == {None}
            assert {text[name] for name in (*FIXED, *shares)} == {""}
            continue
        likeliest = sorted(shares, key=lambda name: -one[name])
        assert [f"probability_{one[name]}" for name in ("predicted", "second")] == likeliest[:2]
        assert [one["confidence"], one["second_confidence"]] == [one[name] for name in likeliest[:2]]
        assert one["cut"] is other["cut"] is (text["cut"] == "true") is (len(one["text"].split()) * 1.2 > 18)
        for name in ("confidence", "second_confidence", *shares):
            assert other[name] == pytest.approx(one[name], abs=1e-6) == float(text[name])
        assert (one["predicted"], one["second"]) == (other["predicted"], other["second"])
    found = Counter(row["predicted"] for row in by_parquet if row["predicted"])
    assert told and sorted(told[1].split(", ")) == sorted(f"{name} {count}" for name, count in found.items())
    assert int(told[2]) == sum(row["confidence"] < 0.5 for row in by_parquet if row["predicted"])
    for suffix in ("csv", "jsonl", "parquet"):
        code, _, err = predict("test.csv", f"few.{suffix}", "--data.predict_probabilities", "none")
        assert code == 0, err
    assert header("few.csv") == parquet.read_schema("few.parquet").names == ["label", "text", *FIXED]
    assert list(json.loads(Path("few.jsonl").read_text().splitlines()[0])) == header("few.csv")
    for suffix in ("csv", "jsonl", "parquet"):  # a prediction of the same input, in other words
        assert predict("test.csv", f"few.{suffix}")[0] == 0
    assert "one of all, none" in one_line(
        predict("test.csv", "a.csv", "--data.predict_probabilities", "some")
    )


def test_home_means_the_same_in_every_flag(here, monkeypatch):
    from lit_ft.classifier.resume import locate
    from lit_ft.data import source
    from lit_ft.masked_lm.resume import find_start
    from lit_ft.models.names import find_model
    from lit_ft.runs import cache_dir

    home = here / "home"
    (home / "corpus").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert locate("a", "~/best.ckpt", "test") == home / "best.ckpt"
    with pytest.raises(UserError, match=f"{home}/checkpoint-3"):
        find_start("a", "~/checkpoint-3", "")
    texts = source.TextSource("~/corpus", splits={"train": "train"})
    assert not texts.asks_hub("train")
    monkeypatch.setattr(source, "read_hub", lambda name, **rest: name)
    assert texts.read("train") == (str(home / "corpus"), "~/corpus (train)")
    monkeypatch.setenv("LIT_FT_CACHE", "~/cache")
    assert cache_dir() == home / "cache"
    with pytest.raises(UserError, match="there is no such folder"):
        find_model("~nobody_at_all/model", "--model.pretrained")
