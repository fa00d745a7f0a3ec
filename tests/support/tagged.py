"""A small corpus of several labels a text: what a review is about, and whether it is good."""

import json
from pathlib import Path

from conftest import WORDS_OF_STARS

NOUNS = ("movie", "film", "plot", "acting", "ending")
LABELS = ("acting", "bad", "ending", "film", "good", "movie", "plot")


def tagged(number: int) -> tuple[str, list[str]]:
    """A text of up to three sentences, and its labels: its nouns, `good` or `bad`; for one of ten none."""
    if number % 10 == 7:
        return " ".join(["i liked it!"] * (number // 10 % 4 + 1)), []
    nouns = [NOUNS[(number * step) % 5] for step in range(1, number % 3 + 2)]
    star = number % 5 + 1
    text = " ".join(f"the {noun} was {WORDS_OF_STARS[star]}, i liked it!" for noun in nouns)
    labels = {*nouns, *(["good"] if star > 3 else ["bad"] if star < 3 else [])}
    return text, sorted(labels)


def write_tagged(path: Path, rows: range) -> Path:
    """The texts of these numbers, an object a line."""
    found = [dict(zip(("text", "label"), tagged(number), strict=True)) for number in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    return path
