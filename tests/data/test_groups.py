"""Groups stay whole: in the hold-out, beside equal texts, and counted where given splits share them."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import one_line, review, write_csv
from corpus_files import refused
from datasets import ClassLabel, Dataset, Features, Value
from sklearn.model_selection import StratifiedGroupKFold

from lit_ft.classifier.data import YelpDataModule
from lit_ft.data.columns import GROUPS, SLICES, Values, check_apart, read_values
from lit_ft.data.groups import grouped_split, line_of, read_groups, shared
from lit_ft.data.holdout import components
from lit_ft.data.source import TextSource


def groups_of(names: list[str | None]) -> Values:
    table = Dataset.from_dict({"author": names})
    return read_values(table, "author", np.arange(len(names)) + 1, "x.csv", "data.group_column")


def split(
    groups: np.ndarray, labels: np.ndarray, share: float, seed: int = 0, keys: np.ndarray | None = None
):
    """A split whose groups and texts are whole; the words about it, and the held-out rows."""
    keys = np.arange(len(labels)) if keys is None else keys
    values = Values("author", [f"author {i}" for i in range(groups.max() + 1)], groups)
    train, validation, words = grouped_split(labels, share, seed, keys, values, "x.csv")
    assert np.array_equal(np.sort(np.r_[train, validation]), np.arange(len(labels)))
    named = groups >= 0
    assert not set(groups[train][named[train]]) & set(groups[validation][named[validation]])
    assert not set(keys[train]) & set(keys[validation])
    assert set(labels[train]) == set(labels)
    return validation, words


def test_rows_that_share_a_group_or_a_text_are_one_component():
    authors = np.array(["a", "b", "b", "c", "d", "a"])
    texts = np.array([1, 2, 3, 3, 4, 5])
    assert components(authors, texts).tolist() == [0, 1, 1, 1, 2, 0]
    assert components(texts).tolist() == [0, 1, 2, 2, 3, 4]
    places = np.array([7, 7, 8, 8, 9, 9])  # a third key joins all that is left
    assert components(authors, texts, places).tolist() == [0] * 6


def test_components_of_many_rows_are_those_of_a_walk():
    rng = np.random.default_rng(0)
    keys = [rng.integers(0, 400, 500), rng.integers(0, 400, 500)]
    found = components(*keys)
    seen, joined = {0}, True
    while joined:
        joined = {i for i in range(500) if any(set(key[list(seen)]) & {key[i]} for key in keys)} - seen
        seen |= joined
    assert set(np.flatnonzero(found == found[0]).tolist()) == seen


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_held_out_whole_and_classes_keep_their_shares(seed):
    """As close to the classes' shares as scikit-learn's first fold, on authors who prefer a class."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 1500)
    labels = np.where(rng.random(1500) < 0.4, groups % 4, rng.integers(0, 4, 1500))
    validation, words = split(groups, labels, 0.1, seed)
    wanted = np.bincount(labels) * 0.1

    def off(rows: np.ndarray) -> float:
        return np.abs(np.bincount(labels[rows], minlength=4) - wanted).sum()

    theirs = next(StratifiedGroupKFold(10, shuffle=True, random_state=seed).split(labels, labels, groups))[1]
    assert off(validation) <= off(theirs) + 10
    assert words[0].endswith("of 60 groups of 'author'")
    assert np.array_equal(split(groups, labels, 0.1, seed)[0], validation)
    assert not np.array_equal(split(groups, labels, 0.1, seed + 9)[0], validation)


def test_texts_join_groups_and_what_that_costs_is_said():
    groups, labels = np.arange(400) // 10, np.arange(400) % 2
    keys = np.arange(400)
    keys[[0, 10, 20]] = 0  # authors 0, 1 and 2 wrote the same text
    validation, words = split(groups, labels, 0.1, keys=keys)
    assert words[1:] == ["2 joined to another by equal texts"]
    assert len({0, 1, 2} & set(groups[validation])) in (0, 3)


def test_a_group_too_large_is_said():
    """Three authors with half, a third and a sixth of the rows, one of whom prefers a class."""
    groups = np.repeat([0, 1, 2], [300, 200, 100])
    labels = np.r_[np.arange(500) % 2, np.zeros(95, np.int64), np.ones(5, np.int64)]
    validation, words = split(groups, labels, 0.05)
    assert set(groups[validation]) == {2}
    assert words[1] == "the share of a class is up to 38 points off, as groups stay whole"


