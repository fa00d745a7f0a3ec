"""How often the range of `lit_ft.report.learning_curve` holds: predict a doubling, then try it.

    python scripts/bench/learning_curve.py --train train.csv --test test.csv [--task stars] [--chains 5]

Models of words: TF-IDF with logistic regression (ridge for `mae`), which goes on learning, and the first 50
dimensions of its singular value decomposition, which soon level off. A chain is a random order of the
training texts; its first 78, 156, ... are the nested shares. Each 3 or 4 neighbouring sizes predict what the
next brings, from 300, 1,000 or all of the test texts; the truth is measured on all of them. Labels are
numbers, such as stars from 0; `good` is whether a text has the highest.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from lit_ft.report.learning_curve import CurvePoint, learning_curve
from lit_ft.report.scores import SCORES

TASKS = ("stars", "good", "mae")
MEASURED = (300, 1_000, 5_000)
FEWEST, DRAWS, DIMENSIONS = 75, 300, 50


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """Texts and labels of a csv."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], np.array([float(row["label"]) for row in rows])


def words(texts: list[str], test: list[str]) -> tuple[Any, Any]:
    """The words of training texts, and of the test texts."""
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2)
    return counts.fit_transform(texts), counts.transform(test)


def dimensions(texts: list[str], test: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """The first dimensions of all training texts, without their labels, and of the test texts."""
    counts = TfidfVectorizer(sublinear_tf=True, min_df=3)
    weighed = counts.fit_transform(texts)
    svd = TruncatedSVD(DIMENSIONS, random_state=0).fit(weighed)
    return 10 * svd.transform(weighed), 10 * svd.transform(counts.transform(test))


def errors_of(task: str, train: Any, labels: np.ndarray, test: Any, truth: np.ndarray) -> np.ndarray:
    """The error of each test text: whether it is wrong, or how far off it is."""
    if task == "mae":
        return np.abs(Ridge(1.0).fit(train, labels).predict(test) - truth)
    model = LogisticRegression(C=10, max_iter=300).fit(train, labels)
    return (model.predict(test) != truth).astype(float)


def trials(chain: dict[int, np.ndarray], task: str, rng: np.random.Generator) -> Iterator[tuple[float, ...]]:
    """Each prediction: whether both ranges hold, last size, measured texts, width (-1: it cannot be said)."""
    score = SCORES["regression" if task == "mae" else "classifier"][0]
    sizes = sorted(chain)
    for count in (3, 4):
        for i in range(len(sizes) - count):
            window, coming = sizes[i : i + count], sizes[i + count]
            for num_texts in MEASURED:
                texts = rng.permutation(len(chain[coming]))[:num_texts]
                of = np.stack([chain[size][texts] for size in window], 1)
                weights = rng.multinomial(len(texts), np.full(len(texts), 1 / len(texts)), DRAWS) / len(texts)
                values = np.vstack([of.mean(0), weights @ of])
                values = 1 - values if score.higher_is_better else values
                points = [
                    CurvePoint(size / window[-1], size, values[:, k], (values[0, k], values[0, k]))
                    for k, size in enumerate(window)
                ]
                said = learning_curve(points, score)["next"]
                change = chain[coming].mean() - chain[window[-1]].mean()
                change *= -1 if score.higher_is_better else 1
                if said is None:
                    yield (0, 0, window[-1], num_texts, -1)
                    continue
                likely, wide = said["low"] < change < said["high"], said["lowest"] < change < said["highest"]
                yield (likely, wide, window[-1], num_texts, (said["high"] - said["low"]) / of[:, -1].mean())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True, help="csv with columns text and label")
    parser.add_argument("--test", type=Path, required=True, help="the same, other texts")
    parser.add_argument("--task", choices=TASKS, default="stars")
    parser.add_argument("--chains", type=int, default=5)
    options = parser.parse_args()
    (texts, labels), (test, truth) = read(options.train), read(options.test)
    if options.task == "good":
        labels, truth = (of == labels.max() for of in (labels, truth))
    powers = range(int(np.log2(len(texts) / FEWEST)), -1, -1)
    rng = np.random.default_rng(0)
    print("model       texts  measured  trials  refused  in 80 %  in 95 %  width of the first / error")
    for model in ("words", "dimensions"):
        found = []
        least = dimensions(texts, test) if model == "dimensions" else None
        for _ in range(options.chains):
            order, chain = rng.permutation(len(texts)), {}
            for size in (len(texts) >> power for power in powers):
                chosen = order[:size]
                if least:
                    train, tested = least[0][chosen], least[1]
                else:
                    train, tested = words([texts[i] for i in chosen], test)
                chain[size] = errors_of(options.task, train, labels[chosen], tested, truth)
            found += list(trials(chain, options.task, rng))
        table = np.array(found, float)
        groups = [
            (f"{low:,}+", (table[:, 2] >= low) & (table[:, 2] < high), "all")
            for low, high in ((0, 1000), (1000, 10**9))
        ]
        groups += [("all", table[:, 3] == num_texts, f"{num_texts:,}") for num_texts in MEASURED]
        for size, kept, measured in groups:
            of = table[kept & (table[:, 4] >= 0)]
            refused = int((kept & (table[:, 4] < 0)).sum())
            likely, wide, width = of[:, [0, 1, 4]].mean(0)
            print(
                f"{model:10s}  {size:>5}  {measured:>8}  {len(of):6}  {refused:7}  "
                f"{likely:7.0%}  {wide:7.0%}  {width:.3f}"
            )


if __name__ == "__main__":
    main()
