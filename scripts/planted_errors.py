"""Does `repeat --folds` find wrong labels? Plants some, and scores the list against them.

    python scripts/planted_errors.py plant train.csv FOLDER [--label_column label] [--share 0.05] [--seed 0]
    python -m lit_ft repeat --config CONFIG --data.train_path FOLDER/train.csv --folds 5 ...
    python scripts/planted_errors.py score runs/NAME FOLDER/key.csv

plant: copies a csv. The share of the rows, drawn at random, gets another label that the file has, each of the
others as likely. `key.csv` has the planted rows (from 1, as `labels_to_check.csv` counts), the label that was
there, and the one that is there now.

score: precision and recall of the list; the precision of its first 50, 100, 200 and as many as were planted;
its average precision, in which a planted row that is not listed counts 0. A list that has no more rows than
one of these numbers is counted as if others, not planted, followed.

The file has wrong labels of its own that the key does not know. They count as false alarms here, so every
precision is a lower bound. Errors at random are also easier to see than a person's, which are between
classes that are hard to tell apart.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

FIRST = (50, 100, 200)
KEY = "key.csv"
LIST = "labels_to_check.csv"


def plant(path: Path, folder: Path, column: str, share: float, seed: int) -> int:
    """Write a copy of a csv with wrong labels, and the key; returns how many are wrong."""
    csv.field_size_limit(1 << 30)
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    if column not in header:
        raise SystemExit(f"expected a column {column!r} in {path}, found {header}; set --label_column")
    place, random = header.index(column), Random(seed)
    labelled = [i for i, row in enumerate(rows) if len(row) > place and row[place].strip()]
    labels = sorted({rows[i][place] for i in labelled})
    if len(labels) < 2:
        raise SystemExit(f"expected two labels or more in {path}, found {labels}; there is no other to plant")
    chosen = sorted(random.sample(labelled, round(share * len(labelled))))
    key = []
    for at in chosen:
        was = rows[at][place]
        rows[at][place] = random.choice([label for label in labels if label != was])
        key.append((at + 1, was, rows[at][place]))
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in ((path.name, [header, *rows]), (KEY, [("row", "was", "planted"), *key])):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
    return len(key)


def score_list(listed: Sequence[int], planted: set[int]) -> dict[str, float]:
    """The figures of a list.

    Args:
        listed: Rows, the most suspicious first.
        planted: The rows of the key, at least one.
    """
    hits = [row in planted for row in listed]
    found = sum(hits)
    before, precisions = 0, []
    for rank, hit in enumerate(hits, 1):
        before += hit
        if hit:
            precisions.append(before / rank)
    return {
        "listed": len(hits),
        "planted": len(planted),
        "precision": found / max(len(hits), 1),
        "recall": found / len(planted),
        **{f"precision_at_{k}": sum(hits[:k]) / k for k in FIRST},
        "precision_at_planted": sum(hits[: len(planted)]) / len(planted),
        "average_precision": sum(precisions) / len(planted),
    }


def rows_of(path: Path) -> list[int]:
    """The column `row`, in the order of the file."""
    csv.field_size_limit(1 << 30)
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [int(row["row"]) for row in csv.DictReader(file)]


def main() -> None:
    """Plant, or score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    planting = commands.add_parser("plant")
    planting.add_argument("csv", type=Path)
    planting.add_argument("folder", type=Path)
    planting.add_argument("--label_column", default="label")
    planting.add_argument("--share", type=float, default=0.05)
    planting.add_argument("--seed", type=int, default=0)
    scoring = commands.add_parser("score")
    scoring.add_argument("repeat", type=Path, help="the folder of the repeat, with labels_to_check.csv")
    scoring.add_argument("key", type=Path)
    options = parser.parse_args()
    if options.command == "plant":
        count = plant(options.csv, options.folder, options.label_column, options.share, options.seed)
        print(
            f"{count:,} wrong labels in {options.folder / options.csv.name}; {options.folder / KEY} has them"
        )
        return
    found = score_list(rows_of(options.repeat / LIST), set(rows_of(options.key)))
    print(json.dumps({name: round(value, 4) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
