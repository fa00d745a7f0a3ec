"""What is cached, the checks of columns and texts, and folders of data files."""

import csv
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

from lit_ft.corpus import class_names, read_files, read_hub, select_texts


def select(table, **settings):
    settings = {
        "text_column": "text",
        "label_column": "label",
        "on_empty": "drop",
        "where": "r.csv",
    } | settings
    return select_texts(table, **settings)


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
        "lit_ft.corpus.pc.utf8_trim_whitespace", lambda text: pytest.fail("not from the cache")
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


# --- columns and texts


def test_rows_are_counted_before_empty_texts_are_dropped():
    table = read_files(write("a.csv", 'label,text\n1,a\n2,""\n3," \t"\n4,d\n'), flag=FLAG)
    selected, dropped = select(table)
    assert selected[:] == {"text": ["a", "d"], "row": [1, 4], "label": ["1", "4"]}
    assert dropped == 2
    refused(lambda: select(table, on_empty="stop"), "'text' of r.csv", "in row 2;", "--data.on_empty=drop")


def test_rows_go_on_across_batches(monkeypatch):
    monkeypatch.setattr("lit_ft.corpus.BATCH_ROWS", 3)
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


def test_semicolons_between_the_values():
    table = read_files(write("a.csv", "label;text\n1;good food\n"), flag=FLAG)
    refused(lambda: select(table), "found 'label;text'; set the values apart by commas (.csv) or tabs (.tsv)")


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
    assert selected["label"][:] == ["1", "18446744073709551615"]  # as text: int64 ends before
