"""The labels of a multi-label corpus, from the column to (N, C)."""

from dataclasses import replace

import datasets
import numpy as np
import pyarrow as pa
import pytest

from lit_ft.data.iterative import iterative_split
from lit_ft.data.tag_columns import TagForm, tag_form
from lit_ft.data.tags import TagColumn, TagMapping, tag_findings
from lit_ft.errors import UserError


def read(table: dict, **settings) -> TagColumn:
    made = datasets.Dataset.from_dict(table)
    columns, separator = settings.get("label_columns"), settings.get("separator")
    form = tag_form(made, "label", columns, separator, "multi_label", "t.csv")
    form = replace(form, form=settings.get("form", form.form))  # as of a JSON file, whose cells are texts
    rows = np.arange(1, len(made) + 1)
    return TagColumn(form.read(made.data.table, rows, "t.csv"), rows, form)


def fit(table: dict, names=None, **settings) -> tuple[TagMapping, list]:
    column = read(table, **settings)
    mapping = TagMapping.fit(column, names=names, where="t.csv")
    return mapping, mapping.encode(column).astype(int).tolist()


@pytest.mark.parametrize(
    ("table", "settings"),
    [
        ({"label": [["b", "a"], [], ["c"]]}, {}),
        ({"label": ["b; a", "", "c"]}, {}),
        ({"label": ["b|a", "", "c|"]}, {"separator": "|"}),
        ({"label": ['["b", "a"]', "[]", '["c"]']}, {}),
        ({"label": ["['b', 'a']", "[]", "['c']"]}, {}),  # as pandas writes lists into a CSV
        ({"label": ["['b' 'a']", "[]", "['c']"]}, {}),  # numpy: to Python 'ba'
        ({"label": ["{'b', 'a'}", "set()", "{'c'}"]}, {}),
        ({"label": ["('b', 'a')", "()", "('c',)"]}, {}),
        ({"label": ['{b,"a"}', "{}", "{c}"]}, {"separator": ","}),  # PostgreSQL
        ({"label": ["<b><a>", "", "<c>"]}, {"separator": "><"}),  # Stack Overflow
        ({"label": ["b\ta", "", "c"]}, {"separator": r"\t"}),
        (
            {"a": ["1", "0", "0"], "b": ["1", "0", "0"], "c": ["0", "0", "1"]},
            {"label_columns": ["a", "b", "c"]},
        ),
        (
            {"a": [True, False, False], "b": [1, 0, 0], "c": [0.0, 0.0, 1.0]},
            {"label_columns": ["a", "b", "c"]},
        ),
    ],
)
def test_every_form_gives_the_same_labels(table, settings):
    mapping, tags = fit(table, **settings)
    assert mapping.names == ("a", "b", "c") and tags == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]


def test_order_names_numbers_and_what_a_checkpoint_keeps():
    assert fit({"label": [[10, 9], [9], []]})[0].names == ("9", "10")
    mapping, tags = fit({"label": ["b;a", "a"]}, names=["b", "a", "c"])
    assert mapping.names == ("b", "a", "c") and tags == [[1, 1, 0], [0, 1, 0]]
    shown, _ = fit({"label": ["b;a", "a"]}, names={"a": "Apples", "b": "Bread"})
    assert shown.names == ("Apples", "Bread")
    assert TagMapping.from_dict(shown.as_dict()) == shown
    tags = np.array([[1, 1], [0, 0]], bool)
    assert shown.shown(tags).to_pylist() == [["Apples", "Bread"], []]
    assert shown.encode(TagColumn([["Bread"], ["b"], ["B"]])).tolist() == [[False, True]] * 3
    assert [shown.named(row) for row in tags] == ["Apples;Bread", "no label"]
    assert shown.balance(tags) == {"Apples": 1, "Bread": 1}
    features = datasets.Features({"label": datasets.List(datasets.ClassLabel(names=["y", "x"]))})
    made = datasets.Dataset.from_dict({"label": [[0], [1, 0]]}, features=features)
    form = tag_form(made, "label", None, None, "auto", "hub")
    column = TagColumn(form.read(made.data.table, np.array([1, 2]), "hub"), None, form)
    assert TagMapping.fit(column, names=None, where="hub").names == ("y", "x")


