"""Several columns as one text, and pairs: joined, cut and encoded as people and tokenizers do it."""

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from families import XLNET, family_tokenizer
from mlm_tiny import byte_tokenizer, word_tokenizer
from tokenizers import processors

from lit_ft.data.batching import PaddingCollator
from lit_ft.data.duplicates import exact_keys, normalised_keys
from lit_ft.data.source import TextSource
from lit_ft.data.text_columns import join, longest_first, part_of_tokens, shown_texts
from lit_ft.data.token_facts import token_facts
from lit_ft.data.tokens import EncodedRows, content_hash, encode, template_of
from lit_ft.errors import UserError


def xlnet_tokenizer():
    """Padding on the left, special tokens at the end, the second text and the last token of other types."""
    tokenizer = family_tokenizer(XLNET, "$A:0 <sep>:0 <cls>:2", side="left")
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<sep>", "<cls>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2", pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2", special_tokens=ids
    )
    return tokenizer


TOKENIZERS = {"bert": word_tokenizer, "roberta": byte_tokenizer, "xlnet": xlnet_tokenizer}
WORDS = "the film was so very good and bad"
PAIRS = [
    (" ".join(WORDS.split()[: n % 8] * 3), " ".join(WORDS.split()[: m % 8] * (m // 4 + 1)))
    for n, m in np.random.default_rng(0).integers(0, 16, (40, 2)).tolist()
]


def of_pairs(pairs=PAIRS) -> Dataset:
    return Dataset.from_dict({"text": [a for a, _ in pairs], "pair": [b for _, b in pairs]})


@pytest.mark.parametrize("side, truncation", [("right", "head"), ("left", "tail")])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pairs_are_the_tokenizers_own(kind, side, truncation):
    """Ids, token types and padding, cut `longest_first`; every length of both texts is among them."""
    tokenizer = TOKENIZERS[kind]()
    tokenizer.truncation_side = side
    texts, seconds = zip(*PAIRS, strict=True)
    encoded, _ = encode(of_pairs(), tokenizer, 13, truncation, "test")
    their = {"truncation": "longest_first", "max_length": 13, "return_token_type_ids": True}
    expected = tokenizer(list(texts), list(seconds), **their)
    assert encoded["input_ids"][:] == expected["input_ids"]
    uncut = tokenizer(list(texts), list(seconds))["input_ids"]
    assert encoded["full_length"][:] == [len(ids) for ids in uncut]
    template = template_of(tokenizer, pairs=True)
    collate = PaddingCollator(
        tokenizer.pad_token_id, 1, 13, None, True, template.types, tokenizer.pad_token_type_id,
        tokenizer.padding_side, template.second_types,
    )  # fmt: skip
    rows = EncodedRows(encoded, np.arange(40), None)
    batch = collate([rows[i] for i in range(40)])
    padded = tokenizer.pad(expected, return_tensors="pt")
    for key in ("input_ids", "token_type_ids", "attention_mask"):
        assert batch[key].tolist() == padded[key].tolist(), key


def test_head_tail_keeps_both_ends_of_each_text():
    tokenizer = word_tokenizer()
    first = tokenizer("the movie was great", add_special_tokens=False)["input_ids"] * 3
    second = tokenizer("fine plot and film", add_special_tokens=False)["input_ids"] * 3
    texts = [("the movie was great " * 3, "fine plot and film " * 3)]
    [row] = encode(of_pairs(texts), tokenizer, 11, "head_tail", "test")[0]["input_ids"][:]
    around = template_of(tokenizer, pairs=True)
    assert row == around.around([first[0], *first[-3:]], [second[0], *second[-3:]])


@pytest.mark.parametrize(
    "lengths, room, kept",
    [
        ([3, 20], 10, [3, 7]),
        ([20, 3], 10, [7, 3]),
        ([8, 8], 9, [4, 5]),
        ([2, 30, 9], 20, [2, 9, 9]),
        ([2, 30, 12], 20, [2, 9, 9]),
        ([1, 1], 10, [1, 1]),
        ([5, 0], 3, [3, 0]),
    ],
)
def test_the_longest_is_cut_first(lengths, room, kept):
    assert longest_first(lengths, room) == kept


ROWS = {
    "subject": ["Refund", " ", None, "héllo", None],
    "body": ["I want it", "no subject", None, "", "\t"],
    "id": ["1", None, "3", "4", ""],
}


def columns() -> list[pa.ChunkedArray]:
    return [pa.chunked_array([pa.array(values, pa.string())]) for values in ROWS.values()]


def test_columns_are_joined_without_the_empty_ones():
    text, spans = join(columns(), "\n", None)
    assert text.to_pylist() == ["Refund\nI want it\n1", "no subject", "3", "héllo\n4", None]
    assert spans.to_pylist() == [[0, 6, 7, 16, 17, 18], [0, 10], [0, 1], [0, 5, 6, 7], []]
    text, spans = join(columns(), " | ", list(ROWS))
    assert text.to_pylist()[0] == "subject: Refund | body: I want it | id: 1"
    assert text.to_pylist()[3:] == ["subject: héllo | id: 4", None]
    rows = zip(*ROWS.values(), strict=True)
    for joined, places, values in zip(text.to_pylist(), spans.to_pylist(), rows, strict=True):
        found = [joined[start:end] for start, end in zip(places[::2], places[1::2], strict=True)]
        assert found == [value for value in values if value and value.strip()]


def test_a_token_is_of_the_column_of_its_last_letter():
    """Byte-level tokens begin with the space before the word; separators and names are of none."""
    spans = [6, 8, 15, 18]  # "title: ab | b: xyz"
    offsets = [(0, 5), (5, 7), (7, 8), (8, 9), (10, 14), (14, 16), (16, 18), (3, 3)]
    assert part_of_tokens(offsets, spans).tolist() == [-1, 0, 0, -1, -1, 1, 1, -1]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_short_subject_is_never_lost_to_a_long_body(kind):
    tokenizer = TOKENIZERS[kind]()
    source = TextSource(text_column=["body", "subject"], column_names=True)
    long, short = " ".join(["the movie was great and the plot was fine"] * 5), "bad film"
    texts = source.select(Dataset.from_dict({"body": [long, "fine"], "subject": [short, short]}), "x", False)
    rows, whole = (encode(texts, tokenizer, n, "head", "test")[0]["input_ids"][:] for n in (40, 512))
    assert (
        whole == tokenizer([f"body: {long}\nsubject: {short}", f"body: fine\nsubject: {short}"])["input_ids"]
    )
    assert rows[1] == whole[1] and len(rows[0]) == 40
    end = tokenizer(f"\nsubject: {short}", add_special_tokens=False)["input_ids"]
    assert rows[0][-1 - len(end) : -1] == end  # the last token is </s> or [SEP]
    assert rows[0][: 40 - len(end) - 1] == whole[0][: 40 - len(end) - 1]
    [tail, _] = encode(texts, tokenizer, 40, "tail", "test")[0]["input_ids"][:]
    name = tokenizer("body:", add_special_tokens=False)["input_ids"]
    assert tail[1 : 1 + len(name)] == name and len(tail) == 40  # a name is never cut


def test_no_room_for_a_token_of_each():
    source = TextSource(text_column=["a", "b"], column_names=True)
    texts = source.select(Dataset.from_dict({"a": ["fine " * 9], "b": ["film " * 9]}), "x", labelled=False)
    least = len(word_tokenizer()("a: fine b: film")["input_ids"])
    with pytest.raises(UserError, match=f"data.max_tokens of at least {least}, .* found {least - 1};"):
        encode(texts, word_tokenizer(), least - 1, "head", "test")
    assert len(encode(texts, word_tokenizer(), least, "head", "test")[0]["input_ids"][0]) == least


def test_the_cache_knows_what_a_text_is_made_of():
    table = Dataset.from_dict({"a": ["x", "y"], "b": ["u\nv", "w"], "c": ["v", "w"]})
    made = [
        TextSource(text_column="b"),
        TextSource(text_column=["b"], column_names=True),
        TextSource(text_column=["a", "b"]),
        TextSource(text_column=["a", "b"], text_separator=" "),
        TextSource(text_column=["a", "b", "c"]),
        TextSource(text_column="a", pair_column="b"),
        TextSource(text_column="b", pair_column="a"),
    ]
    found = [source.select(table, "x", labelled=False) for source in made]
    assert len({texts._fingerprint for texts in found}) == len({*map(content_hash, found)}) == len(made)
    assert found[3]["text"][:] == ["x u\nv", "y w"] and found[5]["pair"][:] == ["u\nv", "w"]
    same = TextSource(text_column=["a", "b"], text_separator="\\n").select(table, "x", labelled=False)
    assert same["text"][:] == found[2]["text"][:] == ["x\nu\nv", "y\nw"]
    # a cut knows the columns: the same letters of other columns are other texts
    letters = Dataset.from_dict({"a": ["x\nu"], "b": ["v"]}), Dataset.from_dict({"a": ["x"], "b": ["u\nv"]})
    one, two = (TextSource(text_column=["a", "b"]).select(table, "x", labelled=False) for table in letters)
    assert one["text"][:] == two["text"][:] and content_hash(one) != content_hash(two)


def test_both_texts_count_for_duplicates():
    table = Dataset.from_dict({"text": ["a b", "a", "A, b", "a b"], "pair": ["c", "b c", "c!", ""]})
    columns = table.data.column("text"), table.data.column("pair")
    assert len({*exact_keys(*columns).tolist()}) == 4
    keys = normalised_keys(columns[0], "test", columns[1])
    assert keys[0] == keys[2] and len({*keys.tolist()}) == 3


def test_special_tokens_between_pairs_are_not_the_texts_own():
    tokenizer = byte_tokenizer()
    texts = of_pairs([("the film", "was bad"), ("", "fine"), ("so </s> good", ""), ("", "")])
    encoded, _ = encode(texts, tokenizer, 32, "head", "test")
    facts = token_facts(encoded, texts, tokenizer, template_of(tokenizer, pairs=True))
    assert {token: places.tolist() for token, places in facts.special.items()} == {
        tokenizer.eos_token_id: [2]
    }
    assert facts.without_token.tolist() == [3]
    assert facts.tokens == sum(encoded["full_length"][:]) - 4 * 4


def test_a_person_sees_both_texts():
    assert shown_texts({"text": "abc" * 9, "pair": ""}, 20) == "abcabcabcabcabcab..."
    assert shown_texts({"text": "abc" * 9, "pair": "short"}, 20) == "abcabca... ‖ short"


TABLE = {"label": ["x", "y"], "subject": ["a", "b"], "body": ["c", "d"], "more": [["e"], ["f"]]}
MISTAKES = {
    "one of the list": (
        {"text_column": ["subjct", "body"]},
        "expected columns 'label', 'subjct' and 'body' in t.csv, found 'label', 'subject', 'body', 'more'; "
        "set --data.text_column='[subject,body]'",
    ),
    "not near any": (
        {"text_column": ["subject", "zzz"]},
        "set --data.text_column='[subject,NAME]'",
    ),
    "not written as a list": ({"text_column": "subject, body"}, "set --data.text_column='[subject,body]'"),
    "pair": (
        {"text_column": "subject", "pair_column": "bdy"},
        "expected columns 'label', 'subject' and 'bdy' in t.csv, found 'label', 'subject', 'body', 'more'; "
        "set --data.pair_column=body",
    ),
    "other case": (
        {"text_column": "Subject", "pair_column": "BODY"},
        "set --data.text_column=subject --data.pair_column=body",
    ),
    "pair of lists": (
        {"text_column": "subject", "pair_column": "more"},
        "expected a text in column 'more' of t.csv, found ['e'] in row 1; set --data.pair_column to a column "
        "of plain values",
    ),
    "list in the list": ({"text_column": ["subject", "more"]}, "expected a text in column 'more' of t.csv"),
    "twice": (
        {"text_column": ["body", "subject", "body"]},
        "expected different columns in data.text_column, found 'body' twice; set "
        "--data.text_column='[body,subject]'",
    ),
    "pair twice": (
        {"text_column": ["body", "subject"], "pair_column": "body"},
        "expected another column in data.pair_column than in data.text_column, found 'body' in both",
    ),
    "the answer": (
        {"text_column": ["body", "label"]},
        "expected texts in data.text_column, found 'label', which is data.label_column",
    ),
    "the answer as a pair": (
        {"text_column": "body", "pair_column": "label"},
        "expected texts in data.pair_column, found 'label', which is data.label_column",
    ),
    "none": ({"text_column": []}, r"expected data.text_column to name a column, found []"),
}


@pytest.mark.parametrize("settings, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_columns(settings, message):
    with pytest.raises(UserError) as caught:
        TextSource(label_column="label", **settings).select(Dataset.from_dict(TABLE), "t.csv")
    assert message in str(caught.value)


def test_the_columns_of_another_corpus_of_pairs_are_guessed():
    table = Dataset.from_dict({"id": ["1"], "hypothesis": ["It is a long one."], "premise": ["It is long."]})
    source = TextSource(text_column="sentence1", pair_column="sentence2")
    with pytest.raises(UserError, match="set --data.text_column=premise --data.pair_column=hypothesis$"):
        source.select(table, "t.csv", labelled=False)


def test_a_separator_between_nothing_is_said(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b\nx,y\n")
    paths = {"train": str(tmp_path / "t.csv")}
    TextSource(text_column="a", pair_column="b", text_separator=" / ", paths=paths).read_texts("train")
    told = "no effect on one text column, 'a', and not between a text and its pair\n"
    assert told in capsys.readouterr().err


def test_numbers_are_texts_also_in_pairs():
    table = Dataset.from_dict({"a": [1, 2], "b": [1.5, None]})
    texts = TextSource(text_column="a", pair_column="b").select(table, "x", labelled=False)
    assert (texts["text"][:], texts["pair"][:]) == (["1", "2"], ["1.5", ""])
