"""Tables as other programs write them: each is read right, with a word on what was recognised, or refused."""

import csv
import gzip
import io
import json
import random
import zipfile

import pytest
from corpus_files import FLAG, in_folder, read, refused, write  # noqa: F401

from lit_ft.data.corpus import read_files
from lit_ft.data.dialect import count_lines
from lit_ft.errors import UserError

TEXTS = ["Good film, great plot", "Boring; long, dull", "fine", 'he said "no"', "nice|but", "tab\tin"]
LABELS = ["pos", "neg", "pos", "neg", "pos", "neg"]
TABLE = {"text": TEXTS, "label": LABELS}


def table(separator: str = ",", line_end: str = "\n", quote_all: bool = False) -> str:
    """The table as a sound writer has it."""
    out = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    csv.writer(out, delimiter=separator, lineterminator=line_end, quoting=quoting).writerows(
        [TABLE.keys(), *zip(*TABLE.values(), strict=True)]
    )
    return out.getvalue()


# name: (file, content, rows, what is said)
READ = {
    "semicolons": ("a.csv", table(";"), TABLE, "semicolons between the values"),
    "semicolons, CRLF, all quoted": ("a.csv", table(";", "\r\n", True), TABLE, "semicolons"),
    "tabs in a csv": ("a.csv", table("\t"), TABLE, "tabs between"),
    "bars": ("a.csv", table("|"), TABLE, "vertical bars"),
    "commas in a tsv": ("a.tsv", table(","), TABLE, "commas between"),
    "sep=;": ("a.csv", "sep=;\r\n" + table(";", "\r\n"), TABLE, "semicolons"),
    "sep=, in quotes and a mark": ("a.csv", '\ufeff"sep=,"\n' + table(), TABLE, ""),
    "UTF-16 by Excel": ("a.csv", table("\t", "\r\n").encode("utf-16"), TABLE, "UTF-16; tabs between"),
    "UTF-16 of the other end": ("a.tsv", b"\xfe\xff" + table("\t").encode("utf-16-be"), TABLE, "UTF-16"),
    "UTF-16 without a mark": ("a.csv", table(";").encode("utf-16-le"), TABLE, "UTF-16-LE; semicolons"),
    "UTF-16 of the other end without one": ("a.tsv", table("\t").encode("utf-16-be"), TABLE, "UTF-16-BE"),
    "tabs in a text": ("a.txt", "a\tb\nc\td\n", {"text": ["a\tb", "c\td"]}, "rename it to .tsv"),
    "a header again after a mark": (
        "a.csv",
        "\ufefftext,label\ngood,1\n\ufefftext,label\nbad,2\n",
        {"text": ["good", "\ufefftext", "bad"], "label": ["1", "label", "2"]},
        "header is repeated in row 2",
    ),
    "UTF-32": ("a.csv", table().encode("utf-32"), TABLE, "UTF-32"),
    "UTF-16 of lines": ("a.txt", "one\r\ntwo é\r\n".encode("utf-16"), {"text": ["one", "two é"]}, "UTF-16"),
    "UTF-16 of JSON": ("a.jsonl", '{"text": "é"}\n'.encode("utf-16"), {"text": ["é"]}, "UTF-16"),
    "old Mac": ("a.csv", table(line_end="\r"), TABLE, ""),
    "mixed line ends": (
        "a.csv",
        "text,label\ngood,1\r\nbad,2\rfine,1\n",
        {"text": ["good", "bad", "fine"], "label": ["1", "2", "1"]},
        "",
    ),
    "names with spaces": (
        "a.csv",
        "text , label\ngood,1\n",
        {"text": ["good"], "label": ["1"]},
        "spaces around",
    ),
    "marks around names": (
        "a.csv",
        '\ufeff\ufeff"text\u200b",label\xa0\ngood,1\n',
        {"text": ["good"], "label": ["1"]},
        "",
    ),
    "spaces before quotes": (
        "a.csv",
        'label, text\npos, "good film, great"\nneg, dull\n',
        {"label": ["pos", "neg"], "text": ["good film, great", "dull"]},
        "spaces after",
    ),
    "backslashes": (
        "a.csv",
        'text,label\n"he said \\"fine, no\\" today",pos\nawful,neg\n"a\\nb \\\\ \\"",pos\n',
        {"text": ['he said "fine, no" today', "awful", 'a\\nb \\\\ "'], "label": ["pos", "neg", "pos"]},
        'written as \\"',
    ),
    "backslashes before all": (
        "a.csv",
        'text,label\n"say \\"x\\" C:\\\\dir",pos\n"y\\\\",neg\n',
        {"text": ['say "x" C:\\dir', "y\\"], "label": ["pos", "neg"]},
        'written as \\"',
    ),
    "escaped separators": (
        "a.csv",
        "text,label\nGood film\\, great,pos\ndull,neg\n",
        {"text": ["Good film, great", "dull"], "label": ["pos", "neg"]},
        "escaped by a backslash",
    ),
    "single quotes": (
        "a.csv",
        "'text','label'\n'it''s good, \"really\"','pos'\n",
        {"text": ['it\'s good, "really"'], "label": ["pos"]},
        "single quotes",
    ),
    "single quotes where they must": (
        "a.csv",
        "text,label\n'good, film',pos\ndull,neg\n",
        {"text": ["good, film", "dull"], "label": ["pos", "neg"]},
        "single quotes",
    ),
    "apostrophes": (
        "a.csv",
        "text,label\n'tis fine,pos\nthe boys',neg\n'a' or 'b',pos\n",
        {"text": ["'tis fine", "the boys'", "'a' or 'b'"], "label": ["pos", "neg", "pos"]},
        "",
    ),
    "letters that pair": (
        "a.tsv",
        'label\ttext\npos\tgood\npos\t"Great, she said\nneg\tawful\npos\tI did"\n',
        {"label": ["pos", "pos", "neg", "pos"], "text": ["good", '"Great, she said', "awful", 'I did"']},
        "quotes as ordinary characters",
    ),
    "a letter alone": (
        "a.tsv",
        'label\ttext\npos\t"Great, she said\nneg\tawful "x"\n',
        {"label": ["pos", "neg"], "text": ['"Great, she said', 'awful "x"']},
        "quotes as ordinary characters",
    ),
    "letters within a line": (
        "a.tsv",
        'label\ttext\npos\t"Good" and "bad"\nneg\t5" screen\n',
        {"label": ["pos", "neg"], "text": ['"Good" and "bad"', '5" screen']},
        "as ordinary characters",
    ),
    "letters, by commas": (
        "a.csv",
        'label,text\npos,"Great\nneg,awful\npos,nice"\nneg,dull\npos,good\nneg,bad\n',
        {"label": ["pos", "neg"] * 3, "text": ['"Great', "awful", 'nice"', "dull", "good", "bad"]},
        "quotes as ordinary characters",
    ),
    "line breaks in a tsv": (
        "a.tsv",
        'text\tlabel\n"one\ntwo ""q"""\tpos\n"a\tb"\tneg\n',
        {"text": ['one\ntwo "q"', "a\tb"], "label": ["pos", "neg"]},
        "",
    ),
    "texts that look like rows": (
        "a.csv",
        'text,label\n"Great film, loved it\nWatch, again",pos\ngood,neg\nso,pos\n',
        {"text": ["Great film, loved it\nWatch, again", "good", "so"], "label": ["pos", "neg", "pos"]},
        "",
    ),
    "no header": (
        "a.csv",
        '"1","good film"\n"2","so bad it is"\n"1","nice plot"\n"2","awful"\n',
        {"column1": ["1", "2", "1", "2"], "column2": ["good film", "so bad it is", "nice plot", "awful"]},
        "line 1 looks like the rows below it",
    ),
    "no header, names": (
        "a.tsv",
        "good film\tpos\nso bad\tneg\nnice\tpos\n",
        {"column1": ["good film", "so bad", "nice"], "column2": ["pos", "neg", "pos"]},
        "no header",
    ),
    "pandas' own header": (
        "a.csv",
        "0,1\ngood,1\nbad,0\nfine,1\n",
        {"0": ["good", "bad", "fine"], "1": ["1", "0", "1"]},
        "",
    ),
    "a label called as its column": (
        "a.csv",
        "spam,mail\nspam,buy it now and here\nham,are you at home today\n",
        {"spam": ["spam", "ham"], "mail": ["buy it now and here", "are you at home today"]},
        "",
    ),
    "index": ("a.csv", ",text\n0,good\n", {"": ["0"], "text": ["good"]}, ""),
    "two columns without a name": (
        "a.csv",
        "text,,\ngood,,\n",
        {"text": ["good"], "column2": [""], "column3": [""]},
        "by their position",
    ),
    "a separator at each end": (
        "a.csv",
        "text,label\ngood,1,\nbad,2,\n",
        {"text": ["good", "bad"], "label": ["1", "2"]},
        "",
    ),
    "R's names of rows": (
        "a.csv",
        '"text","label"\n' + "".join(f'"{i}","t{i}",{i % 2}\n' for i in range(1, 8)),
        {"": [*"1234567"], "text": [f"t{i}" for i in range(1, 8)], "label": [*"1010101"]},
        "unnamed first column",
    ),
    "empty rows of Excel": (
        "a.csv",
        ",\r\ntext,label\r\ngood,1\r\n,\r\n",
        {"text": ["good", ""], "label": ["1", ""]},
        "",
    ),
    "decimal commas": (
        "a.csv",
        "text;score\ngood;3,5\nbad;1,0\n",
        {"text": ["good", "bad"], "score": ["3,5", "1,0"]},
        "decimal commas",
    ),
    "blank lines": (
        "a.csv",
        'text,label\n\ngood,1\n\n"a\n\nb",2\r\n\r\n\n',
        {"text": ["good", "a\n\nb"], "label": ["1", "2"]},
        "2 blank lines were skipped",
    ),
    "blank lines at the end": ("a.csv", "text,label\ngood,1\n\n\n", {"text": ["good"], "label": ["1"]}, ""),
    "blank lines of one column": ("a.csv", 'text\ngood\n\n""\nbad\n', {"text": ["good", "", "", "bad"]}, ""),
    "a header again": (
        "a.csv",
        "text,label\ngood,1\ntext,label\nbad,2\n",
        {"text": ["good", "text", "bad"], "label": ["1", "label", "2"]},
        "the header is repeated in row 2",
    ),
    "a text called text": ("a.csv", "text\ngood\ntext\n", {"text": ["good", "text"]}, ""),
    "spaces after a closing quote": (
        "a.csv",
        'text,label\n"good" ,1\n',
        {"text": ["good "], "label": ["1"]},
        "",
    ),
}


