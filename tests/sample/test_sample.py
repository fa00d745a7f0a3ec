import hashlib
import json
import os
import runpy
import statistics
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from fresh import Fresh
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from lit_ft.errors import UserError
from lit_ft.sample import encoder as tiny_bert
from lit_ft.sample import phrases
from lit_ft.sample import reviews as embedded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reviews():
    return {split: embedded.make_reviews(split) for split in ("train", "test")}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_FT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny_bert.sample_encoder()


def test_texts_and_labels_are_the_pinned_ones(reviews):
    digest = hashlib.sha256(json.dumps([reviews["train"], reviews["test"]]).encode()).hexdigest()
    # Another digest: raise SAMPLE_VERSION, so that no cache of the old texts is used, then pin the new one.
    assert (embedded.SAMPLE_VERSION, digest[:16]) == (1, "1bd9390ff8567247")


def test_another_seed_gives_other_reviews(reviews):
    texts, _ = embedded.make_reviews("test", seed=1)
    assert len(texts) == embedded.TEST_SIZE
    assert not set(texts) & set(reviews["train"][0])
    assert len(set(texts) & set(reviews["test"][0])) < 10


def test_sizes_and_disjoint_splits(reviews):
    train, test = reviews["train"][0], reviews["test"][0]
    assert (len(train), len(test)) == (embedded.TRAIN_SIZE, embedded.TEST_SIZE)
    assert embedded.TRAIN_SIZE >= 2000 and embedded.TEST_SIZE >= 500
    assert len(set(train) | set(test)) == len(train) + len(test)


@pytest.mark.parametrize("split", ["train", "test"])
def test_lengths_and_class_shares(reviews, split):
    texts, labels = reviews[split]
    lengths = [len(text.split()) for text in texts]
    assert 50 <= statistics.mean(lengths) <= 70
    assert max(lengths) > 300 and min(lengths) >= 8
    assert sum(length > 300 for length in lengths) >= len(texts) * 0.005
    shares = {label: count / len(labels) for label, count in Counter(labels).items()}
    assert sorted(shares) == list(range(embedded.CLASSES))
    assert 0.12 <= min(shares.values()) and max(shares.values()) <= 0.3


def test_texts_are_finished_sentences(reviews):
    for text in reviews["train"][0] + reviews["test"][0]:
        assert not set("{}") & set(text) and "  " not in text
        assert text[0].isupper() and text[-1] in ".!"


def test_denials_mixed_opinions_and_noise(reviews):
    texts, labels = reviews["train"]
    for pattern in (" not ", " far from ", " rather than ", ", but ", "lthough ", " even though "):
        assert sum(pattern in text for text in texts) > 0.02 * len(texts), pattern
    simply = [label for text, label in zip(texts, labels, strict=True) if text[:17] == "Simply excellent."]
    assert set(simply) <= {3, 4} and simply.count(4) > simply.count(3)
    # A verdict's word says little by itself: "excellent" is in reviews of every star level.
    assert {label for text, label in zip(texts, labels, strict=True) if "excellent" in text} == set(range(5))


def test_denying_both_ends_is_three_stars(reviews):
    neither = [label for text, label in zip(*reviews["train"], strict=True) if text.startswith("Neither ")]
    assert len(neither) > 50 and neither.count(2) / len(neither) > 0.85
    ends = ("average", "ordinary", "middling", "unremarkable", "passable")
    titles = [text.split(".")[0] for text in reviews["train"][0] if text.startswith("Neither ")]
    assert not [title for title in titles if any(word in title for word in ends)]


