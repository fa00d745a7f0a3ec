import pytest
from datasets import Dataset
from families import BERT, XLNET, family_tokenizer
from mlm_tiny import byte_tokenizer, word_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from lit_ft.data.tokens import EncodedRows, content_hash, cut, describe_cut, encode, template_of
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


@pytest.mark.parametrize(
    "special, template, before, after, types",
    [
        ("xlnet", "$A:0 <sep>:0 <cls>:2", [], ["<sep>", "<cls>"], ([], 0, [0, 2])),
        ("bert", "[CLS]:2 $A:0 [SEP]:0", ["[CLS]"], ["[SEP]"], ([2], 0, [0])),  # Funnel's
        ("bert", "$A", [], [], ([], 0, [])),
        ("bert", "[CLS] [UNK] $A:1 [SEP]:1", ["[CLS]", "[UNK]"], ["[SEP]"], ([0, 0], 1, [1])),
    ],
)
def test_the_template_is_the_tokenizers_own(special, template, before, after, types):
    """Also if "a" is an unknown token, and the template has one, too."""
    tokenizer = family_tokenizer({"bert": BERT, "xlnet": XLNET}[special], template)
    found = template_of(tokenizer)
    assert [tokenizer.convert_ids_to_tokens(ids) for ids in (found.before, found.after)] == [before, after]
    assert found.types == types and found.size == len(before) + len(after)
    ids = tokenizer("the film")["input_ids"]
    assert ids == [*found.before, *ids[len(before) : len(before) + 2], *found.after]
    encoded, _ = encode(table(["the film", "so"]), tokenizer, 12, "head", "test")
    assert encoded["input_ids"][:] == tokenizer(["the film", "so"])["input_ids"]


def without_unknown(words) -> PreTrainedTokenizerFast:
    """Unknown words are dropped."""
    backend = Tokenizer(
        models.BPE({"[CLS]": 0, "[SEP]": 1, "[PAD]": 2, **{w: i for i, w in enumerate(words, 3)}}, [])
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_the_template_where_a_has_no_token():
    tokenizer = without_unknown("xy")
    assert tokenizer("a")["input_ids"] == [0, 1]
    assert (template_of(tokenizer).before, template_of(tokenizer).after) == ([0], [1])
    encoded, _ = encode(table(["x y", "zzz", "xx"]), tokenizer, 12, "head", "test")
    assert encoded["input_ids"][:] == [[0, 3, 4, 1], [0, 1], [0, 3, 3, 1]]


@pytest.mark.parametrize("split", [False, True])
def test_special_tokens_in_texts_are_read_as_the_tokenizer_reads_them(split):
    """A tokenizer may be set to read them as plain text."""
    tokenizer = word_tokenizer()
    tokenizer.split_special_tokens = split
    texts = ["good [SEP] room [MASK]", "[CLS]", "[PAD] fine"]
    encoded, _ = encode(table(texts), tokenizer, 20, "head", "test")
    assert encoded["input_ids"][:] == tokenizer(texts, truncation=True, max_length=20)["input_ids"]
    assert (tokenizer.mask_token_id in encoded["input_ids"][0]) != split


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_cut_and_padding_in_the_tokenizers_file_do_not_count(side):
    tokenizer = word_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4, direction="left")
    tokenizer.backend_tokenizer.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    tokenizer.truncation_side = side
    encoded, _ = encode(table(), tokenizer, 12, {"right": "head", "left": "tail"}[side], "test")
    assert encoded["input_ids"][:] == tokenizer(TEXTS, truncation=True, max_length=12)["input_ids"]


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
    full = encoded["full_length"][:]
    num_cut, lost = sum(n > 12 for n in full), sum(max(0, n - 12) for n in full) / sum(full)
    expected = f"{num_cut} ({num_cut / 4:.1%}) cut at 12 tokens ({lost:.1%} of all)"
    assert num_cut > 0 and describe_cut(encoded, 12) == expected


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
