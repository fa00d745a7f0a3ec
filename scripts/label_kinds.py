"""Makes the corpora of docs/labels.md from labelled reviews: several labels a text, and pairs of texts.

    python scripts/label_kinds.py ../shared/data/yelp FOLDER

The folder given first holds `train.csv` and `test.csv` with the columns `label` (0 to 4: stars less one) and
`text`. FOLDER gets, for each, the files below; the same reviews give the same files, on any machine.

tags_train.jsonl, tags_test.jsonl: a text joins sentences of two to four reviews. Its `labels` are the groups
of stars among these: `low` (1 and 2), `middle` (3), `high` (4 and 5). The group of each review is drawn
uniformly, so that none is rare, then a review of it; it gives two sentences in a row, from a random place.
Texts of train and test share no review, as the two files share none.

pairs_train.csv, pairs_test.csv: `first`, `second` and `same`, which is `yes` if both reviews have the same
star and `no` if not, half of each. The star of the first review is drawn uniformly, and so is that of the
second among the other stars. Each review is cut to 600 letters.

scores_train.csv, scores_test.csv: `text` and `stars`, the number from 1 to 5.
"""

import argparse
import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random

GROUPS = {"low": (0, 1), "middle": (2,), "high": (3, 4)}
SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
NUM_SENTENCES = 2  # of each review
MOST_REVIEWS = 4
ROWS = {"train": 4000, "test": 2000}
MOST_LETTERS = 600  # of a review in a pair: two fit into 256 tokens


def read(path: Path) -> tuple[list[str], list[int]]:
    """Texts and labels."""
    csv.field_size_limit(1 << 30)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [int(row["label"]) for row in rows]


def sentences(text: str, random: Random) -> str:
    """Some sentences in a row."""
    found = [part.strip() for part in SENTENCE.findall(text) if len(part.strip()) > 3] or [text.strip()]
    start = random.randrange(max(1, len(found) - NUM_SENTENCES + 1))
    return " ".join(found[start : start + NUM_SENTENCES])


def tagged(texts: Sequence[str], labels: Sequence[int], rows: int, seed: int) -> list[dict[str, object]]:
    """Texts of several reviews, with their groups of stars."""
    random = Random(seed)
    of_group = {g: [i for i, label in enumerate(labels) if label in stars] for g, stars in GROUPS.items()}
    found = []
    for _ in range(rows):
        drawn = [random.choice(list(GROUPS)) for _ in range(random.randint(2, MOST_REVIEWS))]
        parts = [sentences(texts[random.choice(of_group[group])], random) for group in drawn]
        found.append({"text": " ".join(parts), "labels": [g for g in GROUPS if g in drawn]})
    return found


def paired(texts: Sequence[str], labels: Sequence[int], rows: int, seed: int) -> list[tuple[str, str, str]]:
    """Pairs of reviews, and whether they have the same star."""
    random = Random(seed)
    of_star = {star: [i for i, label in enumerate(labels) if label == star] for star in sorted(set(labels))}
    found = []
    for number in range(rows):
        star = random.choice(list(of_star))
        same = number % 2 == 0
        other = star if same else random.choice([s for s in of_star if s != star])
        first = random.choice(of_star[star])
        second = random.choice([i for i in of_star[other] if i != first])
        pair = [texts[i][:MOST_LETTERS] for i in (first, second)]
        found.append((pair[0], pair[1], "yes" if same else "no"))
    return found


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed, (split, rows) in enumerate(ROWS.items()):
        texts, labels = read(options.reviews / f"{split}.csv")
        with (options.folder / f"tags_{split}.jsonl").open("w", encoding="utf-8") as file:
            for row in tagged(texts, labels, rows, seed):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        tables = {
            "pairs": (("first", "second", "same"), paired(texts, labels, rows, seed)),
            "scores": (("text", "stars"), [(t, label + 1) for t, label in zip(texts, labels, strict=True)]),
        }
        for name, (header, lines) in tables.items():
            with (options.folder / f"{name}_{split}.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([header, *lines])


if __name__ == "__main__":
    main()
