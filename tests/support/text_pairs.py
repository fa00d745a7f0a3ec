"""Files of pairs of reviews: have both the same stars?"""

from pathlib import Path

from conftest import review, write_csv

PAIRS = ["--data.text_column", "first", "--data.pair_column", "second"]


def pairs(count: int) -> list[tuple[str, str, str]]:
    """Label, first and second text, of one to five sentences; every ninth second text is empty."""
    found = []
    for i in range(count):
        stars, others = i % 5 + 1, (i % 5 if i % 2 else i * 3 % 4) + 1
        second = "" if i % 9 == 4 else review(others, i * 2 + 1)
        found.append(("same" if stars == others else "other", review(stars, i // 5), second))
    return found


def write_pairs(path: Path, count: int) -> Path:
    """The columns label, first and second."""
    return write_csv(path, pairs(count), ("label", "first", "second"))
