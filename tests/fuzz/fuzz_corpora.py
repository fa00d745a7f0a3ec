"""Fuzzing: files of texts as no one should write them, and as people do write them."""

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from fuzz_cases import TRAIN, Case
from fuzz_edits import accidents, damaged
from hypothesis import strategies as st

from lit_ft.data.formats import FORMATS

SUFFIXES = tuple(suffix[1:] for suffix in FORMATS)
# Where a file is read: the flags that name it, and the settings of that command. A checkpoint is there.
ROLES = (
    ("fit", "train_path"),
    ("fit", "validation_path"),
    ("sft", "train_path"),
    ("sft", "validation_path"),
    ("check", "train_path"),
    ("test", "test_path"),
    ("predict", "predict_path"),
)
OPTIONS = (
    (),
    ("--data.unescape=true", "--data.strip_html_breaks=true"),
    ("--data.on_empty=stop",),
    ("--data.text_column=label",),
    ("--data.max_tokens=3",),
)
FIT_OPTIONS = (
    *OPTIONS,
    ("--data.label_base=0",),
    ("--data.label_column=text",),
    ("--data.truncation=head_tail", "--data.max_tokens=4"),
    ("--data.padding=max_length", "--model.class_weights=balanced"),
    ('--data.label_names=["a", "b"]',),
    ("--data.validation_share=0.99",),
)
SFT_OPTIONS = (
    *OPTIONS,
    ("--data.layout=truncate", "--data.whole_words=true"),
    ("--data.mask_probability=0.99",),
)

emoji = st.text("😀👩‍👧🏽️🇩🇪\U0001f9ff", max_size=8)
right_to_left = st.text('שלום مرحبا\u200f\u202e,"', max_size=12)
spaces = st.text(" \t\n\r\x0b\x0c\u00a0\u2003\u3000\u2028\ufeff", max_size=8)
control = st.text("\0\x01\x07\x1a\x1b[31m\x7f\x85", max_size=8)
surrogates = st.text("a\ud83d\ude00\udfff", min_size=1, max_size=6)
markup = st.sampled_from(
    ["<br />", "\\n", '\\"', '"', "''", "[MASK]", "[CLS] [SEP]", "=1+1", "NA", "null", "nan"]
)
words = st.lists(st.sampled_from("the film was fine boring great".split()), max_size=12).map(" ".join)
long_words = st.integers(1, 3000).map(lambda n: "word" * n)
texts = st.one_of(
    words, words, st.text(max_size=20), emoji, right_to_left, spaces, control, surrogates, markup, long_words
)
labels = st.one_of(
    st.sampled_from(
        ["1", "2", "1.0", " 2", "0", "good", "bad", "", "-1", "1e3", "inf", "nan", "9" * 30, "9" * 400]
    ),
    st.integers(-3, 12).map(str),
    st.text(max_size=5),
)
good_labels = st.sampled_from(["1", "2"])
cells = st.one_of(texts, labels)


def encoded(text: str, encoding: str) -> bytes:
    """Bytes of a text that no codec has to like."""
    errors = "surrogatepass" if encoding.startswith("utf") else "replace"
    return text.encode(encoding, errors)


encodings = st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-32"])


@st.composite
def tables(draw: Any) -> tuple[str, bytes]:
    """A table as a program writes it: quoted where it has to be."""
    suffix = draw(st.sampled_from(["csv", "tsv"]))
    pairs = st.tuples(draw(st.sampled_from([labels, good_labels, good_labels])), texts)
    rows = draw(st.lists(pairs, max_size=12))
    header = draw(st.sampled_from([("label", "text")] * 6 + [("stars", "body"), ("text", "text"), ("", " ")]))
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter="\t" if suffix == "tsv" else ",",
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerows([header, *rows])
    return suffix, encoded(out.getvalue(), draw(encodings))


