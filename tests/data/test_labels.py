"""Labels: how each kind is understood, and one line for each mistake."""

import time

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from corpus_files import refused

from lit_ft.data.labels import LabelMapping
from lit_ft.errors import UserError


def fit(labels, base=None, names=None, rows=None, **kwargs):
    return LabelMapping.fit(labels, base=base, names=names, where="r.csv", rows=rows, **kwargs)


@pytest.mark.parametrize(
    "labels, values, classes",
    [
        ([2, 0, 1], (0, 1, 2), [2, 0, 1]),
        ([1, 5, 4], (1, 4, 5), [0, 2, 1]),  # no empty class for what does not occur
        (["1", " 5", "4", "4.0", "+4"], (1, 4, 5), [0, 2, 1, 1, 1]),
        (["10", "9", "100"], (9, 10, 100), [1, 0, 2]),  # in numeric order
        ([101, 205, 1500], (101, 205, 1500), [0, 1, 2]),
        ([1.0, 2.0], (1, 2), [0, 1]),
        (["1.00", "2.00"], (1, 2), [0, 1]),
        (["01", "10", "02"], ("01", "02", "10"), [0, 2, 1]),  # codes
        (["7", "007"], ("007", "7"), [1, 0]),
        (["2", "2.1", "2.10", "3.4"], ("2", "2.1", "2.10", "3.4"), [0, 1, 2, 3]),  # sections
        (["1.0", "1.10"], ("1.0", "1.10"), [0, 1]),
        (["1_1", "1_2", "11", "12"], ("11", "12", "1_1", "1_2"), [2, 3, 0, 1]),  # to Python all are numbers
        (["ask", "inf", "ack"], ("ack", "ask", "inf"), [1, 2, 0]),
        (["infinity", "-inf"], ("-inf", "infinity"), [1, 0]),
        (["1e5", "2e5"], ("1e5", "2e5"), [0, 1]),
        (["\u0663", "\u0664"], ("\u0663", "\u0664"), [0, 1]),  # digits, but not ASCII's
        (["3" * 20, "4" * 5000], ("3" * 20, "4" * 5000), [0, 1]),
        (["bad", "good", "3"], ("3", "bad", "good"), [1, 2, 0]),  # numbers only if every value is
        (["bad", "good", "3.5"], ("3.5", "bad", "good"), [1, 2, 0]),
        (["1", "inf"], ("1", "inf"), [0, 1]),
        (["good", "bad", " good "], ("bad", "good"), [1, 0, 1]),
        (["2a", "None", "nan"], ("2a", "None", "nan"), [0, 1, 2]),
        ([True, False], ("False", "True"), [1, 0]),
        (np.array([3, 1, 3], dtype=np.int32), (1, 3), [1, 0, 1]),
        (pa.chunked_array([[1], [0, 1]]), (0, 1), [1, 0, 1]),
        (datasets.Dataset.from_dict({"label": ["x", "y"]})["label"], ("x", "y"), [0, 1]),
    ],
)
def test_values_and_classes(labels, values, classes):
    mapping = fit(labels)
    assert mapping.values == values and mapping.num_labels == len(values)
    assert mapping.names == tuple(map(str, values))
    encoded = mapping.encode(labels)
    assert encoded.tolist() == classes and encoded.dtype == np.int64


def test_base_overrides():
    assert fit([1, 2], base=0).values == (0, 1, 2)
    assert fit([-1, 0, 1], base=-1).encode([-1, 1]).tolist() == [0, 2]
    assert fit([1000, 1001], base=1000).values == (1000, 1001)
    refused(lambda: fit([3, 0, 1], base=1), "labels from 1 on", "found 0 in row 2", "--data.label_base=0")
    refused(lambda: fit([1, -1], rows=[7, 9]), "r.csv", "found -1 in row 9", "--data.label_base=-1")
    assert fit([1, -1], base=-1).values == (-1, 1)
    assert fit([5, 3], base=0).values == (0, 3, 5)  # the lowest class, and no others
    refused(lambda: fit(["a", "b"], base=0), "data.label_base=0", "names, such as 'a' in row 1", "remove it")
    refused(lambda: fit(["01", "02"], base=0), "such as '01' in row 1", "or set --data.label_type=numbers")


