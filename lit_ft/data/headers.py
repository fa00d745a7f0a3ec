"""Whether the first line of a table is a header or a row."""

import re
from collections.abc import Sequence

LIKELY_TEXT = ("text", "review", "review_text", "content", "body", "comment", "sentence", "message")
LIKELY_LABEL = ("label", "labels", "stars", "rating", "score", "class", "category", "sentiment", "target")
LIKELY_PAIR = ("sentence2", "hypothesis", "question2", "text2", "text_b", "answer", "document", "passage")
OTHER_NAMES = """
id idx index uid title name date time timestamp user username author url link lang language source split
topic tag tags subject summary headline description question answer query document review_id text_id v1 v2
tweet post abstract premise hypothesis sentence1 sentence2 text1 text2 text_a text_b polarity emotion intent
texts type status count length x y
"""
KNOWN_NAMES = {*LIKELY_TEXT, *LIKELY_LABEL, *OTHER_NAMES.split()}
NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
WORDS_OF_A_TEXT = 5  # a name of this many words and letters may be a text
LETTERS_OF_A_TEXT = 25
INVISIBLE = " \t\r\n\xa0\ufeff\u200b\u2060"  # around a name: nobody types these after --data.text_column


def clean_names(names: Sequence[str]) -> list[str]:
    """The names without invisible characters around them, unless that makes two of them equal."""
    cleaned = [name.strip(INVISIBLE) for name in names]
    return cleaned if len(set(cleaned)) == len(set(names)) else list(names)


def is_a_row(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is certainly a row: it holds a label that other rows have too.

    Args:
        names: The values of the first line.
        rows: Some of the lines after it.
    """
    rows = [row for row in rows if len(row) == len(names) and list(row) != list(names)]
    if len(names) < 2 or _known(names) or names == [str(i) for i in range(len(names))]:  # pandas' own names
        return False
    columns = list(zip(*rows, strict=True))
    for place, column in enumerate(columns):
        label = names[place] != "" and names[place] in column and len(set(column)) <= max(2, len(rows) // 2)
        others = [i for i in range(len(names)) if i != place]
        if label and not any(_names_texts(names[i], columns[i]) for i in others):
            return True
    return False


def may_be_a_row(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the header may be a row: it holds a number, a long text, or a value that a row below has."""
    if _known(names) or list(names) == [str(i) for i in range(len(names))]:
        return False
    long = [len(name) > LETTERS_OF_A_TEXT and len(name.split()) >= WORDS_OF_A_TEXT for name in names]
    again = [name != "" and any(row[i] == name for row in rows) for i, name in enumerate(names)]
    return any(long) or any(again) or any(NUMBER.fullmatch(name) for name in names)


def _known(names: Sequence[str]) -> bool:
    return any(name.strip(INVISIBLE).lower().replace(" ", "_") in KNOWN_NAMES for name in names)


def _names_texts(name: str, values: Sequence[str]) -> bool:
    """Whether this is one word above texts of several words: likely a name, hardly a text."""
    return name.isidentifier() and sum(len(value.split()) for value in values) >= 3 * max(len(values), 1)
