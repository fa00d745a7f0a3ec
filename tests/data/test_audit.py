"""Duplicates, leakage and conflicts, against planted and hand-counted cases."""

import numpy as np
import pyarrow as pa
import pytest

from lit_ft.data import duplicates as audit
from lit_ft.data.duplicates import (
    AuditSplit,
    Duplicates,
    Occurrence,
    conflicting,
    conflicts,
    duplicates,
    exact_keys,
    leakage,
    normalise,
    normalised_keys,
)

NAMES = ("bad", "fine", "good")


def split(name: str, *rows: tuple[int | None, str], first_row: int = 1) -> AuditSplit:
    """A split of (class, text) as a column in two chunks, with rows counted from `first_row`."""
    texts = [text for _, text in rows]
    half = len(texts) // 2
    column = pa.chunked_array([texts[:half], texts[half:]], pa.string())
    labels = None if rows[0][0] is None else np.array([label for label, _ in rows])
    numbers = np.arange(len(rows))
    keys = exact_keys(column), normalised_keys(column, name)
    return AuditSplit(name, *keys, numbers + first_row, column, numbers, labels)


def places(example) -> list[tuple[str, int, str | None]]:
    return [(place.split, place.row, place.label) for place in example.occurrences]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Good food", "GOOD food"),
        ("Good food!", "good, food"),
        ("good,food", "good food"),
        ("don't", "don’t"),
        ("good\n\n food ", "good food"),
        ("good\u00a0food", "good food"),
        ("straße", "STRASSE"),
        ("ﬁne", "fine"),
        ("ｆｉｎｅ", "fine"),
        ("cafe\u0301", "café"),
        ("这家，酒店 很好。", "这家酒店很好"),
        ("この ホテルは「良い」です。", "この ホテルは良いです"),
        ("ﾎﾃﾙ", "ホテル"),
        ("ห้องพัก สะอาดมาก", "ห้องพักสะอาดมาก"),
        ("បន្ទប់\u200bស្អាត", "បន្ទប់ស្អាត"),
    ],
)
def test_normalised_texts_that_are_equal(one, other):
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5.0", "50"),
        ("$5", "5"),
        ("!!!", "..."),
        ("👍", "👎"),
        ("good food", "goodfood"),
        ("c+", "c"),
        ("é", "e"),
        ("酒店很好", "酒店不好"),
        ("ห้องดี", "ห้องไม่ดี"),
        ("iPhone 好", "i Phone 好"),
        ("방이 좋아요", "방이좋아요"),
    ],
)
def test_normalised_texts_that_differ(one, other):
    assert normalise(one) != normalise(other)


def test_keys_tell_texts_apart_whatever_the_chunks():
    texts = [f"text {i % 700}" for i in range(1000)]
    whole = exact_keys(pa.chunked_array([texts]))
    assert whole.dtype == np.uint64 and len(np.unique(whole)) == 700
    assert (exact_keys(pa.chunked_array([texts[:3], texts[3:]])) == whole).all()
    assert (
        normalised_keys(pa.chunked_array([texts[:3], texts[3:]]), "x") == whole
    ).all()  # normalised already
    assert len(exact_keys(pa.chunked_array([], pa.string()))) == 0


def test_duplicates():
    found = split("train", (0, "a"), (0, "b"), (1, "A"), (0, "a"), (0, "c"), (0, "a"), (0, "b"))
    assert duplicates(found.exact) == Duplicates(texts=2, surplus_rows=3)
    assert duplicates(found.normalised) == Duplicates(texts=2, surplus_rows=4)


def test_leakage_finds_every_pair_of_splits():
    train = split("train", (0, "x"), (1, "same text"), (0, "Nearly!"), (1, "same text"), first_row=2)
    validation = split("validation", (0, "own"), (1, "SAME text"), (0, "third"), first_row=10)
    test = split("test", (2, "same text"), (0, "nearly"), (0, "third"), (2, "same text"), (0, "nearly"))
    to_validation, to_test, between = leakage([train, validation, test], NAMES.__getitem__)
    assert (to_validation.first, to_validation.second) == ("train", "validation")
    assert (to_validation.exact_rows, to_validation.normalised_rows) == (0, 1)
    assert to_validation.share == pytest.approx(1 / 3)
    assert [places(e) for e in to_validation.examples] == [[("train", 3, "fine"), ("validation", 11, "fine")]]
    assert (to_test.exact_rows, to_test.normalised_rows, to_test.share) == (2, 4, 0.8)
    # one example per text, exact ones first; its rows are the first with the text
    assert [(e.exact, e.text, places(e)) for e in to_test.examples] == [
        (True, "same text", [("train", 3, "fine"), ("test", 1, "good")]),
        (False, "nearly", [("train", 4, "bad"), ("test", 2, "bad")]),
    ]
    assert (between.first, between.second) == ("validation", "test")
    assert (between.exact_rows, between.normalised_rows) == (1, 3)


