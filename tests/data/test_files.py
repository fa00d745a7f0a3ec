"""Each format that can be read, and one clear line for each way in which a file can be broken."""

import json
import os
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from conftest import REPOSITORY
from corpus_files import FLAG, in_folder, read, refused, write  # noqa: F401

from lit_ft.data.corpus import read_files
from lit_ft.data.formats import FORMATS, Format, columns_of

# --- formats


def test_csv_keeps_every_value_as_written():
    text = '\ufefflabel,text,id\n3,NA,007\ngood,null,1.0\n,None,\n"4","a ""b"", c\nd",x\n'
    assert read("a.csv", text) == {
        "label": ["3", "good", "", "4"],
        "text": ["NA", "null", "None", 'a "b", c\nd'],
        "id": ["007", "1.0", "", "x"],
    }


def test_tsv_json_and_text():
    assert read("a.tsv", "label\ttext\n1\ta, b\n") == {"label": ["1"], "text": ["a, b"]}
    lines = '\ufeff{"text": "a", "label": 3}\n\n{"label": "good", "text": null, "meta": {"k": [1]}}\n'
    expected = {"text": ["a", None], "label": ["3", "good"], "meta": [None, '{"k": [1]}']}
    assert read("a.jsonl", lines) == expected
    assert read("lines.json", lines) == expected
    objects = '[{"text": "a", "label": 3},\n {"label": "good", "text": null, "meta": {"k": [1]}}\n]\n'
    assert read("list.json", objects) == expected
    assert read("a.txt", "one\r\n\n two\n") == {"text": ["one", "", " two"]}


def test_json_of_half_a_surrogate_and_of_numbers():
    assert read("a.jsonl", '{"text": "cut \\ud83d"}\n{"text": 3.5}\n{"text": true}\n{"text": NaN}\n') == {
        "text": ["cut ?", "3.5", "true", None]
    }


def test_json_column_that_comes_late_keeps_its_values(monkeypatch):
    monkeypatch.setattr("lit_ft.data.formats.BATCH_ROWS", 2)
    lines = [{"text": "a"}, {"text": "b"}, {"text": "c", "label": 1}, {"text": "d", "more": "x"}]
    assert read("a.jsonl", "\n".join(map(json.dumps, lines))) == {
        "text": ["a", "b", "c", "d"],
        "label": [None, None, "1", None],
        "more": [None, None, None, "x"],
    }


def test_parquet_of_categories_and_string_views():
    label = pa.array(["x", "y"]).dictionary_encode()
    pq.write_table(pa.table({"text": pa.array(["a", "b"], pa.string_view()), "label": label}), "a.parquet")
    assert read_files("a.parquet", flag=FLAG)[:] == {"text": ["a", "b"], "label": ["x", "y"]}


def test_globs_and_lists_are_read_in_order_and_columns_by_name():
    write("d/b.csv", "text,label\nb,1\n")
    write("d/a.csv", "label,text\n0,a\n")
    write("c.csv", "label,text\n2,c\n")
    table = read_files(["d/*.csv", "c.csv", "d/a.csv"], flag=FLAG)
    assert table[:] == {"label": ["0", "1", "2"], "text": ["a", "b", "c"]}
    assert read("odd [1].csv", "text\nx\n") == {"text": ["x"]}


def test_many_blocks_and_a_quoted_line_break_across_them(monkeypatch):
    monkeypatch.setattr("lit_ft.data.formats.BLOCK_BYTES", 1 << 12)
    texts = [f'line {i}\n"q", {"x" * (i % 300)}' for i in range(2000)]
    quoted = "".join('{},"{}"\n'.format(i % 5, t.replace('"', '""')) for i, t in enumerate(texts))
    table = read_files(write("a.csv", "label,text\n" + quoted), flag=FLAG)
    assert table["text"][:] == texts


# --- files that cannot be used