@pytest.mark.parametrize(
    ("table", "settings", "found"),
    [
        ({"label": [["a"], None, ["b"]]}, {}, "found none in row 2"),
        ({"label": [["a", ""], ["b"]]}, {}, "found '' in row 1"),
        ({"label": ['["a", "b"]', "c"]}, {"form": "lists"}, 'found \'c\' in row 2; write it as a list'),
        ({"label": [[0.5], [1.0]]}, {}, "found 0.5 in row 1"),
        ({"label": ['["a", ["b"]]', "[]"]}, {}, r"found \['b'\] in row 1"),
        ({"label": ['[{"n": "a"}]', "[]"]}, {}, r"found \{'n': 'a'\} in row 1"),
        ({"label": [[], [], []]}, {}, "found none in any of its 3 rows"),
        ({"label": ["", ""]}, {}, "found none in any of its 2 rows"),
        ({"label": [["a"], [], ["a"]]}, {}, "found only 'a'"),
        ({"label": [["a", "b"], ["b", "a"]]}, {}, "'a', 'b' on every row or on none"),
        ({"label": [[0, 1, 1], [1, 0, 0]]}, {}, "lists of 3 zeros and ones"),
        ({"label": ["a|b", "b|c", "a"]}, {}, r"in no row but '\|' in 'a\|b' in row 1.*separator='\|'"),
        ({"label": ["<a><b>", "<b><c>"]}, {}, "found it in no row but '><' in '<a><b>' in row 1"),
        ({"label": ["|a|b|", "|b|"]}, {}, "found it in no row but '\\|' in '\\|a\\|b\\|' in row 1"),
        ({"label": ["a、b", "b"]}, {}, "found it in no row but '、' in 'a、b' in row 1"),
        ({"label": ["a b", "b c", "c a", "a"]}, {}, "but ' ' in 'a b' in row 1; set .*separator=' '"),
        ({"label": ["a\nb", "b"]}, {}, r"set --data.label_separator='\\n'"),
        ({"label": [[1.0, 0.0], [0.0, 1.0]]}, {}, "found lists of 2 zeros and ones in each row, row 1 on"),
        ({"label": [[True, False], [False, True]]}, {}, "found True in row 1.*--data.label_columns="),
        ({"label": ["a;b", "b;c"]}, {"separator": ","}, "joined by ',' .* but ';' in 'a;b' in row 1"),
        ({"a": ["1", "2"], "b": ["0", "1"]}, {"label_columns": ["a", "b"]}, "'2' in row 2"),
        ({"a": ["1", ""], "b": ["0", "1"]}, {"label_columns": ["a", "b"]}, "found none in row 2"),
        ({"a": ["1"], "b": ["0"]}, {"label_columns": ["a", "x"]}, "found no 'x' but 'a', 'b'"),
        ({"a": ["0", "0"], "b": ["0", "0"]}, {"label_columns": ["a", "b"]}, "none in any of its 2 rows"),
    ],
)  # fmt: skip
def test_bad_labels_are_one_line(table, settings, found):
    with pytest.raises(UserError, match=found):
        fit(table, **settings)


def test_a_label_outside_those_of_training_and_outside_the_names():
    mapping, _ = fit({"label": ["a;b", "a"]})
    with pytest.raises(
        UserError, match=r"expected the labels of training, 'a', 'b', in t.csv, found 'z' in row 2"
    ):
        mapping.encode(TagColumn([["a"], ["z"]]), "t.csv")
    with pytest.raises(UserError, match=r"--data.label_names, 'a', 'x', in t.csv, found 'b' in row 1"):
        fit({"label": ["a;b", "a"]}, names=["a", "x"])


def test_the_hold_out_has_its_share_of_each_label_and_keeps_copies_together():
    rng = np.random.default_rng(0)
    tags = rng.random((2000, 12)) < np.linspace(0.004, 0.4, 12)
    keys = rng.integers(0, 1500, 2000)
    train, held_out = iterative_split(tags, 0.1, 3, keys)
    assert sorted([*train, *held_out]) == list(range(2000))
    assert not set(keys[train]) & set(keys[held_out])
    shares = tags[held_out].sum(0) / tags.sum(0)
    assert (shares > 0.06).all() and (shares[3:] < 0.13).all() and (tags[train].sum(0) > 0).all()
    without = ~tags.any(1)
    assert 0.07 < without[held_out].sum() / without.sum() < 0.13
    assert (iterative_split(tags, 0.1, 3, keys)[1] == held_out).all()
    assert len(iterative_split(np.ones((2, 2), bool), 0.05, 0)[1]) == 1
    rows, rare = np.arange(160), np.zeros((160, 210), bool)  # each label on one text or two
    rare[rows, rows % 120] = rare[rows, 120 + rows % 90] = True
    assert len(iterative_split(rare, 0.2, 0)[1]) == 24
    with pytest.raises(UserError, match="found 1 in 3 rows"):
        iterative_split(np.ones((3, 2), bool), 0.5, 0, np.zeros(3, int))


def test_a_table_names_its_labels():
    assert TagForm("flags", ("a", "b")).names == ("a", "b")
    assert pa.types.is_list(TagForm("joined", ("l",)).read(pa.table({"l": ["a;b"]}), np.array([1]), "t").type)


def test_labels_that_are_not_several_or_mean_none_are_said():
    films = read({"label": ["science fiction", "historical fiction", "none", "drama"]})
    mapping = TagMapping.fit(films, names=None, where="t.csv")
    lines = [found.line for found in tag_findings(films, mapping.encode(films), mapping)]
    assert any("no row has more than one: set --data.label_separator" in line for line in lines)
    assert any("'none' in row 3 often means no label" in line for line in lines)
