"""Word counts as a classifier: scikit-learn's probabilities, plans within a time, files without code."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import review
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from lit_ft.classifier import word_counts, word_files
from lit_ft.errors import UserError

TEXTS = [f"{review(i % 5 + 1, i // 5)} Number {i % 7}, a  Straße." for i in range(60)]
OTHERS = [*(f"{review(i % 5 + 1, i)} not {i}" for i in range(20)), "", "unheard of", "x"]
LABELS = np.array([3, 4, 7, 8, 9])[np.arange(60) % 5]
VECTORIZERS = {
    "words": {"ngram_range": (1, 2)},
    "characters": {"analyzer": "char_wb", "ngram_range": (2, 4)},
}


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("classes", [5, 2])
@pytest.mark.parametrize("analyzer", ["words", "characters"])
def test_probabilities_are_those_of_scikit_learn(analyzer, classes, tmp_path):
    labels = LABELS if classes == 5 else LABELS % 2
    theirs = TfidfVectorizer(min_df=2, max_features=50_000, sublinear_tf=True, **VECTORIZERS[analyzer])
    fitted = LogisticRegression(C=10.0, max_iter=200).fit(theirs.fit_transform(TEXTS), labels)
    expected = fitted.predict_proba(theirs.transform(OTHERS))

    ours = word_counts.fit(TEXTS, labels, analyzer, seconds=60.0)
    assert ours.vocabulary == theirs.get_feature_names_out().tolist()
    assert ours.training.method == "logistic regression" and ours.training.converged
    word_files.keep(ours, {}, tmp_path / "baseline")
    read, _ = word_files.load(tmp_path / "baseline")
    for model in (ours, read):
        # One solver in float32, one in float64: both stop near the same minimum.
        np.testing.assert_allclose(softmax(np.concatenate(list(model.scores(OTHERS)))), expected, atol=2e-3)
    same = LogisticRegression(C=10.0, max_iter=200)
    same.classes_, same.n_features_in_ = ours.classes, len(ours.vocabulary)
    same.coef_, same.intercept_ = ours.coefficients, ours.intercepts
    if classes == 2:
        same.coef_, same.intercept_ = same.coef_[1:], same.intercept_[1:]
    own = softmax(np.concatenate(list(read.scores(OTHERS))))
    np.testing.assert_allclose(own, same.predict_proba(theirs.transform(OTHERS)), atol=1e-5)
    assert read.predict(OTHERS).tolist() == same.predict(theirs.transform(OTHERS)).tolist()


@pytest.mark.parametrize("analyzer", ["words", "characters"])
def test_numbers_are_those_of_scikit_learns_ridge(analyzer, tmp_path):
    numbers = LABELS * 12.5 - 1e3
    theirs = TfidfVectorizer(min_df=2, max_features=50_000, sublinear_tf=True, **VECTORIZERS[analyzer])
    scaled = (numbers - numbers.mean()) / numbers.std()
    fitted = Ridge(alpha=word_counts.RIDGE).fit(theirs.fit_transform(TEXTS).toarray(), scaled)
    expected = fitted.predict(theirs.transform(OTHERS).toarray()) * numbers.std() + numbers.mean()

    ours = word_counts.fit_numbers(TEXTS, numbers, analyzer, seconds=60.0)
    assert ours.training.method == "ridge regression" and ours.training.converged
    word_files.keep(ours, {}, tmp_path / "baseline")
    read, _ = word_files.load(tmp_path / "baseline")
    for model in (ours, read, word_counts.fit_numbers(TEXTS, numbers, analyzer, seconds=60.0)):
        np.testing.assert_allclose(model.numbers(OTHERS), expected, atol=0.02 * numbers.std())
    assert read.numbers(OTHERS).tolist() == ours.numbers(OTHERS).tolist()
    hurried = word_counts.fit_numbers(TEXTS, numbers, analyzer, seconds=0.0)
    assert hurried.training.iterations <= 20 and np.isfinite(hurried.numbers(OTHERS)).all()
    assert ours.numbers([]).tolist() == []
    with pytest.raises(ValueError, match="no text has a word to count"):
        word_counts.fit_numbers(["", "?"], numbers[:2], "words", seconds=60.0)


def test_texts_are_counted_in_batches(monkeypatch):
    model = word_counts.fit(TEXTS, LABELS, "words", seconds=60.0)
    at_once = model.predict(OTHERS)
    monkeypatch.setattr(word_counts, "TEXTS_AT_ONCE", 7)
    assert model.predict(iter(OTHERS)).tolist() == at_once.tolist()
    assert model.predict([]).tolist() == []


def test_no_random_stream_moves():
    def states() -> list[str]:
        return [repr(random.getstate()), repr(np.random.get_state()), repr(torch.get_rng_state().tolist())]

    before = states()
    word_counts.fit(TEXTS, LABELS, "words", seconds=60.0)
    assert states() == before


def test_few_iterations_are_recorded(monkeypatch):
    monkeypatch.setattr(word_counts, "ITERATIONS", (1, 2, 2))
    training = word_counts.fit(TEXTS, LABELS, "words", seconds=60.0).training
    assert (training.iterations, training.converged) == (2, False)


def test_a_handful_of_texts_shares_no_word():
    model = word_counts.fit(["good food", "bad service"], np.array([0, 1]), "words", seconds=2.0)
    assert model.vocabulary == ["bad", "bad service", "food", "good", "good food", "service"]
    with pytest.raises(ValueError, match="two classes, found 1"):
        word_counts.fit(["good", "bad"], np.array([1, 1]), "words", seconds=2.0)


@pytest.mark.parametrize(
    "text, analyzer",
    [
        ("The food was good, and so was 東京.", "words"),
        ("음식이 아주 좋았습니다", "words"),
        ("料理はとても美味しかったです。", "characters"),
        ("อาหารอร่อยมาก", "characters"),
        ("ຫ້ອງພັກສະອາດຫຼາຍ", "characters"),
        ("បន្ទប់ស្អាតណាស់", "characters"),
        ("အခန်းသန့်ရှင်းပြီး", "characters"),
        ("这家餐厅的菜很好吃 OK", "characters"),
        ("123 !?", "words"),
    ],
)
def test_scripts_without_spaces_are_counted_in_characters(text, analyzer):
    assert word_counts.analyzer_of([text] * 3) == analyzer


@pytest.mark.parametrize("good, bad", [("很好", "不好"), ("良い", "悪い"), ("ดีมาก", "แย่มาก")])
def test_a_word_is_learned_from_the_middle_of_a_sentence(good, bad):
    """Each text is one run of characters that no other text has; only the word in it says the class."""
    letters = [chr(ord(good[0]) - ord(good[0]) % 16 + i) for i in range(16)]
    draw = random.Random(0)
    texts = [
        "".join(draw.choices(letters, k=12)) + (good, bad)[i % 2] + "".join(draw.choices(letters, k=12))
        for i in range(120)
    ]
    model = word_counts.fit(texts[:80], np.arange(80) % 2, word_counts.analyzer_of(texts), seconds=2.0)
    assert (model.predict(texts[80:]) == np.arange(40) % 2).mean() > 0.9


# ---- the plan --------------------------------------------------------------------------------------


def test_a_plan_for_less_time_has_fewer_features_then_no_solver():
    texts_with = np.sort(np.random.default_rng(0).zipf(1.5, 50_000).clip(2, 200))[::-1]
    plans = [word_counts.plan(texts_with, 25, seconds) for seconds in (60.0, 4.0, 2.0, 0.1, -1.0)]
    assert plans[0] == ("logistic regression", 50_000, plans[0][2]) and plans[0][2] >= 40
    sizes = [features for method, features, _ in plans if method == "logistic regression"]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) >= 3
    assert plans[-1] == ("nearest centroid", 50_000, 0)
    assert word_counts.plan(texts_with, 2, 2.0)[:2] == ("logistic regression", 50_000)  # one column


def test_many_classes_get_centroids():
    texts_with = np.full(50_000, 20)
    method, features, _ = word_counts.plan(texts_with, 150, 60.0)
    assert method == "logistic regression" and 150 * features <= word_counts.MOST_WEIGHTS
    assert word_counts.plan(texts_with, 5_000, 60.0) == ("nearest centroid", 50_000, 0)


def test_rows_are_as_many_as_can_be_counted():
    sizes = np.full(100_000, 700)
    assert word_counts.rows_to_count(sizes, "words", 60.0) == word_counts.MOST_ROWS
    few = word_counts.rows_to_count(sizes, "words", 2.0)
    assert 1_000 < few < 3_000
    assert word_counts.rows_to_count(sizes, "characters", 2.0) == pytest.approx(few / 2, abs=1)
    assert word_counts.rows_to_count(sizes, "words", 0.0) == word_counts.LEAST_ROWS
    assert word_counts.rows_to_count(sizes[:50], "words", 0.0) == 50
    endless = np.full(300, 50_000_000)  # only the first letters of such a text are counted
    assert word_counts.rows_to_count(endless, "words", 20.0) == 300


# ---- centroids and files -----------------------------------------------------------------------


@pytest.fixture
def centroids(monkeypatch) -> word_counts.WordCounts:
    monkeypatch.setattr(word_counts, "plan", lambda texts_with, *_: ("nearest centroid", len(texts_with), 0))
    return word_counts.fit(TEXTS, LABELS, "words", seconds=60.0)


def test_a_centroid_is_the_mean_of_its_rows(centroids, monkeypatch):
    theirs = TfidfVectorizer(min_df=2, sublinear_tf=True, ngram_range=(1, 2))
    rows = theirs.fit_transform(TEXTS).toarray()
    means = np.stack([rows[c == LABELS].mean(0) for c in np.unique(LABELS)])
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    np.testing.assert_allclose(centroids.coefficients.toarray(), means, atol=1e-6)
    nearest = (theirs.transform(OTHERS).toarray() @ means.T).argmax(-1)
    assert centroids.predict(OTHERS).tolist() == np.unique(LABELS)[nearest].tolist()
    monkeypatch.setattr(word_counts, "MOST_WEIGHTS", 5 * 3)
    few = word_counts.fit(TEXTS, LABELS, "words", seconds=60.0).coefficients.toarray()
    assert (np.count_nonzero(few, axis=-1) == 3).all()
    np.testing.assert_allclose(np.linalg.norm(few, axis=-1), 1, atol=1e-6)


def test_centroids_are_kept_sparse(centroids, tmp_path):
    word_files.keep(centroids, {"more": 1}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["words.json", "words.safetensors"]
    read, more = word_files.load(tmp_path)
    assert more == {"more": 1} and read.training == centroids.training
    assert read.predict(OTHERS).tolist() == centroids.predict(OTHERS).tolist()


def test_damaged_files_are_one_line(centroids, tmp_path):
    word_files.keep(centroids, {}, tmp_path)
    arrays = load_file(tmp_path / "words.safetensors")
    for name, value in (
        (
            "coefficients_columns",
            np.full_like(arrays["coefficients_columns"], 10**6),
        ),  # beyond the vocabulary
        ("coefficients_ends", arrays["coefficients_ends"] * 9),
        ("idf", arrays["idf"][:-1]),
        ("classes", -arrays["classes"]),
    ):
        save_file({**arrays, name: value}, tmp_path / "words.safetensors")
        with pytest.raises(UserError, match=f"{tmp_path} cannot be used .*; delete that folder"):
            word_files.load(tmp_path)
    (tmp_path / "words.safetensors").write_bytes(b"pickle")
    with pytest.raises(UserError, match="cannot be used"):
        word_files.load(tmp_path)
    (tmp_path / "words.json").write_text("{")
    with pytest.raises(UserError, match="cannot be used"):
        word_files.load(tmp_path)


def test_an_unknown_analyzer_is_refused(centroids, tmp_path):
    word_files.keep(centroids, {}, tmp_path)
    values = json.loads((tmp_path / "words.json").read_text())
    values["words"]["analyzer"] = "eval"
    (tmp_path / "words.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match="eval"):
        word_files.load(tmp_path)


def test_without_a_model_the_rest_is_kept(tmp_path):
    folder = tmp_path / "baseline"
    assert word_files.load(folder) is None
    word_files.keep(None, {"commonest": 3}, folder)
    assert word_files.load(folder) == (None, {"commonest": 3})
    assert [path.name for path in Path(folder).iterdir()] == ["words.json"]


def test_the_files_stay_small(tmp_path):
    """The most weights that a plan allows, and the longest features."""
    features, classes = 50_000, 50
    training = word_counts.Training("logistic regression", "words", 20_000, features, 40, True, 1.0)
    zeros = np.zeros((classes, features), np.float32)
    model = word_counts.WordCounts(
        training, ["w" * 20] * features, zeros[0], zeros, zeros[:, 0].copy(), np.arange(classes)
    )
    assert zeros.size == word_counts.MOST_WEIGHTS
    word_files.keep(replace(model), {}, tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 15e6


def test_texts_without_a_word_are_told_in_our_words():
    with pytest.raises(ValueError, match="^no text has a word to count$"):
        word_counts.fit(["\U0001f600", "!!"], np.array([0, 1]), "words", 3.0)
