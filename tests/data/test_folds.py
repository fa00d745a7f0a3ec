"""Folds and nested shares: every row once, classes in proportion, what belongs together in one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_ft.data.columns import Values
from lit_ft.data.division import check_division, divide, warn_of_rare
from lit_ft.data.folds import fold_of_rows, nested_share
from lit_ft.data.holdout import components
from lit_ft.errors import UserError

PLAIN = {"folds": None, "fold": None, "train_share": 1.0, "validation_share": 0.2, "split_seed": 0}
KEYS = np.arange(300)
CLASSES = np.random.default_rng(0).choice(4, 300, p=[0.6, 0.25, 0.1, 0.05])


@st.composite
def corpora(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Classes, keys of texts, groups, K."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    rows, folds = draw(st.integers(20, 120)), draw(st.integers(2, 6))
    classes = rng.choice(draw(st.integers(1, 5)), rows)
    return classes, rng.integers(0, 3 * rows, rows), rng.integers(0, rows, rows), folds


@given(corpora(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_plain_rows_are_divided_to_within_a_row(corpus, seed):
    classes, _, _, folds = corpus
    found = fold_of_rows(classes, folds, seed)
    assert np.ptp(np.bincount(found, minlength=folds)) <= 1
    for c in np.unique(classes):
        assert np.ptp(np.bincount(found[classes == c], minlength=folds)) <= 1
    assert np.array_equal(found, fold_of_rows(classes, folds, seed))


@given(corpora(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_belongs_together_is_in_one_fold(corpus, several):
    classes, keys, groups, folds = corpus
    strata = np.column_stack([classes == 0, classes > 1]) if several else classes
    parts = components(groups, keys)
    found = fold_of_rows(strata, folds, 0, keys, groups)
    assert len(np.unique(np.stack([parts, found]), axis=1).T) == len(np.unique(parts))
    sizes = np.bincount(found, minlength=folds)
    assert sizes.min() > 0 and np.ptp(sizes) <= 2 * np.bincount(parts).max() + 4


@given(corpora(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_shares_are_nested_and_whole(corpus, several):
    classes, keys, groups, _ = corpus
    strata = np.column_stack([classes == 0, classes > 1]) if several else classes
    parts, smaller = components(groups, keys), np.zeros(0, np.int64)
    for share in (0.05, 0.25, 0.5, 0.8, 1.0):
        taken = nested_share(strata, share, 0, keys, groups)
        assert np.isin(smaller, taken).all() and set(classes) >= set(classes[taken])
        assert not set(parts[taken]) & set(np.delete(parts, taken))
        if not several:
            assert set(classes[taken]) == set(classes)  # each class keeps a row
        smaller = taken
    assert len(smaller) == len(classes)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_share_has_the_share_of_each_class(share):
    taken = nested_share(CLASSES, share, 1)
    assert len(taken) == round(300 * share)
    assert np.abs(np.bincount(CLASSES[taken]) - share * np.bincount(CLASSES)).max() <= 1
    assert not np.array_equal(taken, nested_share(CLASSES, share, 2))


def test_sets_of_labels_are_in_proportion():
    tags = np.random.default_rng(3).random((300, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]
    found = fold_of_rows(tags, 5, 0)
    for has in (*tags.T, ~tags.any(1)):
        assert np.ptp(np.bincount(found[has], minlength=5)) <= 2
    assert np.ptp(np.bincount(found)) <= 6


def test_groups_of_one_class_are_spread():
    classes = np.repeat([0, 1, 2], 40)
    groups = np.arange(120) // 4  # thirty of four rows, ten of each class
    found = fold_of_rows(classes, 5, 0, groups=groups)
    assert [np.bincount(found[classes == c]).tolist() for c in range(3)] == [[8] * 5] * 3


def test_a_division_is_a_partition_in_which_the_fold_comes_first():
    asked = {**PLAIN, "folds": 5, "fold": 2}
    whole = divide(CLASSES, KEYS, asked, None, True, "train.csv")
    parts = [whole.fold, whole.validation, whole.train]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(300)) and whole.sizes == (60,) * 5
    assert len(whole.validation) == 48
    given = divide(CLASSES, KEYS, asked, None, False, "train.csv")
    assert given.validation is None and np.array_equal(given.fold, whole.fold) and len(given.train) == 240
    part = divide(CLASSES, KEYS, {**asked, "train_share": 0.25}, None, True, "train.csv")
    assert np.array_equal(part.fold, whole.fold) and np.array_equal(part.validation, whole.validation)
    assert np.isin(part.train, whole.train).all() and (len(part.train), part.left) == (48, 192)
    other = divide(CLASSES, KEYS, {**asked, "fold": 3}, None, True, "train.csv")
    assert not set(other.fold) & set(whole.fold)


def test_too_few_texts_or_groups_for_the_folds():
    asked = {**PLAIN, "folds": 5, "fold": 1}
    with pytest.raises(UserError, match="5 different texts, .* found 3 in a.csv; set --data.folds=3"):
        divide(CLASSES[:20], KEYS[:20] % 3, asked, None, True, "a.csv")
    groups = Values("author", ["x"], np.zeros(20, np.int64))
    with pytest.raises(UserError, match="5 groups in column 'author' .* found 1 in a.csv; give more"):
        divide(CLASSES[:20], KEYS[:20], asked, groups, True, "a.csv")
    classes = np.arange(30) % 3  # a group each: with one left out neither of two can be
    groups = Values("author", ["x", "y", "z"], classes)
    with pytest.raises(UserError, match="of a.csv without fold 1 of 3 that can be .* found none of 2 "):
        divide(classes, KEYS[:30], {**asked, "folds": 3}, groups, True, "a.csv")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"fold": 2}, "data.fold=2 needs the number of folds; set --data.folds=5"),
        ({"folds": 5}, "data.folds=5 needs the fold to leave out; set --data.fold to one of 1 to 5"),
        ({"folds": 1, "fold": 1}, "data.folds of at least 2, found 1"),
        ({"folds": 5, "fold": 6}, "data.fold from 1 to data.folds=5, found 6"),
        ({"folds": 5, "fold": 0}, "data.fold from 1 to data.folds=5, found 0"),
        ({"train_share": 0.0}, "data.train_share above 0 and at most 1, found 0.0"),
        ({"train_share": 1.5}, "data.train_share above 0 and at most 1, found 1.5"),
    ],
)
def test_settings_that_mean_nothing(asked, message):
    with pytest.raises(UserError, match=message):
        check_division({**PLAIN, **asked})


def test_rare_classes_are_told_in_one_line(capfd):
    warn_of_rare({"a": 3, "b": 1, "c": 5, "never": 0}, 5, "class")
    warn_of_rare({"a": 5}, 5, "class")
    warn_of_rare(None, 5, "class")
    (line,) = capfd.readouterr().err.splitlines()
    assert "2 classes have fewer rows than there are folds, 5 ('a', 'b'): some folds have none" in line
    assert line.endswith("and one leaves none to train on")