@pytest.mark.slow
def test_baselines_stay_low_and_a_model_is_printed_beside_them(encoder, tmp_path, monkeypatch, capsys):
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=5)
    folder = tmp_path / "runs" / "sample" / "version_10" / "model"
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    (tmp_path / "runs" / "sample" / "version_9" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sample_baselines.py"])
    assert runpy.run_path(str(ROOT / "scripts/sample_baselines.py"))["main"]() == 0
    head, majority, words, pairs, trained = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["test", "accuracy"]
    assert majority.startswith("majority class") and words.startswith("word counts")
    assert pairs.startswith("words and pairs")
    shares = [float(line.split()[-1]) for line in (majority, words, pairs)]
    # Pairs hold "not good": so much can be known of these reviews without an encoder.
    assert shares[0] <= 0.35 and 0.35 <= shares[1] <= 0.70 and 0.75 <= shares[2] <= 0.90
    name, accuracy = trained.split()
    assert name == os.path.join("runs", "sample", "version_10", "model") and 0 < float(accuracy) < 0.5


def test_dataset_columns():
    dataset = embedded.sample_dataset("test")
    types = {name: value.dtype for name, value in dataset.features.items() if name != "aspects"}
    assert types == {"text": "string", "label": "int64", "score": "float64"}
    texts, labels = embedded.make_reviews("test")
    assert dataset[:]["text"] == texts and dataset[:]["label"] == labels


def test_the_score_is_of_stars_and_praise(reviews):
    written = embedded.write_reviews("test")
    first = written[0]
    praise = [said.positive for said in first.opinions]
    assert first.score == round((25 * first.label + 100 * sum(praise) / len(praise)) / 2, 1)
    assert [review.text for review in written] == reviews["test"][0]
    scores = [review.score for review in written]
    assert (min(scores), max(scores)) == (0, 100) and len(set(scores)) > 50
    means = [statistics.mean(r.score for r in written if r.label == star) for star in range(5)]
    assert means == sorted(means) and means[0] < 20 and means[4] > 80  # the opinions follow the verdict
    assert embedded.Review("", 1, ()).score == 25.0


def test_aspects_are_what_the_opinions_are_about():
    dataset = embedded.sample_dataset("test")
    of = dict(zip(dataset["text"], dataset["aspects"], strict=True))
    assert "time" in of[next(text for text in of if "The wait was unbearable, but" in text)]
    told = Counter(theme for themes in of.values() for theme in themes)
    assert set(told) == set(phrases.SCALES) and min(told.values()) > 0.1 * len(of)
    digest = hashlib.sha256(json.dumps(dataset["aspects"][:]).encode()).hexdigest()
    assert digest[:16] == "8aaa79a519024e89"


def test_encoder_loads_by_the_auto_classes(encoder):
    assert {path.name for path in encoder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    classifier, loaded = AutoModelForSequenceClassification.from_pretrained(
        encoder, num_labels=5, output_loading_info=True
    )
    assert set(loaded["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert classifier.dtype == torch.float32
    _, loaded = AutoModelForMaskedLM.from_pretrained(encoder, output_loading_info=True)
    assert not loaded["missing_keys"]


def test_tokenizer_knows_the_words(encoder, reviews):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    assert 300 <= len(tokenizer) <= 2000 and tokenizer.model_max_length == 512
    assert tokenizer.convert_ids_to_tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    ids = [i for row in tokenizer(reviews["test"][0])["input_ids"] for i in row]
    assert ids.count(tokenizer.unk_token_id) < 0.01 * len(ids)
    assert tokenizer.tokenize("The Soup was not good") == ["the", "soup", "was", "not", "good"]
    assert "[UNK]" not in tokenizer.tokenize("Zyx 42 jumbo-jets, co. @ 7th?")


def test_tokenizer_output_and_mask(encoder):
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    row = tokenizer("the soup was [MASK]")
    assert list(row) == ["input_ids", "token_type_ids", "attention_mask"]
    assert row["input_ids"][0] == tokenizer.cls_token_id and row["input_ids"][-1] == tokenizer.sep_token_id
    assert row["input_ids"].count(tokenizer.mask_token_id) == 1


@pytest.mark.slow
def build_and_print() -> None:
    print(tiny_bert.sample_encoder())


@pytest.mark.slow
def test_every_process_builds_the_same_bytes(encoder, tmp_path):
    pair = [Fresh(build_and_print, env={"LIT_FT_CACHE": str(tmp_path)}) for _ in range(2)]
    printed = {process.end().out.split()[-1] for process in pair}
    assert printed == {str(tmp_path / encoder.name)} and os.listdir(tmp_path) == [encoder.name]
    for path in encoder.iterdir():
        assert (tmp_path / encoder.name / path.name).read_bytes() == path.read_bytes(), path.name


def test_build_leaves_the_random_state_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path))
    before = torch.random.get_rng_state()
    tiny_bert.sample_encoder()
    assert torch.equal(before, torch.random.get_rng_state())


def test_second_call_builds_nothing(encoder, monkeypatch):
    monkeypatch.setenv("LIT_FT_CACHE", str(encoder.parent))
    monkeypatch.setattr(tiny_bert, "_build_encoder", lambda folder: pytest.fail("built again"))
    assert tiny_bert.sample_encoder() == encoder


def test_failed_build_leaves_nothing(tmp_path, monkeypatch):
    def killed(folder):
        (folder / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path))
    monkeypatch.setattr(tiny_bert, "_build_encoder", killed)
    with pytest.raises(KeyboardInterrupt):
        tiny_bert.sample_encoder()
    assert not list(tmp_path.iterdir())


def test_leftovers_of_a_killed_build_are_removed(tmp_path, monkeypatch, encoder):
    stale, fresh = (tmp_path / f"{encoder.name}.{age}.tmp" for age in ("stale", "fresh"))
    for folder in (stale, fresh):
        folder.mkdir()
    os.utime(stale, (1, 1))
    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path))
    monkeypatch.setattr(tiny_bert, "_build_encoder", lambda folder: None)
    built = tiny_bert.sample_encoder()
    assert {path.name for path in tmp_path.iterdir()} == {built.name, fresh.name}


def test_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIT_FT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="LIT_FT_CACHE=FOLDER") as caught:
        tiny_bert.sample_encoder()
    assert str(tmp_path / "file") in str(caught.value) and "\n" not in str(caught.value)
