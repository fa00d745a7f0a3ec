import pytest
from datasets import Dataset
from mlm_tiny import byte_tokenizer, word_tokenizer

from lit_ft.encoding import EncodedRows, content_hash, cut, encode, measure_cut, template_of
from lit_ft.errors import UserError

TEXTS = [
    "the movie was great",
    "fine",
    "the plot was boring, and i hated it! " * 4,
    "caf\u00e9 \U0001f600 \u05e9\u05dc\u05d5\u05dd",
]


def table(texts=TEXTS) -> Dataset:
    return Dataset.from_dict({"text": texts})


@pytest.mark.parametrize(
    "truncation, kept", [("head", [0, 1, 2, 3]), ("tail", [6, 7, 8, 9]), ("head_tail", [0, 7, 8, 9])]
)
def test_cut_by_hand(truncation, kept):
    assert cut(list(range(10)), 4, truncation) == kept
    assert cut([1, 2], 4, truncation) == [1, 2]


def test_cut_of_one_token_keeps_one():
    assert all(len(cut(list(range(9)), 1, t)) == 1 for t in ("head", "tail", "head_tail"))


@pytest.mark.parametrize("tokenizer", [word_tokenizer(), byte_tokenizer()], ids=["bert", "roberta"])
def test_ids_are_the_tokenizers_own(tokenizer):
    encoded, _ = encode(table(), tokenizer, 12, "head", "test")
    expected = [tokenizer(text, truncation=True, max_length=12)["input_ids"] for text in TEXTS]
    assert encoded["input_ids"][:] == expected
    assert encoded["full_length"][:] == [len(tokenizer(text)["input_ids"]) for text in TEXTS]
    template = template_of(tokenizer)
    assert (template.before, template.after) == ([tokenizer.cls_token_id], [tokenizer.sep_token_id])
    assert template.types == ([0], 0, [0])


def test_second_time_comes_from_the_cache_and_content_counts():
    tokenizer = word_tokenizer()
    texts = ["cached texts", *TEXTS]
    first, cached = encode(table(texts), tokenizer, 12, "head", "test")
    assert not cached and first.cache_files
    again, cached = encode(table(texts), tokenizer, 12, "head", "test")
    assert cached and again["input_ids"][:] == first["input_ids"][:]
    assert not encode(table([*texts, "one more"]), tokenizer, 12, "head", "test")[1]
    assert not encode(table(texts), tokenizer, 11, "head", "test")[1]
    assert not encode(table(texts), tokenizer, 12, "tail", "test")[1]


def test_content_hash_knows_texts_and_their_borders():
    assert content_hash(table(["ab", "c"])) != content_hash(table(["a", "bc"]))
    assert content_hash(table(["x", *TEXTS]).select(range(1, 5))) == content_hash(table())


def test_cut_is_counted():
    encoded, _ = encode(table(), word_tokenizer(), 12, "head", "test")
    lost = measure_cut(encoded)
    full = encoded["full_length"][:]
    assert lost.num_rows == 4
    assert lost.num_cut_rows == sum(n > 12 for n in full) > 0
    assert lost.num_cut_tokens == sum(max(0, n - 12) for n in full)
    assert f"{lost.num_cut_rows} (" in lost.describe(12)


def test_no_room_beside_the_special_tokens():
    with pytest.raises(UserError, match="data.max_tokens of at least 3, found 2"):
        encode(table(), word_tokenizer(), 2, "head", "test")


def test_rows_over_many_chunks():
    texts = [f"the movie was {'great ' * (i % 9)}" for i in range(2500)]  # chunks of 1000 rows
    tokenizer = word_tokenizer()
    encoded, _ = encode(table(texts), tokenizer, 64, "head", "test")
    assert encoded.data.column("input_ids").num_chunks > 1
    import numpy as np

    rows = EncodedRows(encoded, np.arange(2500), np.arange(2500) % 5).take(np.array([2499, 0, 1000, 999]))
    for row, i in zip([rows[k] for k in range(4)], [2499, 0, 1000, 999], strict=True):
        assert row["input_ids"].tolist() == tokenizer(texts[i])["input_ids"]
        assert row["labels"] == i % 5
    assert rows.lengths.tolist() == [len(rows[k]["input_ids"]) for k in range(4)]
