"""The validation hold-out: the right share of each class, and no text on both sides."""

import json
import random
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from conftest import one_line, write_csv
from corpus_files import refused
from datasets import Dataset

from lit_ft.classifier.data import YelpDataModule
from lit_ft.data.holdout import shown_share, stratified_split
from lit_ft.data.splits import hold_out


def test_split_keeps_shares_and_is_seeded():
    labels = np.random.default_rng(1).choice(5, 1000, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    train, validation = stratified_split(labels, 0.1, seed=3)
    assert len(validation) == 100 and np.array_equal(np.sort(np.r_[train, validation]), np.arange(1000))
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    held_out, counts = np.bincount(labels[validation], minlength=5), np.bincount(labels)
    assert (held_out >= 1).all() and (np.abs(held_out - counts * 0.1) <= 1).all()
    again, other = stratified_split(labels, 0.1, seed=3), stratified_split(labels, 0.1, seed=4)
    assert np.array_equal(again[1], validation) and not np.array_equal(other[1], validation)
    assert not np.array_equal(validation[:50], np.flatnonzero(labels >= 0)[:50])


def test_split_of_few_rows():
    train, validation = stratified_split(np.array([0, 0, 1, 1, 3]), 0.01, seed=0)
    assert len(validation) == 2 and 4 in train
    train, validation = stratified_split(np.array([0, 0, 1, 1, 3]), 0.99, seed=0)
    assert set(np.array([0, 0, 1, 1, 3])[train]) == {0, 1, 3}
    refused(lambda: stratified_split(np.array([0, 1, 2]), 0.5, 0), "found 3 rows", "--data.validation_path")
    refused(lambda: stratified_split(np.array([0, 0]), 1.5, 0), "found 1.5", "--data.validation_share")


def test_split_leaves_the_global_generators_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].tolist()
    stratified_split(np.array([0, 0, 1, 1]), 0.5, seed=0)
    assert np.random.get_state()[1].tolist() == before