@st.composite
def ragged(draw: Any) -> tuple[str, bytes]:
    """Lines of any number of values, nothing quoted that has to be."""
    suffix, separator = draw(st.sampled_from([("csv", ","), ("csv", ";"), ("tsv", "\t"), ("txt", ",")]))
    lines = draw(st.lists(st.lists(cells, max_size=4), max_size=8))
    text = "\n".join(separator.join(line) for line in [["label", "text"], *lines])
    return suffix, encoded(text, draw(encodings))


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), texts, labels, st.just(10**400), st.just(1e308)
)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(cells, inner, max_size=3),
    max_leaves=8,
)
records = st.one_of(
    st.fixed_dictionaries({"label": good_labels, "text": texts}),
    st.fixed_dictionaries({"label": st.sampled_from([1, 2, 1.0, True, None]), "text": texts}),
    st.fixed_dictionaries({"label": nested, "text": nested}),
    st.dictionaries(st.sampled_from(["label", "text", "Text", ""]) | cells, nested, max_size=4),
    nested,
)


@st.composite
def json_files(draw: Any) -> tuple[str, bytes]:
    """Lines or one list of records, flat and nested."""
    items = draw(st.lists(records, max_size=8))
    plain = draw(st.booleans())
    dumped = [json.dumps(item, ensure_ascii=plain) for item in items]
    listed = draw(st.booleans())
    text = "[" + ",\n".join(dumped) + "]" if listed else "\n".join(dumped)
    return draw(st.sampled_from(["json", "jsonl"])), encoded(text, draw(encodings))


COLUMN_TYPES = {
    "strings": lambda: pa.array(["fine", "", None, "boring"] * 3),
    "numbers": lambda: pa.array([1, 2, 1, 2] * 3),
    "fractions": lambda: pa.array([1.0, 2.5, float("nan"), None] * 3),
    "bytes": lambda: pa.array([b"\xff\0", b"", None, b"x"] * 3),
    "lists": lambda: pa.array([["a"], [], None, ["b", None]] * 3),
    "structs": lambda: pa.array([{"a": 1}, {"a": None}, None, {"a": 2}] * 3),
    "times": lambda: pa.array([0, 1, None, 2**40] * 3, pa.timestamp("us")),
    "decimals": lambda: pa.array([1, 2, 1, 2] * 3, pa.decimal128(20, 0)),
    "categories": lambda: pa.array(["a", "b", "a", None] * 3).dictionary_encode(),
    "nulls": lambda: pa.nulls(12),
    "truths": lambda: pa.array([True, False, None, True] * 3),
    "large strings": lambda: pa.array(["a", "b", "c", "d"] * 3, pa.large_string()),
    "string views": lambda: pa.array(["a", "b", "c", "d"] * 3, pa.string_view()),
    "unsigned": lambda: pa.array([1, 2, 2**64 - 1, 2] * 3, pa.uint64()),
}


def parquet(columns: dict[str, str]) -> bytes:
    """A parquet file with columns of these types."""
    out = io.BytesIO()
    pa.parquet.write_table(pa.table({name: COLUMN_TYPES[kind]() for name, kind in columns.items()}), out)
    return out.getvalue()


kinds = st.sampled_from(sorted(COLUMN_TYPES))
parquets = st.one_of(
    st.fixed_dictionaries({"label": kinds, "text": kinds}),
    st.fixed_dictionaries({"label": st.just("numbers"), "text": kinds}),
    st.dictionaries(st.sampled_from(["label", "text", "", "x"]), kinds, max_size=3),
).map(lambda columns: ("parquet", parquet(columns)))


SOUND = {
    "csv": TRAIN.encode(),
    "tsv": TRAIN.replace(",", "\t").encode(),
    "jsonl": "\n".join(json.dumps({"label": i % 2, "text": "fine"}) for i in range(12)).encode(),
    "json": json.dumps([{"label": i % 2, "text": "fine"} for i in range(12)]).encode(),
    "parquet": parquet({"label": "numbers", "text": "large strings"}),
    "txt": b"the film was fine\n" * 12,
}
damaged_files = st.tuples(st.sampled_from(SUFFIXES), accidents).map(
    lambda t: (t[0], damaged(SOUND[t[0]], t[1]))
)
random_bytes = st.tuples(st.sampled_from(SUFFIXES), st.binary(max_size=300))

MB = 1 << 20