@pytest.mark.parametrize("name, content, rows, said", READ.values(), ids=READ)
def test_read_right(name, content, rows, said, capfd):
    for _ in ("read", "cached"):
        assert read(name, content) == rows
        out, err = capfd.readouterr()
        told = (out + err).strip()
        assert said in told and len(told.splitlines()) == (told != "") and (said != "" or not told), told


ZIP = b"PK\x03\x04 and no zip"
REFUSED = {
    "Windows-1252": (
        "a.csv",
        "text,label\nun café noir,1\n".encode("cp1252"),
        ["byte 0xe9 in line 2", "Windows-1252 ('café')", "iconv -f cp1252 -t utf-8 a.csv"],
    ),
    "of other letters": (
        "a.csv",
        "text,label\nхороший фильм,1\n".encode("cp1251"),
        ["line 2; save it as UTF-8"],
    ),
    "gzip": ("a.csv", gzip.compress(b"text,label\ngood,1\n"), ["compressed by gzip", "gunzip"]),
    "old Excel": ("a.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ["an old Excel workbook (.xls)"]),
    "zip": ("a.csv", ZIP, ["a zip archive"]),
    "parquet": ("a.csv", b"PAR1xxPAR1", ["is parquet; rename it to .parquet"]),
    "web page": ("a.csv", "<!DOCTYPE html>\n<html>", ["a web page (HTML)"]),
    "LFS": (
        "a.jsonl",
        "version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        ["Git LFS", "git lfs pull"],
    ),
    "JSON in a csv": ("a.csv", '{"text": "good", "label": 1}\n', ["is JSON; rename it to .jsonl"]),
    "a list in a csv": ("a.csv", '[{"text": "good"}]', ["is JSON"]),
    "a csv in JSON": (
        "a.jsonl",
        "text,label\ngood,1\n",
        ["a.jsonl is not JSON: it begins with 'text,label'"],
    ),
    "Python's dicts": ("a.jsonl", "{'text': 'good'}\n", ["line 1", "json.dumps"]),
    "ndjson": ("a.ndjson", '{"text": "good"}\n', ["rename it to .jsonl"]),
    "junk after a quote": (
        "a.csv",
        'text,label\n"a ""b""",1\n"a" b,2\n',
        ["line 3", 'after the closing quote of "a"', "'b,2'"],
    ),
    "mixed backslashes": (
        "a.csv",
        'text,label\n"a \\"b\\" c",1\n"d "" e",2\n"f" g,2\n',
        ["line 2", 'not written as \\"'],
    ),
    "a title above the header": (
        "a.csv",
        "Reviews of May\ntext,label\n" + "good,1\n" * 5,
        ["line 1 has 1 column name,", "from 2 on have 2 values"],
    ),
    "a sum at the end": (
        "a.csv",
        "text,label\n" + "good,1\n" * 5 + "5 rows\n",
        ["line 7", "expected 2", "found 1 in '5 rows'"],
    ),
    "an open quote, semicolons": ("a.csv", 'text;label\n"good;1\n"bad";2\n', ["a.csv, line 2"]),
    "columns of lists": (
        "a.json",
        '{"a": [{"text": "x"}], "b": [{"text": "y"}]}',
        ["keys 'a', 'b'", 'orient="records"'],
    ),
    "columns of no name": ("a.json", '{"0": {"0": "good"}, "1": {"0": "x"}}', ['orient="records"']),
    "rows of lists": ("a.json", '[["good", 1]]', ["row 1: expected an object"]),
}


@pytest.mark.parametrize("name, content, expected", REFUSED.values(), ids=REFUSED)
def test_refused_by_name(name, content, expected):
    write(name, content)
    refused(lambda: read_files(name, flag=FLAG), "a.", *expected, FLAG)


def test_a_workbook_called_csv():
    with zipfile.ZipFile("a.csv", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    refused(lambda: read_files("a.csv", flag=FLAG), "a.csv is an Excel workbook (.xlsx)", FLAG)


ROWS = {"text": ["good", "bad"], "label": ["1", "2"]}
RECORDS = [{"text": "good", "label": 1}, {"text": "bad", "label": 2}]
FORMS = {
    "one object over lines": ({"version": 1, "data": RECORDS}, 2, "2 objects of its key 'data'"),
    "one object in a line": ({"version": 1, "data": RECORDS}, None, "key 'data'"),
    "columns": ({"text": {"0": "good", "1": "bad"}, "label": {"0": 1, "1": 2}}, None, "DataFrame.to_json()"),
    "index": ({"0": RECORDS[0], "1": RECORDS[1]}, None, "orient='index'"),
    "split": (
        {"columns": ["text", "label"], "index": [0, 1], "data": [["good", 1], ["bad", 2]]},
        None,
        "split",
    ),
    "table": ({"schema": {"fields": [{"name": "text"}]}, "data": RECORDS}, 1, "key 'data'"),
    "lists": ({"text": ["good", "bad"], "label": [1, 2]}, None, "columns of values"),
}


@pytest.mark.parametrize("content, indent, said", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_one_object(content, indent, said, suffix, capfd):
    assert read(f"a.{suffix}", json.dumps(content, indent=indent)) == ROWS
    assert said in capfd.readouterr().out


def test_json_in_other_layouts(capfd):
    pretty = "\n".join(json.dumps(record, indent=2) for record in RECORDS)
    assert read("jq.json", pretty) == ROWS
    assert read("side_by_side.jsonl", "".join(map(json.dumps, RECORDS))) == ROWS
    assert read("one.jsonl", json.dumps({"text": "good", "spans": [{"a": 1}]})) == {
        "text": ["good"], "spans": ['[{"a": 1}]']
    }  # fmt: skip
    assert capfd.readouterr().out == ""
    assert read("commas.jsonl", ",\n".join(map(json.dumps, RECORDS)) + ",\n") == ROWS
    assert "a comma after each line" in capfd.readouterr().out


def test_keys_that_come_late_are_collected_at_once(monkeypatch):
    monkeypatch.setattr("lit_ft.data.formats.BATCH_ROWS", 10)
    first = "".join(json.dumps({"text": "a", f"key{i // 10}": i}) + "\n" for i in range(300))
    write("b.jsonl", "".join(json.dumps({"text": "b", f"other{i}": i}) + "\n" for i in range(30)))
    parsed = []
    loads = json.loads
    monkeypatch.setattr("lit_ft.data.json_records.json.loads", lambda text: parsed.append(1) or loads(text))
    write("a.jsonl", first)
    found = read_files(["a.jsonl", "b.jsonl"], flag=FLAG)
    assert len(found.column_names) == 61 and found["key29"][299] == "299" and found["other29"][329] == "29"
    assert len(parsed) < 3 * 330  # it was 60 passes


WORDS = [
    "good",
    "the",
    '"q"',
    "it's",
    "a,b",
    "x;y",
    "|",
    '"',
    "'",
    '5"',
    "1,5",
    "é",
    '"Great',
    'end"',
    "\\",
    "\\n",
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quoting": csv.QUOTE_ALL},
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL},
        {"doublequote": False, "escapechar": "\\"},
        {"quotechar": "'", "quoting": csv.QUOTE_ALL},
    ],
    ids=str,
)
def test_whatever_a_writer_writes(options):
    rng = random.Random(0)
    for number in range(25):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 7))) for _ in range(6)]
        if options.get("quoting") is None and "escapechar" not in options:
            texts[0] = texts[0] + "\n\nnext"
        out = io.StringIO(newline="")
        writer = csv.writer(out, **options)
        writer.writerows([["text", "label"], *((text, "ab"[i % 2]) for i, text in enumerate(texts))])
        assert read(f"{number}.csv", out.getvalue())["text"] == texts