def test_mixtures_name_the_rarer_kind():
    refused(
        lambda: fit(["3", "4", "good", "5"], rows=np.array([2, 4, 8, 16])),
        "found whole numbers",
        "but 'good' in row 8",
        "--data.label_column",
    )
    refused(lambda: fit([3, "good", 4]), "but 'good' in row 2")
    refused(lambda: fit([3, "a text\n" * 200, 4]), "but 'a text\\n", "... in row 2")
    stars = ["1", "2", "3"] * 30
    refused(lambda: fit([*stars, "five"]), "but 'five' in row 91", "--data.label_type=names")
    assert fit([*stars, "five"], label_type="names").values == ("1", "2", "3", "five")
    assert fit([*stars, *["five"] * 10]).values == ("1", "2", "3", "five")  # as many as others: a class
    refused(lambda: fit([*stars, *["nan"] * 30]), "'nan' in row 91", "means a missing label")
    refused(lambda: fit([*stars, *["label"] * 30]), "'label' in row 91", "a repeated header?")


@pytest.mark.parametrize("labels", [["1", "", "2"], [1, None, 2], [1.0, float("nan"), 2.0], ["a", " ", "b"]])
def test_missing_label(labels):
    refused(lambda: fit(labels), "r.csv", "found none in row 2", "--data.label_column")
    refused(lambda: fit([0, 1]).encode(labels[1:2], where="t.csv"), "t.csv", "found none in row 1")


def test_fractions_gaps_and_a_single_class():
    refused(lambda: fit([1, 3.5, 2]), "whole numbers", "found 3.5 in row 2", "--data.label_column")
    for halves in (["0.5", "1.0", "1.5"], ["0.5", "1", "1.5"], [0.5, 1.0, 1.5]):
        refused(lambda halves=halves: fit(halves), "found ", "0.5", "--data.label_type=names")
        assert fit(halves, label_type="names").values == tuple(map(str, halves))
    assert fit(np.array([0.1, 0.2], np.float32), label_type="names").values == ("0.1", "0.2")
    refused(lambda: fit([4, 4]), "at least two classes", "only the label 4", "--data.label_column")
    refused(lambda: fit(["a", "a "]), "only the label 'a'")
    refused(lambda: fit([]), "r.csv", "found no rows")


def test_names():
    mapping = fit([1, 2], names=["poor", "fine"])
    assert mapping.names == ("poor", "fine") and mapping.values == (1, 2)
    assert mapping.describe() == "labels: 2 classes, 1 (poor), 2 (fine) -> 0 to 1"
    assert fit(range(1, 31)).describe().endswith("9, ..., 30 -> 0 to 29")
    refused(
        lambda: fit([1, 2], names=["poor"]), "1 to 1", "1 names", "found 2 in row 2", "--data.label_names"
    )
    refused(lambda: fit(["a", "b"], names=["x", "x"]), "2 different names", "'x', 'x'", "--data.label_names")
    refused(lambda: fit([1, 2], names=["x", " "]), "2 different names", "--data.label_names")


def test_label_type():
    assert fit([2, 10, 1], label_type="names").values == ("1", "10", "2")
    assert fit(["02", "1", "10"], label_type="numbers").values == (1, 2, 10)
    refused(lambda: fit(["1", "1_1"], label_type="numbers"), "found '1_1' in row 2", "label_type=numbers")
    refused(lambda: fit([1.5, 2], label_type="numbers"), "found 1.5 in row 1")
    grades = ["poor", "fine"]
    assert not fit([0, 1], declared=grades).ordered
    assert fit([0, 1], declared=["1 star", "2 stars"]).ordered