BROKEN = {
    "no file": ("train*.csv", None, ["no file matches 'train*.csv'"]),
    "empty": ("a.csv", "", ["a.csv is empty"]),
    "header only": ("a.csv", "label,text\n", ["a.csv has no rows"]),
    "blank json": ("a.jsonl", "\n\n", ["a.jsonl has no rows"]),
    "empty list": ("a.json", "[]", ["a.json has no rows"]),
    "suffix": ("a.xlsx", "x", ["a.xlsx", ".csv, .tsv, .jsonl, .json, .parquet, .txt"]),
    "csv not utf-8": ("a.csv", b"text\none\ncaf\xe9\n", ["a.csv is not UTF-8", "byte 0xe9 in line 3"]),
    "header not utf-8": ("a.csv", b"t\xe9xt\none\n", ["a.csv is not UTF-8", "byte 0xe9 in line 1"]),
    "text not utf-8": ("a.txt", b"one\n\xff\n", ["a.txt is not UTF-8", "byte 0xff in line 2"]),
    "json not utf-8": ("a.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', ["not UTF-8", "0xe9 in line 2"]),
    "utf-16": ("a.csv", b"\xff\xfet", ["a.csv cannot be used (UnicodeDecodeError: 'utf-16-le'", "UTF-8"]),
    "csv too short": ("a.csv", 'label,text\n1,"a\nb"\n\n2\n', ["line 5", "expected 2 values", "found 1"]),
    "csv too long": ("a.csv", "label,text\n1,a,b\n", ["a.csv, line 2", "expected 2 values", "found 3"]),
    "quote": ("a.csv", 'label,text\n1,a\n2,"b\n3,c\n', ["a.csv, line 3", "a quote opens and never closes"]),
    "columns twice": ("a.csv", "text,text\n1,2\n", ["two columns 'text'"]),
    "json line": ("a.jsonl", '{"text": "a"}\n{"text": \n', ["a.jsonl, line 2", "malformed JSON", "column 9"]),
    "json list": ("a.json", '[{"text": "a"},\n {"text" "b"}]', ["a.json, line 2", "malformed", "column 10"]),
    "json list, no comma": ("a.json", '[{"text": "a"}\n{"text": "b"}]', ["a.json, line 1", "Expecting ','"]),
    "json list and more": ("a.json", '[{"text": "a"}]\n{"text": "b"}', ["a.json, line 1", "Extra data"]),
    "json list cut": ("a.json", '[{"text": "a"},', ["a.json, line 1", "malformed JSON"]),
    "json string": ("a.jsonl", '{"text": "a"}\n"b"\n', ["row 2", 'expected an object', 'found "b"']),
    "parquet": ("a.parquet", b"PAR1 but not really PAR1", ["a.parquet cannot be used (ArrowInvalid"]),
}  # fmt: skip


@pytest.mark.parametrize("name, content, expected", BROKEN.values(), ids=BROKEN)
def test_broken_file(name, content, expected):
    if content is not None:
        write(name, content)
    refused(lambda: read_files(name, flag=FLAG), *expected, FLAG)


def test_parquet_with_a_damaged_page():
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(5000)]}), "a.parquet", use_dictionary=False)
    content = bytearray(Path("a.parquet").read_bytes())
    content[20:2000] = b"\xff" * 1980
    refused(lambda: read("a.parquet", bytes(content)), "a.parquet cannot be used (", FLAG)


def test_parquet_files_whose_types_differ():
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), "a.parquet")
    pq.write_table(pa.table({"text": ["b"], "label": ["x"]}), "b.parquet")
    refused(
        lambda: read_files("*.parquet", flag=FLAG),
        "'a.parquet', 'b.parquet' cannot be used (",
        "the same types in all files",
        FLAG,
    )


def test_folder_mixed_formats_and_near_names():
    write("d/reviews.csv", "text\na\n")
    write("d/b.jsonl", '{"text": "b"}')
    refused(lambda: read_files("d", flag=FLAG), "the folder d", FLAG)
    refused(lambda: read_files("d/*", flag=FLAG), "'.csv', '.jsonl'", FLAG)
    refused(lambda: read_files("d/review.csv", flag=FLAG), "no file matches 'd/review.csv'", "'reviews.csv'")
    refused(lambda: read_files("e/reviews.csv", flag=FLAG), "there is no folder e")


