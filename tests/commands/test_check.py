"""`check` on planted files: what it prints, its exit codes; and the warning of `fit`."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import write_csv

from lit_ft.classifier.data import YelpDataModule
from lit_ft.console import quiet, say, warn
from lit_ft.data.facts import measure_lengths
from lit_ft.data.tokens import row_lengths

NOUNS = ("movie", "film", "plot", "acting", "ending")


def sentence(number: int) -> str:
    """A text of 9 to 17 words that no other number has."""
    words = [NOUNS[number // 5**place % 5] for place in range(6)]
    return f"the {' '.join(words)} was great" + ", i liked it" * (number % 5)


@pytest.fixture
def check(lit_ft, fit_args, work):
    """Run `check` on clean.csv (60 rows), dev.csv (20 rows) and test.csv (20 rows), which share nothing."""
    for name, start, count in (("clean.csv", 0, 60), ("dev.csv", 100, 20), ("test.csv", 200, 20)):
        write_csv(work / name, [(i % 5 + 1, sentence(start + i)) for i in range(count)])

    def run(*args: str, train: str = "clean.csv", dev: str | None = "dev.csv") -> tuple[int, str, str]:
        paths = ["--data.train_path", train, *(["--data.validation_path", dev] if dev else [])]
        return lit_ft("check", *fit_args, *paths, *args)

    return run


def plant(name: str, source: str, changes: dict[int, tuple[int, str]]) -> str:
    """Write the rows of `source` under `name` with these rows, counted from 1, in their place."""
    import csv

    with open(source, newline="") as file:
        rows = [(label, text) for label, text in csv.reader(file)][1:]
    for row, content in changes.items():
        rows[row - 1] = content  # type: ignore[call-overload]
    write_csv(Path(name), rows)
    return name


def planted(check, *args: str) -> tuple[int, str, str]:
    """A run on files with known duplicates, leaks, conflicts and empty texts."""
    train = plant(
        "train.csv",
        "clean.csv",
        {
            10: (5, sentence(4)),  # a copy of row 5
            20: (5, sentence(4).upper() + " !"),  # equal to it but for case and punctuation
            33: (4, sentence(1)),  # row 2, which has the label 2
            40: (1, "   "),
            50: (2, ""),
        },
    )
    dev = plant("planted_dev.csv", "dev.csv", {7: (3, sentence(12))})  # row 13 of train
    test = plant(
        "planted_test.csv",
        "test.csv",
        {
            3: (1, sentence(15)),  # row 16 of train
            4: (2, sentence(16).replace("the", "THE  ", 1)),  # row 17 of train
            9: (4, sentence(55)),  # row 56 of train, which has the label 1
            12: (3, sentence(107)),  # row 8 of dev
            15: (1, " "),
        },
    )
    paths = ["--data.train_path", train, "--data.validation_path", dev, "--data.test_path", test]
    return check(*paths, *args)


def verdict(out: str) -> str:
    """The verdict, which stands before the last line."""
    before, last = out.splitlines()[-2:]
    assert last.startswith("next: ")
    return before.removeprefix("verdict: ")


def as_json(result: tuple[int, str, str]) -> dict:
    code, out, err = result
    assert code in (0, 1), err
    return json.loads(out)


def rows_of(examples: list[dict], exact: bool) -> list[list[tuple[str, int, str]]]:
    return [
        [(place["split"], place["row"], place["label"]) for place in example["occurrences"]]
        for example in examples
        if example["exact"] is exact
    ]


def test_planted_duplicates_leaks_and_conflicts_are_found(check):
    report = as_json(planted(check, "--json"))
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["rows"], train["empty_rows"]) == (58, 2) and (test["rows"], test["empty_rows"]) == (19, 1)
    assert train["exact_duplicates"] == {"texts": 2, "surplus_rows": 2}
    assert train["normalised_duplicates"] == {"texts": 2, "surplus_rows": 3}
    assert test["exact_duplicates"] == {"texts": 0, "surplus_rows": 0}

    leaks = {(leak["first"], leak["second"]): leak for leak in report["leakage"]}
    assert list(leaks) == [("train", "validation"), ("train", "test"), ("validation", "test")]
    assert [(x["exact_rows"], x["normalised_rows"]) for x in leaks.values()] == [(1, 1), (2, 3), (1, 1)]
    examples = leaks["train", "test"]["examples"]
    assert rows_of(examples, exact=True) == [
        [("train", 16, "1"), ("test", 3, "1")],
        [("train", 56, "1"), ("test", 9, "4")],
    ]
    assert rows_of(examples, exact=False) == [[("train", 17, "2"), ("test", 4, "2")]]
    assert examples[0]["text"] == sentence(15)
    examples = leaks["train", "validation"]["examples"]
    assert rows_of(examples, exact=True) == [[("train", 13, "3"), ("validation", 7, "3")]]
    assert leaks["train", "validation"]["share"] == 1 / 20

    conflicts = report["conflicts"]
    assert (conflicts["exact_texts"], conflicts["normalised_texts"], conflicts["rows"]) == (2, 2, 4)
    assert conflicts["within"] == {"train": 1, "validation": 0, "test": 0} and conflicts["across"] == 1
    assert rows_of(conflicts["examples"], exact=True) == [
        [("train", 2, "2"), ("train", 33, "4")],
        [("train", 56, "1"), ("test", 9, "4")],
    ]
    assert report["sound"] is False and report["not_named"] == ["predict"]


def test_table_has_the_figures_of_the_json(check):
    report = as_json(planted(check, "--json"))
    code, out, err = planted(check)
    assert code == 0 and err == ""
    lines = [line.split() for line in out.splitlines()]
    for name, split in report["splits"].items():
        counts = [str(split["rows"]), str(split["empty_rows"])]
        assert [name, *counts] in [line[:3] for line in lines]
        tokens = split["tokens"]
        figures = [f"{tokens[key]:.0f}" for key in ("measured", "mean", "median", "p95", "max")]
        assert [name, *figures, f"{tokens['unknown']:.2%}"] in lines
    train = next(line for line in lines if line[:2] == ["train", "58"])
    assert train == ["train", "58", "2", "2", "(2", "texts)", "3", "(2", "texts)", "train.csv"]
    for leak in report["leakage"]:
        counts = [str(leak["exact_rows"]), str(leak["normalised_rows"]), f"{leak['share']:.2%}"]
        assert [leak["second"], leak["first"], *counts] in lines
    classes = report["splits"]["train"]["classes"]
    assert classes == {"1": 12, "2": 12, "3": 11, "4": 13, "5": 10}
    assert ["4", "13", "22.4%", "4", "20.0%", "3", "15.8%"] in lines
    assert f'train row 16 (label 1) = test row 3 (label 1): "{sentence(15)}"' in out
    assert "train row 17 (label 2) ~ test row 4 (label 2): " in out
    assert "  2 texts in 4 rows (2 exactly equal): 1 within train, 1 only between splits" in out
    assert "not checked, as not set: predict (--data.predict_path)" in out
    assert verdict(out) == (
        "1 validation row also in train, 3 test rows also in train, 1 test row also in validation, "
        "2 texts with different labels, 2 train rows without a text, 1 test row without a text"
    )


def test_strict_is_exit_code_1_for_leakage_and_for_conflicts(check):
    assert check("--strict")[0] == 0
    assert planted(check)[0] == 0
    assert planted(check, "--strict")[0] == planted(check, "--strict", "--json")[0] == 1
    leak = plant("leak.csv", "test.csv", {2: (4, sentence(3).upper())})  # the label is that of train
    assert check("--data.test_path", leak)[0] == 0
    code, out, _ = check("--data.test_path", leak, "--strict")
    assert code == 1 and verdict(out) == "1 test row also in train"
    conflict = plant("conflict.csv", "clean.csv", {2: (4, sentence(2))})  # row 3 has the label 3
    code, out, _ = check("--strict", train=conflict)
    assert code == 1 and verdict(out) == "1 text with different labels"
    copies = plant("copies.csv", "clean.csv", {1: (3, sentence(2))})
    code, out, _ = check("--strict", train=copies)  # duplicates alone are no mistake
    assert code == 0 and verdict(out) == "no leakage, no conflicting labels"


def test_labels_that_are_no_classes_of_their_own(check, work):
    def labelled(name: str, *labels: str) -> str:
        write_csv(work / name, [(labels[i % len(labels)], sentence(i)) for i in range(60)])
        return name

    write_csv(work / "dev.csv", [(("neg", "pos")[i % 2], sentence(100 + i)) for i in range(20)])
    flags = ["--data.test_path", "null"]
    odd = labelled("odd.csv", "pos", "neg", "Pos", "nan")
    plant("odd.csv", odd, {9: ("label", "text")})
    code, out, err = check(*flags, "--strict", train="odd.csv")
    assert code == 1 and err == ""
    assert "LABELS: * makes the classes wrong" in out
    assert "  * repeated header in row 9" in out and "  * 'nan' in rows 4, 8, 12 and 12 more" in out
    assert "  * 'Pos' (rows 3, 7, 11 and 12 more) and 'pos' (rows 1, 5, 13 and 11 more) look the same" in out
    assert verdict(out) == "3 faults in the labels, 1 of 5 classes has fewer than 10 training texts"
    report = as_json(check(*flags, "--json", train="odd.csv"))
    assert report["sound"] is False
    assert [(x["kind"], x["unsound"], x["rows"][0]) for x in report["labels"]] == [
        ("header", True, 9),
        ("stand-in", True, 4),
        ("look-alike", True, 1),
    ]
    labelled("joined.csv", "neg", "pos", "neg;pos", "pos;neg")
    code, out, _ = check(*flags, "--strict", train="joined.csv")  # it may be meant
    assert code == 0 and "  2 of 4 are several labels joined by ';'" in out and "fault" not in out
    labelled("clean.csv", "neg", "pos")
    assert "LABELS" not in check(*flags)[1]


def test_what_predict_shares_is_no_leakage(check, work):
    write_csv(work / "new.csv", [(sentence(3),), ("unseen",)], header=("text",))
    code, out, _ = check("--data.predict_path", "new.csv", "--strict")
    assert code == 0 and "no leakage" in verdict(out) and "is no leakage" in out
    assert ["predict", "train", "1", "1", "50.00%"] in [line.split() for line in out.splitlines()]
    assert "train row 4 (label 4) = predict row 1:" in out
    report = as_json(check("--data.predict_path", "new.csv", "--json"))
    assert report["splits"]["predict"]["classes"] is None and report["not_named"] == []


def test_validation_is_held_out_as_in_fit(check, encoder):
    report = as_json(check("--json", "--data.split_seed", "3", dev=None))
    data = YelpDataModule(
        train_path="clean.csv", validation_share=0.2, split_seed=3, max_tokens=64, tokenizer=str(encoder)
    )
    data.setup("fit")
    held_out = int(data.splits["validation"].source_rows[4])
    assert report["splits"]["validation"]["rows"] == len(data.splits["validation"].source_rows) == 12
    assert report["splits"]["validation"]["where"] == "held out of clean.csv (data.validation_share=0.2)"
    first = int(data.splits["train"].source_rows[0])
    copied = plant("copied.csv", "clean.csv", {held_out: ((first - 1) % 5 + 1, sentence(first - 1).upper())})
    report = as_json(check("--json", "--data.split_seed", "3", train=copied, dev=None))
    assert sum(split["normalised_duplicates"]["texts"] for split in report["splits"].values()) == 1
    assert not any(leak["normalised_rows"] for leak in report["leakage"])  # copies stay on one side


def test_token_lengths_are_those_of_fit(check, encoder):
    report = as_json(check("--json", "--data.max_tokens", "20"))
    data = YelpDataModule(
        train_path="clean.csv", validation_path="dev.csv", max_tokens=20, tokenizer=str(encoder)
    )
    data.setup("fit")
    rows = data.splits["train"].rows
    full = rows.encoded.data.column("full_length").to_numpy()
    tokens = report["splits"]["train"]["tokens"]
    assert (tokens["measured"], tokens["sampled"]) == (60, False)
    assert (tokens["mean"], tokens["median"], tokens["max"]) == (full.mean(), np.median(full), full.max())
    assert tokens["p95"] == pytest.approx(np.percentile(full, 95))
    (limit,) = tokens["limits"]  # 128, 256 and 512 are more than this model can take
    before = np.array(rows.encoded["full_length"][:])
    lost = before - row_lengths(rows.encoded)
    assert limit["max_tokens"] == 20 and lost.any()
    assert limit["cut_texts"] == (lost > 0).mean()
    assert limit["lost_tokens"] == pytest.approx(lost.sum() / before.sum())
    assert limit["cost"] == 1


def test_limits_and_costs_by_hand(lit_ft, work):
    """Texts of 102, 202 and 602 tokens, special ones included, and one unknown character in 900 tokens."""
    rows = [(1, "the " * 100), (2, "the " * 200), (1, "the " * 599 + "\u4e2d")]
    write_csv(work / "long.csv", [(label, f"{text}") for label, text in rows])
    write_csv(work / "dev.csv", [(1, "good"), (2, "bad")])
    flags = ["--data.train_path", "long.csv", "--data.validation_path", "dev.csv", "--json"]

    def limits(*more: str) -> list[tuple[int, float, float, float]]:
        report = as_json(lit_ft("check", "--config", "sample.yaml", *flags, *more))
        tokens = report["splits"]["train"]["tokens"]
        assert (tokens["mean"], tokens["median"], tokens["max"]) == (302, 202, 602)
        assert tokens["unknown"] == pytest.approx(1 / 900)
        return [tuple(limit.values()) for limit in tokens["limits"]]

    expected = [
        (128, 2 / 3, 548 / 906, 358 / 560),
        (256, 1 / 3, 346 / 906, 1.0),
        (512, 1 / 3, 90 / 906, 816 / 560),
    ]
    found = limits("--data.max_tokens", "256")
    assert found == [pytest.approx(limit) for limit in expected]
    padded = limits("--data.max_tokens", "256", "--data.padding", "max_length")
    assert [limit[3] for limit in padded] == [0.5, 1.0, 2.0]
    assert [limit[0] for limit in limits("--data.max_tokens", "100")] == [100, 128, 256, 512]


def test_a_large_split_is_sampled_and_says_so(check, monkeypatch):
    monkeypatch.setattr("lit_ft.data.facts.SAMPLE_ROWS", 15)
    tokens = {name: split["tokens"] for name, split in as_json(check("--json"))["splits"].items()}
    assert {name: (x["measured"], x["sampled"]) for name, x in tokens.items()} == {
        "train": (15, True),
        "validation": (15, True),
        "test": (15, True),
    }
    out = check()[1]
    assert "15*" in out and "* a random sample of the split" in out


def test_a_sample_is_drawn_from_all_chunks(encoder, monkeypatch):
    import pyarrow as pa

    from lit_ft.models.load import Pretrained

    monkeypatch.setattr("lit_ft.data.facts.BATCH_ROWS", 2)
    texts = pa.chunked_array([["the " * n for n in part] for part in ([1, 2, 3, 4, 5], [6, 7], [8, 9, 10])])
    positions = np.array([0, 2, 3, 4, 7, 9])
    found = measure_lengths(texts, positions, Pretrained.of(str(encoder)).tokenizer(), 64, [64], False, "x")
    assert (found.measured, found.mean, found.max) == (6, (1 + 3 + 4 + 5 + 8 + 10) / 6 + 2, 12)


def test_a_sample_is_always_the_same_one_and_without_repetition(encoder, monkeypatch):
    import pyarrow as pa

    from lit_ft.models.load import Pretrained

    tokenizer = Pretrained.of(str(encoder)).tokenizer()
    texts = pa.chunked_array([["the " * n for n in range(1, 401)]])

    def mean() -> float:
        return measure_lengths(texts, np.arange(400), tokenizer, 64, [64], False, "x").mean

    monkeypatch.setattr("lit_ft.data.facts.SAMPLE_ROWS", 399)
    assert 202.5 - 200 / 399 <= mean() <= 202.5 + 200 / 399  # one text is missing, none comes twice
    monkeypatch.setattr("lit_ft.data.facts.SAMPLE_ROWS", 20)
    assert mean() == mean() == mean()


def test_json_is_one_document_and_nothing_is_written(check, work):
    check("--json")  # makes the files
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    code, out, err = check(
        "--json", "--name", "mine", "--trainer.max_epochs", "1", "--monitor", "val/accuracy"
    )
    assert code == 0 and err == "" and json.loads(out)["sound"] is True
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_takes_the_config_that_a_run_leaves(check, lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, "--trainer.max_steps", "1")[0] == 0
    code, out, err = lit_ft("check", "--config", "runs/small/version_0/config.yaml", "--ckpt_path", "last")
    assert code == 0, err
    assert "held out of train.csv" in out
    assert [path.name for path in Path("runs/small").iterdir()] == ["version_0"]


def test_clean_ups_are_those_of_fit(check):
    test = plant("breaks.csv", "test.csv", {5: (1, sentence(3).replace(" was", "<br />was"))})
    flags = ["--data.test_path", test]
    assert check(*flags, "--strict")[0] == 0
    assert check(*flags, "--strict", "--data.strip_html_breaks", "true")[0] == 1


MISTAKES = [
    (["--data.max_token", "20"], "unknown flag --data.max_token; did you mean --data.max_tokens?"),
    (["--stric"], "unknown flag --stric; did you mean --strict?"),
    (["--data.max_tokens", "65"], "at most 64"),
    (["--data.batch_size", "0"], "data.batch_size of at least 1, found 0"),
    (["--model.hidden_dropout", "2"], "found 2"),
    (["--seed_everything", "4294967296"], "found 4294967296"),
    (["--name", "../up"], "'../up'"),
    (["--data.train_path", "nowhere.csv"], "nowhere.csv"),
    (["--data.on_empty", "stop", "--data.test_path", "blank.csv"], "found none in row 2"),
    (["--data.test_path", "unseen.csv"], "found '9' in row 3"),
    (["--model.pretrained", "./no_such_folder"], "./no_such_folder"),
]


@pytest.mark.parametrize("flags, message", MISTAKES, ids=[flags[0] for flags, _ in MISTAKES])
def test_mistakes_are_those_of_fit(flags, message, check, work):
    write_csv(work / "blank.csv", [(1, "a"), (2, " ")])
    write_csv(work / "unseen.csv", [(1, "a"), (2, "b"), (9, "c")])
    code, out, err = check(*flags, "--strict")
    assert code == 2 and out == ""
    assert message in err and err.startswith("lit_ft: error: ") and err.count("\n") == 1


def test_no_training_data(lit_ft, work):
    code, _, err = lit_ft("check", "--config", "yelp_local.yaml", "--data.test_path", "test.csv")
    assert code == 2 and "set --data.train_path" in err


def test_without_a_config_it_looks_at_the_embedded_reviews(lit_ft, work):
    code, out, err = lit_ft("check", "--strict")
    assert code == 0 and "no --config given, using sample.yaml" in err
    assert "the embedded reviews" in out and "5 stars" in out


def test_the_commonest_and_the_smallest_of_many_classes(check, work):
    """25 classes, the first with 2 texts, each of the others with one more than the class before it."""
    labels = [f"class {c:02}" for c in range(25) for _ in range(c + 2)]
    write_csv(work / "many.csv", [(label, sentence(i)) for i, label in enumerate(labels)])
    write_csv(work / "few.csv", [("class 01", "x")])
    code, out, err = check("--data.test_path", "few.csv", train="many.csv", dev="few.csv")
    assert code == 0, err
    head, balance, smallest = out.split("\n\n")[:3]
    title, header, *rows, more = [line.split() for line in balance.splitlines()]
    assert "20 commonest of 25 classes" in " ".join(title) and " ".join(more) == "and 5 more, shown by --json"
    assert [row[1] for row in rows] == [f"{c:02}" for c in range(24, 4, -1)]
    assert rows[0][2:4] == ["26", "7.4%"]
    assert [line.split() for line in smallest.splitlines()][:-1] == [
        ["SMALLEST", "CLASSES", "of", "train"],
        ["class", "texts", "share"],
        *(["class", f"{c:02}", f"{c + 2}", f"{(c + 2) / 350:.1%}"] for c in range(5)),
    ]
    assert smallest.endswith(
        "\n  8 of 25 classes have fewer than 10 texts in train: too few to learn or to measure"
    )
    assert "8 of 25 classes have fewer than 10 training texts" in verdict(out)


def test_few_classes_are_listed_once(check):
    out = check()[1]
    assert "SMALLEST CLASSES" not in out and "fewer than 10" not in out
    few = plant("few.csv", "clean.csv", {row: (1, sentence(row - 1)) for row in (2, 7, 12)})
    out = check(train=few)[1]
    assert "SMALLEST" not in out and "\n  1 of 5 classes has fewer than 10 texts in train" in out


@pytest.mark.parametrize("columns", [80, 40])
def test_it_fits_the_terminal(columns, check, work, monkeypatch):
    monkeypatch.setattr("lit_ft.commands.check.width", lambda: columns)
    name = "a class of a rather long name that goes on and on and on to its end"
    write_csv(work / "long.csv", [((name, "b", "c")[i % 3], sentence(i)) for i in range(60)])
    test = plant("leak.csv", "long.csv", {3: ("b", sentence(3)), 4: ("b", "THE " + sentence(4))})
    wide = check("--data.test_path", test, "--data.max_tokens", "16", dev=None, train="long.csv")[1]
    *lines, last = wide.splitlines()
    assert max(map(len, lines)) <= columns and last.startswith("next: ") and len(last) > columns
    cells = [line.split() for line in lines]
    assert "held out of long.csv (data.validation_share=0.2)" in " ".join(wide.split())
    assert any(line.startswith("  a class") and "..." in line for line in lines)
    assert cells.count(["split", "max_tokens", "texts", "cut"]) == (columns == 40)  # in three parts there


def test_nothing_is_cut_in_a_pipe(check, work):
    name = "a class of a rather long name that goes on and on and on to its end, and no further than that"
    write_csv(work / "long.csv", [((name, "b")[i % 2], sentence(i)) for i in range(60)])
    out = check("--data.test_path", "long.csv", dev=None, train="long.csv")[1]
    assert f"  {name}  " in out and "(data.validation_share=0.2)\n" in out


def test_limits_that_cut_nothing_are_one_line(check):
    assert "\n  nothing is cut: no text is longer than 64 tokens\n" in check()[1]
    assert "texts cut" in check("--data.max_tokens", "16")[1]


def test_the_last_line_is_the_command_that_estimates_the_run(check, lit_ft, work, fit_args):
    write_csv(work / "two words.csv", [(i % 5 + 1, sentence(i)) for i in range(60)])
    args = ["--data.train_path", "two words.csv", "--name", "mine"]
    code, out, _ = lit_ft("check", *fit_args, "--strict", *args, "--ckpt_path", "last")
    last = out.splitlines()[-1]
    command = "next: python -m lit_ft fit --config small.yaml --data.train_path 'two words.csv' --name mine"
    assert code == 0 and last == f"{command} --estimate"
    code, out, err = lit_ft(*shlex.split(last)[4:])
    assert code == 0 and "estimate: " in out, err
    assert "next: " not in lit_ft("check", *fit_args, "--json")[1]


def test_fit_warns_in_one_line(lit_ft, check, fit_args):
    planted(check)  # writes the files
    short = ["--trainer.max_steps", "1", "--data.validation_path"]
    code, _, err = lit_ft("fit", *fit_args, *short, "planted_dev.csv")
    assert code == 0, err
    warnings = [line for line in err.splitlines() if "lit_ft check" in line]
    assert warnings == [
        "warning: 1 of 20 validation rows is a copy of a training row and 1 training text has different "
        "labels; python -m lit_ft check with these settings shows them"
    ]
    code, _, err = lit_ft("fit", *fit_args, *short, "dev.csv", "--data.train_path", "clean.csv")
    assert code == 0 and "lit_ft check" not in err


def test_fit_warns_of_copies_among_held_out_rows(check, encoder, capfd):
    check()
    rows = [(1, "good"), (2, "bad")] * 30  # nothing else could be held out
    write_csv(Path("twice.csv"), rows)
    YelpDataModule(train_path="twice.csv", validation_share=0.2, tokenizer=str(encoder), max_tokens=64).setup(
        "fit"
    )
    assert "12 of 12 validation rows are copies of training rows; " in capfd.readouterr().err


def test_held_out_rows_are_no_copies(check, encoder, capfd):
    check()
    write_csv(Path("twice.csv"), [(i % 2, sentence(i // 4)) for i in range(120)])  # and labels that conflict
    YelpDataModule(train_path="twice.csv", validation_share=0.2, tokenizer=str(encoder), max_tokens=64).setup(
        "fit"
    )
    out, err = capfd.readouterr()
    assert "validation: 24 texts held out" in out
    assert "texts have different labels; python -m lit_ft check" in err and "copies" not in err


def test_quiet_holds_only_inside(capsys):
    with quiet():
        say("no")
        warn("no")
    say("yes")
    warn("yes")
    assert capsys.readouterr() == ("yes\n", "warning: yes\n")


def test_what_fit_would_refuse_for_this_kind_of_label(check):
    code, out, err = check("--model.decide", "median", "--data.ordered", "false")
    assert code == 2 and "model.decide=median expects classes that are steps of a scale" in err and not out
    code, out, err = check("--data.task", "regression", "--model.class_weights", "balanced")
    assert code == 2 and "model.class_weights=balanced has no meaning for data.task regression" in err