def test_names_that_are_the_labels_are_their_order():
    mapping = fit(["neutral", "positive", "negative"], names=["positive", "negative", "neutral"])
    assert mapping.values == mapping.names == ("positive", "negative", "neutral")
    assert mapping.encode(["positive", "neutral"]).tolist() == [0, 2]
    assert fit(["a", "b"], names=["c", "b", "a"]).values == ("c", "b", "a")  # c is declared
    assert fit(["US", "us"], names=["us", "US"]).values == ("us", "US")
    assert fit([1, 2, 5], names=["1", "2", "3", "4", "5"]).values == (1, 2, 3, 4, 5)
    assert fit([1, 2, 3], names=["3", "2", "1"]).encode([1, 3]).tolist() == [2, 0]
    assert not fit([1, 2, 3], names=["2", "3", "1"]).ordered
    shown = fit(["positive", "negative"], names=["Positive", "NEGATIVE"])
    assert shown.values == ("positive", "negative") and shown.names == ("Positive", "NEGATIVE")
    assert fit([1, 2, 5], names=list("abcde")).values == (1, 2, 3, 4, 5)  # five names: five classes
    assert fit([1, 2, 5], names=list("abc")).values == (1, 2, 5)


@pytest.mark.parametrize(
    "labels, names, found",
    [
        (["a", "b", "c"], ["a", "b", "x"], "found none for 'c'"),
        (["good", "bad"], ["positive", "negative"], "found 'positive', 'negative'"),
        ([0, 1, 2], ["1", "2", "3"], "found none for '0'"),
        (["a", "b"], {"a": "x"}, "found none for 'b'"),
    ],
)
def test_names_that_are_some_of_the_labels_or_none(labels, names, found):
    refused(lambda: fit(labels, names=names), found, "--data.label_names '{", f'"{labels[0]}": "NAME"')


def test_a_mapping_of_names_says_which_is_whose():
    mapping = fit(["good", "bad"], names={"good": "positive", "bad": "negative"})
    assert mapping.values == ("good", "bad") and mapping.names == ("positive", "negative")
    mapping = fit([0, 1, 2], names={0: "1", 1: "2", 2: "3"})  # YAML makes numbers of the keys
    assert mapping.encode([1, 2], trained_on=True).tolist() == [1, 2]
    assert mapping.encode([1, 2]).tolist() == [0, 1]  # as the run itself calls them
    refused(
        lambda: fit(["a", "b"], names={"a": "b", "b": "c"}), "not the label of another class", "found 'b'"
    )


def test_classes_that_the_column_declares():
    declared = ["neg", "pos"]
    mapping = fit([1, 0, 1], declared=declared)
    assert (mapping.values, mapping.names, mapping.declared) == ((0, 1), ("neg", "pos"), ("neg", "pos"))
    assert fit([0, 1], declared=["a", "b", "c"]).num_labels == 3
    turned = fit([1, 0, 1], declared=declared, names=["pos", "neg"])
    assert turned.names == ("pos", "neg") and turned.encode([1, 0], declared=declared).tolist() == [0, 1]
    stars = ["1 star", "2 star", "3 stars"]
    shown = fit([0, 1, 2], declared=stars, names=["1 star", "2 stars", "3 stars"])  # one is renamed
    assert shown.encode([2, 1], declared=stars).tolist() == [2, 1]
    assert shown.encode(["2 star", "2 stars", 1]).tolist() == [1, 1, 1]
    refused(lambda: fit([0, 1, 2], declared=list("abc"), names=["b", "x", "y"]), "found none for 'a', 'c'")
    refused(lambda: fit([0, 1], declared=declared, base=-1), "data.label_base=-1", "neg, pos", "remove it")
    refused(lambda: fit([0, 0], declared=declared), "only the label 'neg'")
    unlabelled = [0, 1, -1, -1]
    refused(lambda: fit(unlabelled, declared=declared), "-1 in rows 3 and 4", "'not labelled'", "remove")
    with pytest.raises(UserError) as caught:
        mapping.encode(unlabelled, declared=declared)
    assert "label_base" not in str(caught.value)