def test_quotes_that_are_letters_never_take_rows():
    rng = random.Random(0)
    for number in range(50):
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(1, 7))) for _ in range(20)]
        rows = "".join(f"{'ab'[i % 2]}\t{text}\n" for i, text in enumerate(texts))
        try:
            assert read(f"{number}.tsv", "label\ttext\n" + rows)["text"] == texts
        except UserError as error:
            assert f"{number}.tsv, line " in str(error)


def test_a_value_that_looks_like_rows_is_said(capfd):
    code = '"see\n\tx\n\ty"'
    assert len(read("a.tsv", f'text\tlabel\n{code}\tpos\nfine\tneg\n"a ""b"""\tneg\n')["text"]) == 3
    assert capfd.readouterr().err == ""
    rows = 'label\ttext\npos\t"one\nneg\ttwo\npos\tthree"\nneg\t"a ""b"""\n'
    assert len(read("b.tsv", rows)["text"]) == 2  # who writes a quote twice means quotes to enclose
    assert "b.tsv: in line 2 a quote opens a value of 3 lines" in capfd.readouterr().err


def test_lines_are_counted_across_chunks(monkeypatch):
    rng = random.Random(0)
    for size in (1, 2, 3, 7):
        monkeypatch.setattr("lit_ft.data.dialect.CHUNK_BYTES", size)
        for _ in range(50):
            content = bytes(rng.choices(b"a\r\n", k=20))
            assert count_lines(content, 0, 20) == len((content + b".").splitlines()) - 1


def test_files_of_which_the_same_is_said_are_one_line(capfd):
    for i in range(3):
        write(f"{i}.csv", table(";").replace("fine", f"fine {i}"))
    assert len(read_files("*.csv", flag=FLAG)) == 18
    assert capfd.readouterr().out == "0.csv and 2 more: recognised semicolons between the values\n"
