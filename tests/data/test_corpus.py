"""The cache, the checks of columns and texts, and folders of data files."""

import csv
import errno
import gzip
import os
import re
from functools import partial
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED
from corpus_files import FLAG, in_folder, read, refused, write  # noqa: F401

from lit_ft.console import quiet
from lit_ft.data.corpus import class_names, read_files, read_hub
from lit_ft.data.source import TextSource


def select(table, where="r.csv", label_column="label", measured=False, **settings):
    """The selected texts, and how many were dropped."""
    texts = TextSource(label_column=label_column, **settings).select(table, where, measured=measured)
    return texts, len(table) - len(texts)


# --- cache


def test_cached_by_content_not_by_date_or_name():
    first = read_files(write("a.csv", "text\none\n"), flag=FLAG)
    stat = os.stat("a.csv")
    write("a.csv", "text\ntwo\n")
    os.utime("a.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert os.stat("a.csv").st_size == stat.st_size and os.stat("a.csv").st_mtime_ns == stat.st_mtime_ns
    second = read_files("a.csv", flag=FLAG)
    assert (first["text"][0], second["text"][0]) == ("one", "two")
    assert first._fingerprint != second._fingerprint
    copy = read_files(write("copy.csv", "text\ntwo\n"), flag=FLAG)
    assert copy.cache_files == second.cache_files and copy._fingerprint == second._fingerprint


def test_second_selection_comes_from_the_cache(monkeypatch):
    table = read_files(write("a.csv", "label,text\n1,a\n2, \n"), flag=FLAG)
    first, dropped = select(table)
    monkeypatch.setattr(
        "lit_ft.data.source.pc.utf8_trim_whitespace", lambda text: pytest.fail("not from the cache")
    )
    second, dropped_again = select(table)
    assert second[:] == first[:] and dropped == dropped_again == 1
    assert second.cache_files == first.cache_files and second.cache_files


def test_nothing_on_the_console_and_nothing_half_written(tmp_path, capfd):
    read("a.csv", "text\none\n")
    select(read_files("a.csv", flag=FLAG), label_column=None)
    refused(lambda: read("bad.csv", "a,b\n1,2\n3\n"), "bad.csv")
    assert capfd.readouterr() == ("", "")
    left = [path for path in (tmp_path / "cache").rglob("*") if "incomplete" in path.name and path.is_dir()]
    assert left == []
    assert not datasets.utils.are_progress_bars_disabled()


def test_a_failing_disk_is_not_a_bad_file(monkeypatch):
    parquet, table = "a.parquet", pa.table({"text": ["one"]})
    pq.write_table(table, parquet)
    write("a.csv", "text\nof a failing disk\n")
    failing = OSError(errno.EIO, "Input/output error")
    with monkeypatch.context() as patch:
        patch.setattr(pa.parquet.ParquetFile, "iter_batches", raising(failing))
        refused(
            lambda: read_files(parquet, flag=FLAG), "'a.parquet' cannot be read: Input/output error; copy"
        )
    with monkeypatch.context() as patch:
        patch.setattr("lit_ft.data.corpus.hashlib.file_digest", raising(failing))
        refused(lambda: read_files("a.csv", flag=FLAG), "'a.csv' cannot be read: Input/output error; copy")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("lit_ft.data.corpus.Files.download_and_prepare", raising(full))
    refused(
        lambda: read_files("a.csv", flag=FLAG),
        "cannot write the cache of datasets",
        "No space left",
        "HF_HOME=",
    )


def raising(error):
    """A function that raises `error`, whatever it is called with."""

    def call(*_, **__):
        raise error

    return call


# --- columns and texts


def test_rows_are_counted_before_empty_texts_are_dropped():
    table = read_files(write("a.csv", 'label,text\n1,a\n2,""\n3," \t"\n4,d\n'), flag=FLAG)
    selected, dropped = select(table)
    assert selected[:] == {"text": ["a", "d"], "row": [1, 4], "label": ["1", "4"]}
    assert dropped == 2
    refused(lambda: select(table, on_empty="stop"), "'text' of r.csv", "in row 2;", "--data.on_empty=drop")


def test_rows_go_on_across_batches(monkeypatch):
    monkeypatch.setattr("lit_ft.data.source.BATCH_ROWS", 3)
    table = datasets.Dataset.from_dict({"text": ["", *"bcdefg", None], "label": list(range(8))})
    selected, dropped = select(table)
    assert dropped == 2
    assert selected["row"][:] == [2, 3, 4, 5, 6, 7] and selected["label"][:] == [1, 2, 3, 4, 5, 6]
    refused(lambda: select(table.select([1, 2, 3, 4, 7]), on_empty="stop"), "in row 5;")


def test_cleaning_is_off_unless_asked_for():
    text = r"a\nb \"c\" <br /><BR>d"
    table = datasets.Dataset.from_dict({"text": [text]})
    assert select(table, label_column=None)[0]["text"][0] == text
    assert select(table, label_column=None, unescape=True)[0]["text"][0] == 'a\nb "c" <br /><BR>d'
    cleaned, _ = select(table, label_column=None, strip_html_breaks=True)
    assert cleaned["text"][0] == r"a\nb \"c\" " + "\n\nd" and cleaned.column_names == ["text", "row"]
    only_breaks = datasets.Dataset.from_dict({"text": ["<br />", "a"]})
    assert select(only_breaks, label_column=None, strip_html_breaks=True)[1] == 1


@pytest.mark.parametrize(
    "values, expected",
    [
        ([3, 4], [3, 4]),
        ([3.5, None], [3.5, None]),
        (["a", None], ["a", None]),
        ([True, False], ["true", "false"]),
    ],
)
def test_labels_keep_their_type(values, expected):
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": values})
    assert select(table)[0]["label"][:] == expected


def test_numbers_become_texts():
    table = datasets.Dataset.from_dict({"text": [12, 3], "label": [0, 1]})
    assert select(table)[0]["text"][:] == ["12", "3"]


def test_missing_columns_name_those_that_exist_and_the_flags():
    table = read_files(write("reviews.csv", "stars,body\n5,good food\n"), flag=FLAG)
    message = (
        "expected columns 'label' and 'text' in reviews.csv, found 'stars', 'body'; "
        "set --data.label_column=stars --data.text_column=body"
    )
    refused(lambda: select(table, where="reviews.csv"), message)
    table = table.rename_columns({"stars": "kind", "body": "what"})
    refused(lambda: select(table), "set --data.label_column=kind --data.text_column=what")
    table = table.rename_columns({"kind": "label"})
    refused(lambda: select(table), "found 'label', 'what'; set --data.text_column=what")
    refused(lambda: select(table, label_column=None), "expected column 'text' in r.csv, found")
    refused(lambda: select(table.remove_columns("label"), text_column="what"), "set --data.label_column=NAME")
    contest = datasets.Dataset.from_dict({"id": [1, 2], "text": ["good", "bad"]})
    told = "in r.csv, found 'id', 'text'; texts without labels can be predicted (--data.predict_path), not"
    refused(lambda: select(contest, measured=True), told)
    refused(
        lambda: select(contest.rename_column("id", "stars"), measured=True), "set --data.label_column=stars"
    )


def test_advice_can_be_typed():
    table = datasets.Dataset.from_dict({"my text": ["a long text"], "it's": ["1"]})
    refused(lambda: select(table), """set --data.label_column='it'"'"'s' --data.text_column='my text'""")


def test_a_first_line_that_may_be_a_row():
    advice = "if that is data and not a header, add a header such as label,text above it, else set --data"
    for first in ("5,great", "pos,a text of more than four words", "k,y z"):
        table = read_files(write("a.csv", f"{first}\n4,awful and long to read\nk,so\n3,dull\n"), flag=FLAG)
        refused(lambda table=table: select(table), advice)
    table = read_files(write("b.csv", "kind,what\n1,a text of more than four words\n"), flag=FLAG)
    refused(lambda: select(table), "'kind', 'what'; set --data.label_column=kind")


def test_a_file_without_a_header_is_named_in_the_advice():
    rows = "1,so good\n2,so bad\n1,nice\n2,dull\n"
    table = read_files(write("a.csv", rows), flag=FLAG)
    refused(
        lambda: select(table), "there is no header", "--data.label_column=column1 --data.text_column=column2"
    )
    selected, _ = select(table, text_column="column2", label_column="column1")
    assert len(selected) == 4


def test_what_vanishes_is_said_to_check_too_and_a_header_where_no_label_shows_it(capfd):
    write("a.csv", "text,label\na,1\n\ntext,label\nb,2\n")
    with quiet():
        read_files("a.csv", flag=FLAG)
    assert (
        "header is repeated in row 2" in (err := capfd.readouterr().err) and "1 blank line was skipped" in err
    )
    read_files("a.csv", flag=FLAG, labelled=True)
    assert "header" not in (err := capfd.readouterr().err) and "1 blank line was skipped" in err


def test_full_disk_while_texts_are_selected(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    table = read_files(write("a.csv", "label,text\n1,a\n2,b\n"), flag=FLAG)
    monkeypatch.setattr(datasets.arrow_writer.ArrowWriter, "write_table", full)
    refused(lambda: select(table), "No space left on device", "HF_HOME")


def test_nested_values_are_refused_with_their_row():
    lines = '{"text": "a", "label": 1}\n{"text": {"en": "b"}, "label": [2]}\n'
    for table in [read_files(write("a.jsonl", lines), flag=FLAG) for _ in ("read", "cached")]:
        refused(partial(select, table, label_column=None), "'text' of r.csv", '{"en": "b"} in row 2')
        refused(partial(select, table, text_column="label", label_column="label"), "[2] in row 2")
    nested = datasets.Dataset.from_dict({"text": [None, ["b"]], "label": [1, 2]})
    refused(
        lambda: select(nested), "expected a text in column 'text'", "['b'] in row 2", "--data.text_column"
    )


def test_all_texts_empty():
    table = datasets.Dataset.from_dict({"text": [" ", None], "label": [0, 1]})
    refused(lambda: select(table), "'text' of r.csv", "all 2 rows empty", "--data.text_column")


def test_parquet_keeps_types_and_class_names():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(
        "a.parquet"
    )
    table = read_files("a.parquet", flag=FLAG)
    assert table["label"][:] == [1, 0]
    selected, _ = select(table)
    assert class_names(selected) == ["neg", "pos"] and selected["label"][:] == [1, 0]


# --- folders and shared data


def test_read_hub_from_a_folder():
    write("d/train.csv", "label,text\n1,a\n")
    write("d/test.csv", "label,text\n2,b\n")
    assert read_hub("d", subset=None, split="test")["text"][:] == ["b"]
    assert read_hub(str(Path("d").resolve()), subset=None, split="train[:1]")["text"][:] == ["a"]
    refused(lambda: read_hub("d", subset=None, split="dev"), "no split 'dev'", "'train', 'test'")
    os.makedirs("e")
    refused(
        lambda: read_hub("e", subset=None, split="train"), "dataset 'e'", "doesn't contain any data files"
    )


def test_a_folder_is_read_as_its_files_are(capfd):
    text = "text,label\nNA,None\nnull,007\nn/a,None\n"
    rows = {"text": ["NA", "null", "n/a"], "label": ["None", "007", "None"]}
    write("d/data/train-00000-of-00002.csv", text)
    write("d/data/train-00001-of-00002.csv", text)
    write("d/dev.tsv", text.replace(",", ";"))
    write("d/test/a.csv", text)
    assert read_hub("d", subset=None, split="train")[:] == {name: 2 * column for name, column in rows.items()}
    write("e/train.csv", text)
    write("e/dev.csv", text.replace(",", ";"))
    write("e/extra.csv", text)
    write("e/more.jsonl", "{}")
    assert read_hub("e", subset=None, split="validation")[:] == rows
    out, err = capfd.readouterr()
    assert "e/dev.csv: recognised semicolons" in out
    assert "not read" in err and "'e/extra.csv', 'e/more.jsonl'" in err and "train.csv" in err
    assert read_hub("e", subset=None, split="train[1:]+validation[:1]")["text"][:] == ["null", "n/a", "NA"]
    write("f/train.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": {"x": 1}}\n')
    table = read_hub("f", subset=None, split="train")
    assert table["label"][:] == ["1", '{"x": 1}']
    refused(lambda: select(table), "row 2")
    write("g/train.csv", text)
    write("g/test.jsonl", "{}")
    refused(
        lambda: read_hub("g", subset=None, split="train"), "files of one format in g", "--data.train_path"
    )
    write("h/train.csv", b"PK\x03\x04")
    refused(lambda: read_hub("h", subset=None, split="train"), "h/train.csv is a zip", "--data.source")


def test_a_folder_that_is_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    monkeypatch.setattr(datasets.config, "EXTRACTED_DATASETS_PATH", tmp_path / "extracted")
    write("d/train.csv.gz", gzip.compress(b"text;label\nNA;007\n"))
    assert read_hub("d", subset=None, split="train")[:] == {"text": ["NA"], "label": ["007"]}


def test_a_card_that_declares_types_is_followed():
    write("d/train.csv", "text,label\nNA,pos\nfine,neg\n")
    features = "  - {name: text, dtype: string}\n  - name: label\n    dtype:\n      class_label:\n"
    features += "        names: {'0': neg, '1': pos}\n"
    write("d/README.md", f"---\ndataset_info:\n  features:\n{features}---\n")
    assert class_names(read_hub("d", subset=None, split="train")) == ["neg", "pos"]
    write("e/train.csv", "NA,1\nfine,2\n")
    write(
        "e/README.md",
        "---\nconfigs:\n- config_name: a\n  data_files: train.csv\n  column_names: [t, l]\n---\n",
    )
    assert read_hub("e", subset=None, split="train").column_names == ["t", "l"]


def test_a_folder_of_save_to_disk():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    datasets.DatasetDict(train=table, test=table.select([1])).save_to_disk("d")
    assert read_hub("d", subset=None, split="test")[:] == {"text": ["b"], "label": [0]}
    assert class_names(read_hub("d", subset=None, split="train")) == ["neg", "pos"]
    table.save_to_disk("e")
    before = sorted(Path("e").rglob("*"))
    selected, _ = select(read_hub("e", subset=None, split="train[:1]"))
    assert selected["text"][:] == ["a"] and sorted(Path("e").rglob("*")) == before
    refused(lambda: read_hub("e", subset=None, split="test"), "no split 'test', but 'train'")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared reviews are not on this machine")
def test_real_reviews():
    path = SHARED / "data/yelp/train.csv"
    selected, dropped = select(read_files(str(path), flag=FLAG))
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (len(selected), dropped) == (5000, 0) and selected["row"][:] == list(range(1, 5001))
    assert selected["text"][:] == [row["text"] for row in rows]
    assert selected["label"][:] == [row["label"] for row in rows]
    imdb = read_files(str(SHARED / "data/imdb/train.parquet"), flag=FLAG)
    cleaned, _ = select(imdb, strip_html_breaks=True)
    assert len(cleaned) == 25000 and not any(re.search("<br ?/?>", text) for text in cleaned["text"][:])


def test_ids_that_take_all_64_bits(in_folder):  # noqa: F811
    table = pa.table({"label": pa.array([1, 2**64 - 1], pa.uint64()), "text": ["a", "b"]})
    pq.write_table(table, "a.parquet")
    selected, _ = select(read_files("a.parquet", flag=FLAG))
    assert selected["label"][:] == ["1", "18446744073709551615"]  # as text: too large for int64