def test_without_copies_a_split_stays_what_it_was():
    """The split is a fixed function of the seed: figures of different versions stay comparable."""
    labels = np.random.default_rng(1).choice(5, 1000, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    for keys in (None, np.random.default_rng(2).permutation(1000)):
        _, validation = stratified_split(labels, 0.1, 3, keys)
        assert crc32(validation.astype(np.int64).tobytes()) == 878610923
    texts = Dataset.from_dict({"text": [f"text {i}" for i in range(120)]})
    assert hold_out(texts, None, 0.05, 3)[1].tolist() == [23, 30, 35, 58, 64, 84]


def shares(
    keys: np.ndarray, labels: np.ndarray, share: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    train, validation = stratified_split(labels, share, seed, keys)
    assert not set(keys[train]) & set(keys[validation])
    assert np.array_equal(np.sort(np.r_[train, validation]), np.arange(len(labels)))
    assert set(labels[train]) == set(labels)  # every class can be learned
    return train, validation


@pytest.mark.parametrize("seed", range(3))
def test_equal_texts_stay_together(seed):
    """A fifth of the rows are copies, some with another label; the classes' shares stay."""
    rng = np.random.default_rng(seed)
    keys = np.r_[np.arange(400), rng.integers(0, 400, 100)]
    labels = keys % 4
    labels[400:430] = rng.integers(0, 4, 30)
    _, validation = shares(keys, labels, 0.1, seed)
    assert np.abs(np.bincount(labels[validation]) - np.bincount(labels) * 0.1).max() <= 2


def test_what_has_more_copies_than_may_be_held_out_stays_in_training():
    keys = np.r_[np.zeros(300, np.int64), np.arange(1, 701)]
    labels = np.r_[np.zeros(500, np.int64), np.ones(500, np.int64)]
    _, validation = shares(keys, labels, 0.05)
    assert np.bincount(labels[validation]).tolist() == [25, 25] and 0 not in keys[validation]


def test_texts_that_all_have_copies():
    """Four copies of each text: as close to the share as whole texts allow."""
    keys, labels = np.arange(100) // 4, np.arange(100) // 20
    assert np.bincount(labels[shares(keys, labels, 0.2)[1]]).tolist() == [4] * 5
    _, validation = shares(keys, labels, 0.05)
    assert len(validation) == 8  # not 20, a text of each class
    shown = shown_share(labels, labels[validation], 0.05)
    assert shown == "data.validation_share=0.05; they are 8.0%; no row of 3 of 5 classes"


def test_one_text_a_class_is_split_by_rows(capsys):
    """Nothing else could be held out; a warning tells of the copies."""
    labels = np.arange(60) % 2
    for found, expected in zip(
        *(stratified_split(labels, 0.1, 0, keys) for keys in (labels, None)), strict=True
    ):
        assert np.array_equal(found, expected)
    kept, held_out, _ = hold_out(Dataset.from_dict({"text": ["So good!", "so  good"]}), None, 0.1, 0)
    assert len(kept) == len(held_out) == 1 and "warning: all texts are equal" in capsys.readouterr().err


def test_many_small_classes_keep_the_share():
    labels = np.r_[np.repeat(np.arange(150), 4), 0]
    _, validation = stratified_split(labels, 0.05, 0)
    assert len(validation) == 30 and len(set(labels[validation])) == 30
    assert labels[validation].mean() == pytest.approx(75, abs=25)  # not the first ones alphabetically
    shown = shown_share(labels, labels[validation], 0.05)
    assert shown == "data.validation_share=0.05; no row of 120 of 150 classes"
    _, validation = stratified_split(labels, 0.2, 0)  # enough for each to have one
    assert set(labels[validation]) == set(range(150))


def test_copies_that_differ_in_case_and_spacing_stay_together(encoder, work, capfd):
    rows = [(i % 2, f"{'good' if i % 2 else 'bad'} number {i // 2}") for i in range(80)]
    rows += [(label, f"  {text.upper()} !") for label, text in rows[:40]]
    write_csv(work / "twice.csv", rows)
    settings = {"train_path": "twice.csv", "max_tokens": 64, "tokenizer": str(encoder)}
    data = YelpDataModule(**settings, validation_share=0.2)
    data.setup("fit")
    assert "validation: 24 texts held out of train (data.validation_share=0.2)\n" in capfd.readouterr().out
    numbers = [{row % 80 if row < 120 else row for row in s.source_rows - 1} for s in data.splits.values()]
    assert not numbers[0] & numbers[1]


@pytest.fixture
def by_chance(lit_ft, fit_args, work) -> dict:
    """A model that has memorised random labels, and its score on other rows."""
    draw, words = random.Random(0), "great plot so awful acting".split()
    rows = [(draw.randint(1, 2), " ".join(draw.choices(words, k=8))) for _ in range(80)]
    write_csv(work / "train.csv", rows[:60])
    write_csv(work / "test.csv", rows[60:])
    assert lit_ft("fit", *fit_args, "--data.validation_share", "0.3")[0] == 0
    return {**metrics(), "confusion": confusion()}


def metrics() -> dict:
    return json.loads(Path("runs/small/version_0/metrics.json").read_text())


def confusion() -> list[list[int]]:
    facts = json.loads(Path("runs/small/version_0/report.json").read_text())
    return facts["evaluations"]["val"]["confusion"]


def test_validate_measures_what_the_checkpoint_held_out(by_chance, lit_ft, fit_args):
    """small.yaml says 0.2; still the rows are those of the fit, or none."""
    code, out, err = lit_ft("validate", *fit_args)
    assert code == 0 and "data.validation_share=0.3)" in out, err
    assert metrics()["val/accuracy"] == by_chance["val/accuracy"]
    assert confusion() == by_chance["confusion"]
    for flag, message in {
        "--data.validation_share=0.5": "data.validation_share is 0.5 here and 0.3 there; leave out",
        "--data.split_seed=3": "data.split_seed is 3 here and 0 there; leave out --data.split_seed",
        "--data.train_path=test.csv": "in test.csv: rows held out now may have been trained on; set",
        "--data.strip_html_breaks=true --data.text_column=label": "expected the checkpoint's training data",
    }.items():
        assert message in one_line(lit_ft("validate", *fit_args, *flag.split()))
    assert metrics()["val/accuracy"] == by_chance["val/accuracy"]
    code, out, err = lit_ft("validate", *fit_args, "--data.validation_path", "test.csv")
    assert code == 0 and "20 rows of test.csv" in out, err  # other rows, named


def test_a_run_with_validation_data_of_its_own_held_nothing_out(lit_ft, fit_args, work):
    flags = ["--data.validation_path", "test.csv", "--trainer.max_epochs", "1"]
    assert lit_ft("fit", *fit_args, *flags)[0] == 0
    code, out, _ = lit_ft("validate", *fit_args)
    assert code == 0 and "30 rows of test.csv" in out
    message = one_line(lit_ft("validate", *fit_args, "--data.validation_path", "null"))
    assert "found none: its run had validation data of its own; set --data.validation_path" in message