def test_what_cannot_be_held_out():
    labels = np.arange(40) % 2
    one = "found one, 'author 0'; set --data.validation_path"
    refused(lambda: split(np.zeros(40, np.int64), labels, 0.1), "at least two groups", one)
    joined = "found equal texts that join all 2"
    refused(lambda: split(np.arange(40) // 20, labels, 0.1, keys=np.arange(40) % 20), joined)
    alone = "found none of 2 without which each class keeps a row"
    refused(lambda: split(labels, labels, 0.1), alone, "--data.group_column=null")


def test_rows_without_a_group_are_groups_of_their_own(capsys):
    table = Dataset.from_dict({"author": ["a", None, " ", "a ", "b", ""]})
    groups = read_groups(table, "author", np.arange(1, 7), "x.csv")
    assert (groups.names[0], groups.codes.tolist()) == ("a", [0, -1, -1, 0, groups.codes[4], -1])
    out = "3 of 6 rows have no value in column 'author' of x.csv: each is a group of its own\n"
    assert capsys.readouterr().out == out
    validation, words = split(np.r_[np.full(50, -1), np.zeros(50, np.int64)], np.arange(100) % 2, 0.1)
    assert len(validation) == 10 and words == ["10 of 51 groups of 'author'"]


def test_a_column_of_ids_keeps_nothing_together(capsys):
    table = Dataset.from_dict({"id": [str(i) for i in range(4)]})
    read_groups(table, "id", np.arange(1, 5), "x.csv")
    told = "no two rows of x.csv have the same value in column 'id', so it keeps nothing together"
    assert told in capsys.readouterr().err
    read_groups(table, "id", np.arange(1, 5), "dev.csv", needed=False)  # each row may be of a train group
    assert not capsys.readouterr().err


def test_one_of_several_texts_may_be_the_group_or_a_slice():
    """The premise of several hypotheses, or a category that is read before the text."""
    check_apart("premise", GROUPS, "premise", "hypothesis", "label")
    check_apart("language", SLICES, ["language", "text"], None, "label")
    refused(lambda: check_apart("text", GROUPS, "text", None), "found 'text', which is data.text_column")
    refused(lambda: check_apart("label", SLICES, ["a", "b"], "c", "label"), "which is data.label_column")


def test_slices_written_like_a_list_get_one():
    table = Dataset.from_dict({"language": ["de"], "channel": ["mail"]})
    read = lambda: read_values(table, "language, channel", np.array([1]), "x.csv", SLICES)  # noqa: E731
    refused(read, "set --data.slice_columns='[language,channel]'")


def test_values_are_read_as_text():
    kinds = Features(
        {"n": Value("int64"), "b": Value("bool"), "c": ClassLabel(names=["de", "en"]), "f": Value("float64")}
    )
    table = Dataset.from_dict(
        {"n": [7, 8, 7], "b": [True, False, None], "c": [1, 1, 0], "f": [7.0, 0.5, float("nan")]}, kinds
    )
    found = {name: read_values(table, name, np.array([1, 3]), "x", "data.group_column") for name in "nbcf"}
    told = {name: [[*v.names, None][code] for code in v.codes] for name, v in found.items()}
    assert told == {"n": ["7", "7"], "b": ["true", None], "c": ["en", "de"], "f": ["7", None]}
    lists = Dataset.from_dict({"author": [["a"], ["b"]]})
    read = lambda: read_groups(lists, "author", np.array([1, 2]), "x.parquet")  # noqa: E731
    refused(read, "expected plain values in column 'author' of x.parquet", "List", "--data.group_column")


def test_objects_of_json_are_no_slices(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "meta": "x"}\n{"text": "b", "meta": {"page": 1}}\n')
    table, where = TextSource(paths={"train": str(path)}).read("train")
    read = lambda: read_values(table, "meta", np.array([1, 2]), where, SLICES)  # noqa: E731
    refused(
        read, "expected plain values in column 'meta'", 'found {"page": 1} in row 2', "--data.slice_columns"
    )


def test_shared_groups():
    splits = [
        ("train", ["a", "b", "c", None, "a"]),
        ("validation", ["b", "a", "b", None, "d"]),
        ("test", ["e"]),
    ]
    first, second, third = shared([(name, groups_of(v), np.arange(len(v)) + 1) for name, v in splits])
    assert (first.groups, first.rows, first.share) == (2, 3, 0.6)
    assert [(e.group, e.rows, e.first_rows) for e in first.examples] == [
        ("b", [1, 2], [2, 1]),
        ("a", [2, 1], [1, 2]),
    ]
    assert line_of(first, "author") == (
        "3 of 5 validation rows are of 2 groups of 'author' that have train rows, too, such as 'b'"
    )
    assert second.groups == third.groups == 0 and line_of(second, "author") is None


@pytest.fixture
def authors(work) -> Path:
    """`train.csv` of 20 authors, `dev.csv` of whom two are among them, and `test.csv` without authors."""
    header = ("label", "text", "author")

    def rows(start: int, count: int, num_authors: int, first: int = 0) -> list[tuple]:
        return [
            (i % 5 + 1, f"{review(i % 5 + 1, i)} {start + i}", f"author {first + i // 5 % num_authors}")
            for i in range(count)
        ]

    write_csv(work / "train.csv", rows(0, 100, 20), header)
    write_csv(work / "dev.csv", rows(1000, 30, 6, first=18), header)
    return work


def test_check_counts_shared_groups(lit_ft, fit_args, authors):
    flags = ["--data.group_column", "author", "--data.validation_path", "dev.csv"]
    code, out, err = lit_ft("check", *fit_args, *flags, "--strict")
    assert code == 1, err
    assert "\n  validation  train         2    10  33.33%\n" in out
    assert "\n  test has no such column: what it shares is not known\n" in out
    assert (
        "\n  'author 18': 5 train rows (the first is row 91), 5 validation rows (the first is row 1)\n" in out
    )
    assert "\nverdict: 10 validation rows of groups also in train\n" in out
    code, out, _ = lit_ft("check", *fit_args, *flags[:2], "--strict", "--json")
    report = json.loads(out)
    assert code == 0 and report["groups"]["shared"][0]["groups"] == 0
    assert report["groups"]["groups"] == {"train": 16, "validation": 4}
    assert report["groups"]["all_alone"] is False
    pairs = ["--data.group_column", "text", "--data.pair_column", "author", "--data.test_path", "null"]
    code, out, _ = lit_ft("check", *fit_args, *pairs)
    assert code == 0 and "\n  no two train rows have the same value, so the column keeps nothing" in out
    assert "4 of 20 groups of 'author'" in report["splits"]["validation"]["where"]
    assert lit_ft("check", *fit_args, "--data.validation_path", "dev.csv", "--strict")[0] == 0


def test_fit_and_validate_hold_the_same_groups_out(lit_ft, fit_args, authors):
    fit_args = [*fit_args, "--trainer.max_epochs", "1", "--baselines", "false"]
    code, out, err = lit_ft("fit", *fit_args, "--data.group_column", "author")
    assert code == 0, err
    assert "20 texts held out of train (data.validation_share=0.2; 4 of 20 groups of 'author')" in out
    code, out, err = lit_ft("validate", *fit_args)  # the config names no column: the checkpoint does
    assert code == 0 and "4 of 20 groups of 'author'" in out, err
    message = one_line(lit_ft("validate", *fit_args, "--data.group_column", "label_"))
    assert "data.group_column is label_ here and author there; leave out --data.group_column" in message


def test_validation_of_its_own_may_share_groups(encoder, authors, capfd):
    settings = {
        "train_path": "train.csv",
        "group_column": "author",
        "max_tokens": 64,
        "tokenizer": str(encoder),
    }
    for path, told in {
        "dev.csv": "10 of 30 validation rows are of 2 groups of 'author' that have train rows, too, such as",
        "test.csv": "test.csv has no column 'author': whether it shares groups with other splits is",
    }.items():
        data = YelpDataModule(**settings, validation_path=path, test_path="test.csv")
        data.setup("fit")
        data.setup("test")  # which needs no authors
        out, err = capfd.readouterr()
        assert told in (err if path == "dev.csv" else out), (out, err)


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--data.group_column", "writer"],
            "expected a column 'writer' in train.csv for data.group_column, found",
        ),
        (["--data.group_column", "label"], "found 'label', which is data.label_column"),
    ],
)
def test_a_column_that_cannot_be_one_of_groups(lit_ft, fit_args, authors, flags, message):
    result = lit_ft("fit", *fit_args, *flags)
    assert message in one_line(result) and "--data.group_column" in result[2]
    assert not Path("runs").exists()


def test_sft_holds_groups_out_whole(lit_ft, sft_args, authors):
    args = ["sft", *sft_args, "--data.train_path", "train.csv", "--data.group_column", "author"]
    code, out, err = lit_ft(*args, "--max_steps", "1", "--data.layout", "truncate", "--probes", "[]")
    assert code == 0 and "4 of 20 groups of 'author')" in out, err
    message = one_line(lit_ft(*args, "--data.text_column", "author"))
    assert "found 'author', which is data.text_column" in message
