"""Labels: how each kind is understood, and one line for each mistake."""

import time

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from corpus_files import refused

from lit_ft.labels import LabelMapping


def fit(labels, base=None, names=None, rows=None):
    return LabelMapping.fit(labels, base=base, names=names, where="r.csv", rows=rows)


@pytest.mark.parametrize(
    "labels, values, classes",
    [
        ([2, 0, 1], (0, 1, 2), [2, 0, 1]),
        ([1, 5, 4], (1, 2, 3, 4, 5), [0, 4, 3]),  # stars; 2 and 3 keep their place
        (["1", " 5", "04", "4.0"], (1, 2, 3, 4, 5), [0, 4, 3, 3]),
        ([1.0, 2.0], (1, 2), [0, 1]),
        (["good", "bad", " good "], ("bad", "good"), [1, 0, 1]),
        (["2a", "None", "nan"], ("2a", "None", "nan"), [0, 1, 2]),
        ([True, False], ("False", "True"), [1, 0]),
        (np.array([3, 1, 3], dtype=np.int32), (1, 2, 3), [2, 0, 2]),
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


def test_mixtures_name_the_rarer_kind():
    refused(
        lambda: fit(["3", "4", "good", "5"], rows=np.array([2, 4, 8, 16])),
        "found whole numbers",
        "but 'good' in row 8",
        "--data.label_column",
    )
    refused(lambda: fit([3, "good", 4]), "but 'good' in row 2")
    refused(lambda: fit([3, "a text\n" * 200, 4]), "but 'a text\\n", "... in row 2")
    refused(lambda: fit(["bad", "good", "3"]), "found names but '3' in row 3")
    refused(lambda: fit(["bad", "good", "3.5"]), "found names but '3.5' in row 3")


@pytest.mark.parametrize("labels", [["1", "", "2"], [1, None, 2], [1.0, float("nan"), 2.0], ["a", " ", "b"]])
def test_missing_label(labels):
    refused(lambda: fit(labels), "r.csv", "found none in row 2", "--data.label_column")
    refused(lambda: fit([0, 1]).encode(labels[1:2], where="t.csv"), "t.csv", "found none in row 1")


def test_fractions_gaps_and_a_single_class():
    refused(lambda: fit([1, 3.5, 2]), "whole numbers", "found 3.5 in row 2", "--data.label_column")
    refused(lambda: fit(["1", "inf"]), "found 'inf' in row 2")
    refused(
        lambda: fit([1, 2, 999]), "found 999 in row 3", "999 classes of which 3 occur", "--data.label_base"
    )
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
    refused(lambda: fit(["a", "b"], names=["x", "x"]), "2 different names", "'a', 'b'", "--data.label_names")


def test_encode_refuses_what_training_did_not_have():
    stars = fit([1, 2, 5])
    assert stars.encode([3]).tolist() == [2]
    refused(
        lambda: stars.encode([1, 6, 0], rows=[3, 5, 7], where="t.csv"), "1 to 5", "t.csv", "found 6 in row 5"
    )
    refused(lambda: stars.encode(["1", "good"], where="t.csv"), "found 'good' in row 2")
    refused(lambda: stars.encode([1.5]), "found 1.5 in row 1")
    words = fit(["bad", "good"])
    refused(lambda: words.encode(["good", "awful"], where="t.csv"), "'bad', 'good'", "'awful' in row 2")
    refused(lambda: words.encode([1]), "found 1 in row 1")
    assert words.encode([]).tolist() == []


@pytest.mark.parametrize("labels", [[1, 2, 5], ["bad", "good"]])
def test_survives_a_checkpoint(labels, tmp_path):
    mapping = fit(labels)
    torch.save(mapping.as_dict(), tmp_path / "m")
    assert LabelMapping.from_dict(torch.load(tmp_path / "m", weights_only=True)) == mapping


def test_many_labels_are_quick():
    numbers = np.random.default_rng(0).integers(0, 5, 650_000)
    for labels in (pa.array(numbers), pa.array(numbers).cast(pa.string()), numbers):
        start = time.perf_counter()
        encoded = fit(labels).encode(labels)
        assert time.perf_counter() - start < 2  # 0.02 s; Python row by row takes over 1 s a pass
        assert np.array_equal(encoded, numbers)