def _names(number: int) -> str:
    return ",".join(f"c{i}" for i in range(number))


HUGE = {  # made only when a case is: nothing of this size is drawn
    "a text of 10 MB, csv": lambda: (
        "csv",
        b"label,text\n1," + b"terrible " * (10 * MB // 9) + b"\n2,b\n1,c\n2,d\n",
    ),
    "a word of 10 MB, csv": lambda: ("csv", b"label,text\n1," + b"a" * (10 * MB) + b"\n2,b\n1,c\n2,d\n"),
    "a text of 10 MB, jsonl": lambda: (
        "jsonl",
        b"".join(
            b'{"label": %d, "text": "%s"}\n' % (i % 2, b"terrible " * (10 * MB // 9) if i == 3 else b"x")
            for i in range(8)
        ),
    ),
    "a text of 10 MB, txt": lambda: ("txt", b"terrible " * (10 * MB // 9) + b"\nfine\nfine\n"),
    "a text of 10 MB of emoji": lambda: ("txt", "😀".encode() * (5 * MB // 2) + b"\nfine\nfine\n"),
    "a text of 10 MB of spaces": lambda: ("txt", b" " * (10 * MB) + b"\nfine\nfine\n"),
    "10 MB of line breaks": lambda: ("txt", b"\n" * (10 * MB)),
    "10 MB of open quotes": lambda: ("csv", b'label,text\n1,"' + b"word\n" * (2 * MB)),
    "100,000 columns": lambda: ("csv", ("label,text," + _names(100_000) + "\n" + "1,b,\n" * 3).encode()),
    "5,000 sound columns": lambda: (
        "csv",
        (f"label,text,{_names(5_000)}\n" + ("1,a" + "," * 5_000 + "\n2,b" + "," * 5_000 + "\n") * 2).encode(),
    ),
    "5,000 keys": lambda: (
        "jsonl",
        (json.dumps({"label": 1, "text": "a", **dict.fromkeys(_names(5_000).split(","), 1)}) + "\n").encode()
        * 2
        + b'{"label": 2, "text": "b"}\n' * 3,
    ),
    "100,000 brackets": lambda: ("json", b"[" * 100_000),
    "100,000 nested lists": lambda: (
        "jsonl",
        b'{"label": 1, "text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    ),
    "nested objects": lambda: (
        "jsonl",
        b'{"label": 1, "text": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}\n",
    ),
    "a number of 5,000 digits": lambda: (
        "jsonl",
        b'{"label": ' + b"9" * 5000 + b', "text": "a"}\n{"label": 1, "text": "b"}\n',
    ),
    "a label of 5,000 digits": lambda: ("csv", b"label,text\n" + b"9" * 5000 + b",a\n1,b\n2,c\n"),
    # predict takes as long as it has rows, whatever is in them
    "20,000 rows": lambda: ("csv", b"label,text\n" + b"1,a\n2,b\n" * 10_000),
}
huge = st.sampled_from(sorted(HUGE)).map(lambda name: HUGE[name]())
# Large files are read in seconds: one case in thirty.
contents = st.one_of(
    *[tables()] * 8,
    *[ragged()] * 5,
    *[json_files()] * 7,
    *[parquets] * 3,
    *[damaged_files] * 4,
    *[random_bytes] * 2,
    huge,
)


@st.composite
def corpora(draw: Any, content: st.SearchStrategy[tuple[str, bytes]] = contents) -> Case:
    """A file of texts and the command that reads it."""
    suffix, data = draw(content)
    command, role = draw(st.sampled_from(ROLES))
    options = draw(st.sampled_from(SFT_OPTIONS if command == "sft" else FIT_OPTIONS))
    config = "sft.yaml" if command == "sft" else "fit.yaml"
    if command in ("test", "predict"):
        options = (*draw(st.sampled_from(OPTIONS)), "--ckpt_path=good.ckpt", "--data.predict_output=out.csv")
    args = (command, "--config", config, "--name=x", f"--data.{role}=corpus.{suffix}", *options)
    return Case("corpus", args, {f"corpus.{suffix}": data}, f"{role} of {command}")