def test_files_of_other_columns():
    write("a.csv", "label,text\n1,a\n")
    write("b.csv", "stars,text\n1,a\n")
    refused(lambda: read_files(["a.csv", "b.csv"], flag=FLAG), "a.csv", "'label'", "b.csv", "'stars'", FLAG)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file():
    os.chmod(write("a.csv", "text\na\n"), 0)
    refused(lambda: read_files("a.csv", flag=FLAG), "a.csv cannot be read: Permission denied", FLAG)


def test_unreadable_file_as_any_user(monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied", "a.csv")

    write("a.csv", "text\na\n")
    monkeypatch.setattr("os.path.getsize", denied)
    refused(lambda: read_files("a.csv", flag=FLAG), "a.csv cannot be read: Permission denied", FLAG)


def test_cache_that_cannot_be_written(monkeypatch):
    write("file", "not a folder")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "file/cache")
    refused(lambda: read("a.csv", "text\na\n"), "file/cache", "Not a directory", "HF_HOME")


def test_full_disk(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write_table", full)
    refused(lambda: read("a.csv", "text\na\nb\n"), "No space left on device", "HF_HOME")


def test_json_that_python_does_not_read():
    deep = "[" * 100_000
    for name, text in (("a.jsonl", '{"text": "a"}\n' + deep), ("a.json", '[{"text": "a"},\n' + deep)):
        refused(lambda name=name, text=text: read(name, text), f"{name}, line 2", "deeper than", FLAG)
    digits = '{"label": ' + "9" * 5000 + "}"
    for name, text in (("b.jsonl", "\n" + digits), ("b.json", "[\n" + digits + "]")):
        refused(
            lambda name=name, text=text: read(name, text), f"{name}, line 2", "more than 4300 digits", FLAG
        )


def test_a_column_whose_name_cannot_be_stored():
    refused(lambda: read("a.csv", b"a\0b,text\n1,2\n"), "'a.csv' cannot be used (CastError", FLAG)
    refused(
        lambda: read("a.jsonl", '{"a\\ude00": "x"}\n'), "a.jsonl cannot be used (UnicodeEncodeError", FLAG
    )
    assert read("b.csv", "text\na\0b\n") == {"text": ["a\0b"]}
    assert read("b.jsonl", '{"a\\ud83d\\ude00": "x"}\n') == {"a\U0001f600": ["x"]}


# --- the table of formats


def test_a_format_is_one_row(monkeypatch):
    def tables(path, flag, note):
        note("recognised", "an Arrow file")
        yield feather.read_table(path)

    feather.write_feather(pa.table({"text": ["a"], "label": [1]}), "a.feather")
    write("b.csv", Path("a.feather").read_bytes())
    refused(lambda: read_files("a.feather", flag=FLAG), "found a.feather; write it as parquet", FLAG)
    refused(lambda: read_files("b.csv", flag=FLAG), "b.csv is an Arrow (feather) file; write it as", FLAG)
    row = Format(tables, "binary", lambda path: feather.read_table(path).column_names, b"ARROW1")
    monkeypatch.setitem(FORMATS, ".feather", row)
    assert read_files("a.feather", flag=FLAG)[:] == {"text": ["a"], "label": [1]}
    assert columns_of("a.feather") == ["text", "label"]
    refused(lambda: read_files("b.csv", flag=FLAG), "b.csv is feather; rename it to .feather", FLAG)
    refused(lambda: read_files("c.txt", flag=FLAG), "no file matches 'c.txt'")
    refused(lambda: read_files(write("d.doc", "x"), flag=FLAG), ".txt, .feather, found d.doc", FLAG)


def test_help_and_documents_name_the_formats():
    def named(path, line):
        found = [
            text for text in (REPOSITORY / path).read_text(encoding="utf-8").splitlines() if line in text
        ]
        return set(re.findall(r"\.[a-z]{3,}\b", found[0]))

    with_labels = {suffix for suffix, kind in FORMATS.items() if kind.content != "text"}
    assert named("lit_ft/classifier/data.py", "train_path: File or glob to train on") == with_labels
    assert named("lit_ft/masked_lm/settings.py", "train_path: File or glob to train on") == set(FORMATS)
    assert named("docs/classifier.md", "Formats are") == set(FORMATS)
