"""What is said of the labels of training: which line, of which rows, and whether the classes are wrong."""

import pyarrow as pa
import pytest

from lit_ft.data.label_column import LabelColumn
from lit_ft.data.label_findings import findings
from lit_ft.data.label_names import look_alikes, spelled
from lit_ft.data.labels import LabelMapping
from lit_ft.errors import rows_in_words


def found(labels, texts=None, names=None, base=None, declared=None, **kwargs):
    """Findings as (kind, rows, unsound, warns) and their lines."""
    column = LabelColumn(labels)
    mapping = LabelMapping.fit(column, base=base, names=names, where="r.csv", declared=declared, **kwargs)
    texts = pa.chunked_array([texts or ["x"] * len(labels)])
    said = findings(column, mapping, texts, ["text", "id"])
    assert all("\n" not in finding.line and len(finding.line) < 400 for finding in said)
    return [(f.kind, f.rows, f.unsound, f.warns) for f in said], " ".join(f.line for f in said)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2],
        [1, 2, 3, 4, 5] * 9,
        ["pos", "neg"],
        ["caf\u00e9", "cafe"],
        ["-", "+"],
        ["Sports/Tennis", "Sports/Football", "Politics/EU"],
        ["New York, NY", "Albany, NY"],
        ["C++", "C", "C+", "R&B", "$", "$$"],
        ["nano", "Nonesuch"],
    ],
)
def test_nothing_to_say(labels):
    assert found(labels * 3) == ([], "")


@pytest.mark.parametrize(
    "names",
    [
        ["caf\u00e9", "cafe\u0301"],
        ["bar", "bar\u200b"],
        ["bar", "\ufeffbar", "ba\u00adr"],
        ["Billing", "billing", "BILLING"],
        ["very good", "very  good", "very\u00a0good"],
        ["a", "\uff41"],
        ["A", "\u0410"],  # Cyrillic
        ["p\u043es", "pos"],
        ["\u043d\u0435\u0442", "\u041d\u0415\u0422"],
        ["\u2764", "\u2764\ufe0f"],
        ["non-fiction", "non\u2011fiction"],
        ["stra\u00dfe", "STRASSE"],
    ],
)
def test_names_that_look_the_same(names):
    assert [sorted(group) for group in look_alikes([*names, "other"])] == [sorted(names)]
    said, lines = found([*names, "other", names[0]])
    rows = [*range(1, len(names) + 1), len(names) + 2]
    assert said == [("look-alike", rows, True, True)]
    assert "look the same" in lines and f"(rows 1 and {len(names) + 2})" in lines
    assert len(set(spelled(names))) == len(names)


def test_a_difference_that_nobody_sees_is_spelled():
    assert spelled(["bar", "bar\u200b"]) == ["'bar'", "'bar\\u200b'"]
    assert spelled(["Bar", "bar"]) == ["'Bar'", "'bar'"]


def test_declared_names_that_look_the_same():
    said, lines = found([0, 1, 0], declared=["neg", "Neg", "pos"])
    assert ("look-alike", [1, 2, 3], True, True) in said and "'neg' (rows 1 and 3) and 'Neg' (row 2)" in lines


@pytest.mark.parametrize("name", ["nan", "NaN", "None", "null", "NULL", "NA", "n/a", "<NA>", "\\N", "#N/A"])
def test_what_stands_for_no_label(name):
    said, lines = found(["pos", name, "neg", name])
    assert said == [("stand-in", [2, 4], True, True)]
    assert repr(name) in lines and "rows 2 and 4" in lines


def test_a_header_among_the_rows():
    said, lines = found(["pos", "label", "neg"], texts=["a", "text", "b"])
    assert said == [("header", [2], True, True)] and "repeated header in row 2" in lines
    said, lines = found(["pos", "Label", "neg"])
    assert said == [("header", [2], True, True)] and "the column's name: a repeated header?" in lines
    assert found(["pos", "id", "neg"], texts=["a", "label", "b"])[0] == [("header", [2], True, True)]
    assert found(["pos", "id", "neg"]) == ([], "")


@pytest.mark.parametrize(
    "labels, rows, part",
    [
        (["bug;billing", "x", "billing;bug"], [1, 3], "2 of 3 are several labels joined by ';'"),
        (["bug", "billing", "bug|billing"], [3], "'bug|billing'"),
        (["a, b", "b, c", "c, d", "d, a", "a, c"], [1, 2, 3, 4, 5], "5 of 5"),
        (["['a', 'b']", "['b', 'a']"], [1, 2], "','"),
    ],
)
def test_several_labels_in_one(labels, rows, part):
    said, lines = found(labels)
    assert said == [("joined", rows, False, True)] and part in lines and "one label per row" in lines


def test_numbers_that_do_not_occur():
    said, lines = found([1, 2, 5])
    assert said == [("gap", [], False, False)]
    assert "no row has 3, 4, so there is no such class" in lines and "--data.label_type=names" in lines
    assert "1,396 numbers between 101 and 1500" in found([101, 205, 999, 1500])[1]
    assert "no row has '3', '4', though it is declared" in found([1, 2, 5], names=list("12345"))[1]
    assert "no row has 'c'" in found(["a", "b"], names=["a", "b", "c"])[1]
    assert "no row has 'c'" in found([0, 1], declared=["a", "b", "c"])[1]


def test_very_many_classes():
    said, lines = found([*range(101)] * 3)
    assert said == [("many", [], False, True)]
    assert "101 classes, the numbers 0 to 100" in lines and "--data.label_type=names" in lines
    assert found([*range(20)] * 3) == ([], "")
    said, lines = found([f"text {i}" for i in range(60)])
    assert said == [("many", [], False, True)] and "60 distinct ones in 60 rows" in lines


@pytest.mark.parametrize(
    "labels, warns, part",
    [
        (["01", "02", "10"], False, "names, since '01' in row 1 has leading zeros"),
        (["7", "007", "8"], True, "'7' is another class (--data.label_type=numbers makes them one class)"),
        (["3" * 19, "4" * 19], False, "is too long for a number"),
        (["2", "2.1", "2.10", "3.4"], False, "since '2.10' in row 3 looks like a version"),
        (["11", "12", "1_1", "1_2"], False, "since '1_1' in row 3 is not a number"),
        (["bad", "good", "3"], True, "'3' in row 3, a number among names"),
        (["1", "1.0", "2"], False, "'1' and '1.0' are the same number"),
    ],
)
def test_how_labels_are_written(labels, warns, part):
    said, lines = found(labels)
    assert [(kind, unsound, loud) for kind, _, unsound, loud in said] == [("written", False, warns)]
    assert part in lines


def test_rows_in_words():
    said = [rows_in_words(range(1, n)) for n in (2, 3, 5)]
    assert said == ["row 1", "rows 1 and 2", "rows 1, 2, 3 and 1 more"]
