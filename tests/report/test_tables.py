"""Tables of plain text, in a file and in a terminal."""

import os

import pytest

from lit_ft.report.tables import aligned, number

ROWS = [
    ["tag", "one", "two", "three"],
    ["test/accuracy of a long name", "0.8100", "0.8300", "0.8200"],
    ["seconds", "12", "9"],
]
WHOLE = [
    "tag                              one     two   three",
    "test/accuracy of a long name  0.8100  0.8300  0.8200",
    "seconds                           12       9",
]


def test_numbers_for_people():
    assert [number(value) for value in (1234, 12.0, 0.12346, -0.00001, None)] == [
        "1,234", "12", "0.1235", "0.0000", "\u2013",
    ]  # fmt: skip
    assert number(-0.3, 0) == "0"  # no -0


def test_a_wide_character_takes_two_columns():
    rows = [["class", "texts"], ["\u9152\u5e97", "1"], ["\u0e14\u0e35\u0e49", "22"]]
    assert aligned(rows) == ["class  texts", "\u9152\u5e97       1", "\u0e14\u0e35\u0e49         22"]
    narrow = aligned([["\u9152" * 20, "1"]], columns=22)
    assert narrow == ["\u9152" * 8 + "...  1"] or len(narrow[0]) <= 22


def test_a_table_in_a_file_has_no_limit(capsys):
    assert aligned(ROWS) == WHOLE
    assert aligned(ROWS, columns=52) == WHOLE


def test_a_narrow_terminal_shortens_names(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda *args, **kwargs: os.terminal_size((45, 24)))
    assert aligned(ROWS) == [
        "tag                       one     two   three",
        "test/accuracy of a...  0.8100  0.8300  0.8200",
        "seconds                    12       9",
    ]


@pytest.mark.parametrize("columns, parts", [(30, 2), (20, 3)])
def test_columns_without_room_come_below(columns, parts):
    lines = aligned([[row[0][:9], *row[1:]] for row in ROWS], columns=columns)
    blocks = "\n".join(lines).split("\n\n")
    assert len(blocks) == parts and max(map(len, lines)) <= columns
    assert all(block.startswith("tag") and "\nseconds" in block for block in blocks)
    words = " ".join(lines).split()
    assert all(words.count(cell) == 1 for row in ROWS for cell in row[1:])
    assert aligned(ROWS, columns=1)[0].split() == ["tag", "one"]  # nothing can be done: a column a part