def test_no_leakage():
    (found,) = leakage(
        [split("train", (0, "a"), (1, "b")), split("test", (0, "c"), (1, "d"))], NAMES.__getitem__
    )
    assert (found.exact_rows, found.normalised_rows, found.share, found.examples) == (0, 0, 0.0, [])


def test_conflicts_within_and_between_splits():
    train = split(
        "train", (0, "x"), (2, "same"), (0, "same"), (2, "same"), (1, "Across"), (1, "both"), (1, "both")
    )
    test = split("test", (1, "both"), (0, "across."), (0, "same"), (2, "alone"), (1, "ALONE"))
    unlabelled = split("predict", (None, "x"), (None, "both"))
    found = conflicts([train, test, unlabelled], NAMES.__getitem__)
    assert (found.exact_texts, found.normalised_texts, found.rows) == (1, 3, 4 + 2 + 2)
    assert found.within == {"train": 1, "test": 1} and found.across == 1
    assert [(e.exact, places(e)) for e in found.examples] == [
        (True, [("train", 2, "good"), ("train", 3, "bad")]),
        (False, [("train", 5, "fine"), ("test", 2, "bad")]),
        (False, [("test", 4, "good"), ("test", 5, "fine")]),
    ]


def test_no_conflicts():
    found = conflicts([split("train", (0, "a"), (0, "a"), (1, "b"))], NAMES.__getitem__)
    assert (found.exact_texts, found.normalised_texts, found.rows, found.across) == (0, 0, 0, 0)
    assert found.within == {"train": 0} and found.examples == []


def test_conflicting_rows():
    keys = np.array([7, 3, 7, 3, 9], np.uint64)
    assert conflicting(keys, np.array([0, 1, 2, 1, 4])).tolist() == [True, False, True, False, False]
    assert conflicting(keys[:0], np.zeros(0, int)).tolist() == []


def test_rows_taken_out_keep_their_numbers_and_texts():
    whole = split("train", *((i % 2, f"text {i}") for i in range(10)), first_row=5)
    taken = whole.take(np.array([2, 9]), "validation")
    (found,) = leakage([split("other", (0, "text 9"), (0, "a")), taken], NAMES.__getitem__)
    assert found.exact_rows == 1
    assert places(found.examples[0])[1] == ("validation", 14, "fine") and found.examples[0].text == "text 9"


def test_examples_are_few_and_short(monkeypatch):
    rows = [(i % 2, f"{'long ' * 30}\n{i}") for i in range(20)]
    changed = [(label, text.upper() if i >= 10 else text) for i, (label, text) in enumerate(rows)]
    monkeypatch.setattr(audit, "MAX_EXAMPLES", 7)
    (found,) = leakage([split("train", *rows), split("test", *changed)], NAMES.__getitem__)
    assert (found.exact_rows, found.normalised_rows) == (10, 20)
    assert [example.exact for example in found.examples] == [True] * 7 + [False] * 7
    assert found.examples[6].occurrences == [Occurrence("train", 7, "bad"), Occurrence("test", 7, "bad")]
    assert found.examples[7].occurrences == [Occurrence("train", 11, "bad"), Occurrence("test", 11, "bad")]
    assert all(len(example.text) == 80 and "\n" not in example.text for example in found.examples)


def test_the_warning_of_fit():
    def keys(*texts: str) -> np.ndarray:
        return exact_keys(pa.chunked_array([list(texts)]))

    train, labels = keys("a", "b", "a", "c", "c"), np.array([0, 1, 1, 2, 2])
    assert audit.warning_line(keys("b", "c"), np.array([0, 1]), keys("d")) is None
    line = audit.warning_line(keys("b", "c"), np.array([0, 1]), keys("c", "d", "c"))
    assert line.startswith("2 of 3 validation rows are copies of training rows; python -m lit_ft check")
    line = audit.warning_line(train, labels, keys("d"))
    assert line.startswith("1 training text has different labels; python -m lit_ft check")
    line = audit.warning_line(train, labels, keys("c"))
    assert line.startswith(
        "1 of 1 validation rows is a copy of a training row and 1 training text has different"
    )
