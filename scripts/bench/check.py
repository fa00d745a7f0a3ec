"""How long `check` takes, and how much memory, on reviews of Yelp's number and lengths; and what it finds.

python scripts/bench/check.py [--rows 650000] [--pretrained sample]

Writes the reviews, with planted duplicates, leaks and conflicts, into a temporary folder (1 GB and as much
again for the caches), runs the command in a process of its own with cold caches, and prints a Markdown row.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from reviews import review_writer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PLANTED = 40  # of each kind
TEST_ROWS = 13  # as many training rows for each test row, as in Yelp's 650,000 and 50,000
ACCENTED = 0.1  # share of the texts that are not plain ASCII, which take longer to normalise


def write_reviews(folder: Path, rows: int) -> dict[str, list[tuple[int, int]]]:
    """Writes train.csv and test.csv, and returns the planted pairs of row numbers, by their kind."""
    random = Random(0)
    write = review_writer(random)

    def review(number: int) -> str:
        text = write(f"Visit {number}.")
        return text.replace("i", "í") if random.random() < ACCENTED else text

    test_rows = rows // TEST_ROWS
    kept = random.sample(range(rows), 4 * PLANTED)  # training rows of which there will be a copy
    free = sorted(set(random.sample(range(rows), 8 * PLANTED)) - set(kept))
    copies = dict(zip(free, kept[: 2 * PLANTED], strict=False))  # second training row -> first one
    leaks = dict(zip(random.sample(range(test_rows), 2 * PLANTED), kept[2 * PLANTED :], strict=True))
    # The first half of the copies keeps its label, the other gets another one; the first half of the leaks is
    # exact.
    conflicting = set(list(copies)[PLANTED:])
    normalised = set(list(leaks)[PLANTED:])
    texts = {row: (random.randrange(5), review(row)) for row in kept}
    with (folder / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        for row in range(rows):
            label, text = texts.get(copies.get(row, row)) or (random.randrange(5), review(row))
            writer.writerow(((label + 1) % 5 if row in conflicting else label, text))
    with (folder / "test.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        for row in range(test_rows):
            label, text = texts.get(leaks.get(row, -1)) or (random.randrange(5), review(rows + row))
            writer.writerow((label, text.upper().replace(".", " !") if row in normalised else text))
    pairs = [(first + 1, second + 1) for second, first in copies.items()]
    leaked = [(first + 1, second + 1) for second, first in leaks.items()]
    return {
        "duplicates": pairs[:PLANTED],
        "conflicts": pairs[PLANTED:],
        "exact leaks": leaked[:PLANTED],
        "normalised leaks": leaked[PLANTED:],
    }


def found(report: dict, planted: dict[str, list[tuple[int, int]]]) -> dict[str, bool]:
    """Whether the report has exactly what was planted, by kind."""
    to_test = [leak for leak in report["leakage"] if leak["second"] == "test"]

    def rows(examples: list[dict]) -> set[tuple[int, ...]]:
        return {tuple(place["row"] for place in example["occurrences"]) for example in examples}

    surplus = sum(split["exact_duplicates"]["surplus_rows"] for split in report["splits"].values())
    by_kind = {
        exact: set.union(*(rows([e for e in leak["examples"] if e["exact"] is exact]) for leak in to_test))
        for exact in (True, False)
    }
    conflicts = {tuple(sorted(pair)) for pair in rows(report["conflicts"]["examples"])}
    return {
        "duplicates": surplus == len(planted["duplicates"]) + len(planted["conflicts"]),
        "conflicts": conflicts >= {tuple(sorted(pair)) for pair in planted["conflicts"]},
        "exact leaks": by_kind[True] == set(planted["exact leaks"]),
        "normalised leaks": by_kind[False] == set(planted["normalised leaks"]),
    }


def main() -> int:
    """Prints the row; the exit code is 0 if everything planted was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=650_000, help="training rows; test has a 13th of them")
    parser.add_argument("--pretrained", default="sample", help="the model whose tokenizer is used")
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    args = parser.parse_args()
    if args.rows < 100 * PLANTED:
        parser.error(f"expected --rows of at least {100 * PLANTED}, found {args.rows}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        planted = write_reviews(folder, args.rows)
        caches = {"LIT_FT_CACHE": str(folder / "lit_ft"), "HF_DATASETS_CACHE": str(folder / "datasets")}
        command = [sys.executable, "-m", "lit_ft", "check", "--config", "yelp_local.yaml", "--json"]
        command += [
            "--data.train_path",
            str(folder / "train.csv"),
            "--data.test_path",
            str(folder / "test.csv"),
        ]
        command += ["--model.pretrained", args.pretrained]
        start = time.monotonic()
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **caches}, stdout=subprocess.PIPE, check=True
        )
        seconds = time.monotonic() - start
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # of KiB, on Linux
    report = json.loads(done.stdout)
    results = found(report, planted)
    tokens = report["splits"]["train"]["tokens"]
    lengths = f"{tokens['mean']:.0f}, {tokens['median']:.0f}, {tokens['p95']:.0f}"
    missed = [kind for kind, ok in results.items() if not ok]
    planting = f"all of 4 x {PLANTED}" if not missed else f"not all {', '.join(missed)}"
    print(
        "| training + test rows | mean, median, 95 % tokens | seconds | peak memory | planted cases found |"
    )
    print("|---|---|---|---|---|")
    rows = f"{args.rows:,} + {args.rows // TEST_ROWS:,}"
    print(f"| {rows} | {lengths} | {seconds:.0f} | {gigabytes:.2f} GB | {planting} |")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