def test_a_declared_column_is_read_by_its_own_names(capsys):
    mapping = fit([0, 1], declared=["neg", "pos"])
    assert mapping.encode([0, 1], declared=["pos", "neg"]).tolist() == [1, 0]
    assert mapping.encode([0, 1], declared=["POS", "NEG"]).tolist() == [1, 0]
    assert fit(["neg", "pos"]).encode([0, 1], declared=["pos", "neg"]).tolist() == [1, 0]
    assert capsys.readouterr().out == ""
    assert mapping.encode([0, 1], declared=["bad", "good"]).tolist() == [0, 1]
    assert "read by their numbers, bad as neg, good as pos" in capsys.readouterr().out
    refused(lambda: mapping.encode([0, 1], declared=["neg", "good"]), "neg", "pos", "found 'good' in row 2")
    refused(lambda: fit([1, 2]).encode([1, 0], declared=["1 star", "2 stars"]), "found '2 stars' in row 1")
    digits = fit([0, 1, 2], declared=["1", "2", "3"])  # what each is called, not the number it is stored as
    assert digits.encode(["1", "2"]).tolist() == [0, 1]
    assert "as names of the classes" in capsys.readouterr().out
    assert digits.encode([0, 1, 2]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "trained, tested, classes",
    [
        (["true", "false"], ["True", "FALSE", 1, 0, "1", "0"], [1, 0, 1, 0, 1, 0]),
        (["True", "False"], ["true", "false", 1.0], [1, 0, 1]),
        ([0, 1], ["true", "False", True], [1, 0, 1]),
        ([1, 2], ["1", "1.0", 2.0, "02"], [0, 0, 1, 1]),
        (["1.0", "1.10"], [1], [0]),
        (["01", "02", "10"], [1, 10], [0, 2]),
        (["Positive", "neg"], ["positive", "neg\u200b"], [0, 1]),
    ],
)
def test_labels_that_another_program_wrote(trained, tested, classes):
    mapping = fit(trained)
    for value, expected in zip(tested, classes, strict=True):  # each column of a type of its own
        assert mapping.encode([value]).tolist() == [expected], value


def test_how_a_label_was_read_is_said(capsys):
    fit(["true", "false"]).encode(["True", "False"], where="t.csv")
    assert capsys.readouterr().out == "labels of t.csv: read 'True' as 'true', 'False' as 'false'\n"
    fit([1, 2]).encode(["1", "2.0"])
    assert capsys.readouterr().out == ""


def test_encode_refuses_what_training_did_not_have():
    stars = fit([1, 2, 5])
    refused(
        lambda: stars.encode([1, 6, 0], rows=[3, 5, 7], where="t.csv"), "1, 2, 5", "t.csv", "found 6 in row 5"
    )
    refused(lambda: stars.encode([1, 3]), "found 3 in row 2")
    refused(lambda: stars.encode(["1", "label"]), "found 'label' in row 2", "a repeated header?")
    refused(lambda: stars.encode([1, -1]), "found -1 in row 2", "means a missing label")
    refused(lambda: fit(["US", "us", "de"]).encode(["Us"]), "found 'Us' in row 1")  # it could be either
    refused(lambda: stars.encode(["1", "good"], where="t.csv"), "found 'good' in row 2")
    refused(lambda: stars.encode([1.5]), "found 1.5 in row 1")
    words = fit(["bad", "good"])
    refused(lambda: words.encode(["good", "awful"], where="t.csv"), "'bad', 'good'", "'awful' in row 2")
    refused(lambda: words.encode([1]), "found 1 in row 1")
    assert words.encode([]).tolist() == []


@pytest.mark.parametrize(
    "labels, declared", [([1, 2, 5], None), (["bad", "good"], None), ([0, 1], ["a", "b"])]
)
def test_survives_a_checkpoint(labels, declared, tmp_path):
    mapping = fit(labels, declared=declared)
    torch.save(mapping.as_dict(), tmp_path / "m")
    assert LabelMapping.from_dict(torch.load(tmp_path / "m", weights_only=True)) == mapping


def test_many_labels_are_quick():
    numbers = np.random.default_rng(0).integers(0, 5, 650_000)
    for labels in (pa.array(numbers), pa.array(numbers).cast(pa.string()), numbers):
        start = time.perf_counter()
        encoded = fit(labels).encode(labels)
        assert time.perf_counter() - start < 2  # 0.02 s; Python row by row takes over 1 s a pass
        assert np.array_equal(encoded, numbers)
