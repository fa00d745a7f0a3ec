"""Runs paired text by text: the differences, their intervals and tests, and what cannot be paired."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from scipy.stats import bootstrap
from torchmetrics.functional.classification import multiclass_f1_score

from lit_ft.report.pairs import (
    MOST_SHOWN,
    PerText,
    align,
    compare_pair,
    disagreements,
    mcnemar,
    note_of,
    read_per_text,
    with_note,
)

NAMES = ("bad", "so so", "good")


def per_text(labels, predicted, loss=None, rows=None, names=NAMES, hashes=None) -> PerText:
    rows = np.arange(1, len(labels) + 1) if rows is None else np.asarray(rows)
    hashes = rows.astype(np.uint64) * 7 if hashes is None else np.asarray(hashes, np.uint64)
    loss = np.zeros(len(labels)) if loss is None else np.asarray(loss, float)
    return PerText(Path("none"), tuple(names), rows, hashes, np.asarray(labels), np.asarray(predicted), loss)


def two(num_rows: int, num_classes: int = 3, seed: int = 0) -> tuple[PerText, PerText]:
    """Two runs that are right about 70 and 75 % of the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    names = [f"c{c}" for c in range(num_classes)]
    runs = []
    for share in (0.7, 0.75):
        wrong = rng.integers(0, num_classes, num_rows)
        said = np.where(rng.random(num_rows) < share, labels, wrong)
        runs.append(per_text(labels, said, rng.exponential(1, num_rows), names=names))
    return runs[0], runs[1]


def test_the_differences_are_those_of_the_figures():
    one, other = two(400)
    found = {d.score.name: d.value for d in compare_pair(one, other, ordered=True).differences}
    assert list(found) == ["accuracy", "macro_f1", "mae", "loss"]

    def f1(run: PerText) -> float:
        said, labels = torch.from_numpy(run.predicted), torch.from_numpy(run.labels)
        return float(multiclass_f1_score(said, labels, 4, average="macro"))  # a class that never occurs

    assert found["accuracy"] == pytest.approx(
        np.mean(other.predicted == one.labels) - np.mean(one.predicted == one.labels)
    )
    assert found["macro_f1"] == pytest.approx(f1(other) - f1(one), abs=1e-6)
    assert found["loss"] == pytest.approx(other.loss.mean() - one.loss.mean())
    distance = [np.abs(run.predicted - run.labels).mean() for run in (one, other)]
    assert found["mae"] == pytest.approx(distance[1] - distance[0])
    assert "mae" not in {d.score.name for d in compare_pair(one, other, ordered=False).differences}


def test_intervals_are_those_of_the_paired_bootstrap():
    one, other = two(500)
    pair = compare_pair(one, other, ordered=False)
    again = compare_pair(one, other, ordered=False)
    assert pair == again  # from a generator of its own
    right = (other.predicted == other.labels).astype(float) - (one.predicted == one.labels)
    for difference, values in ((pair.differences[0], right), (pair.differences[-1], other.loss - one.loss)):
        expected = bootstrap(
            (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(5)
        ).confidence_interval
        width = expected.high - expected.low
        assert difference.low == pytest.approx(expected.low, abs=0.08 * width)
        assert difference.high == pytest.approx(expected.high, abs=0.08 * width)


def test_mcnemar_is_exact():
    assert mcnemar(10, 2) == mcnemar(2, 10) == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert mcnemar(3, 3) == mcnemar(0, 0) == 1


def test_a_difference_in_words():
    labels = np.zeros(100, int)
    said = {share: np.where(np.arange(100) < share, 0, 1) for share in (50, 52, 90)}
    for better, line in {
        52: "B - A: +2.0 points (95 %: +0.0 to +5.0): not certain",
        90: "B - A: +40.0 points (95 %: +30.0 to +50.0): B is better",
        50: "B - A: +0.0 points (95 %: +0.0 to +0.0): the same",
    }.items():
        pair = compare_pair(per_text(labels, said[50]), per_text(labels, said[better]), ordered=False)
        assert pair.differences[0].told("B", "A") == line
    back = compare_pair(per_text(labels, said[90]), per_text(labels, said[50]), ordered=False)
    assert back.differences[0].told("B", "A").endswith(": A is better")
    assert (back.only_one, back.only_other, back.rows) == (40, 0, 100)
    # A lower loss is better.
    less = compare_pair(per_text(labels, said[50], np.ones(100)), per_text(labels, said[50]), False)
    assert less.differences[-1].told("B", "A") == "B - A: -1.000 (95 %: -1.000 to -1.000): B is better"
    # Only B is right on five texts: the interval leaves out 0, McNemar's test (p = 0.06) does not agree.
    five = compare_pair(
        per_text(labels, said[50]), per_text(labels, np.where(np.arange(100) < 55, 0, 1)), False
    )
    assert five.differences[0].low > 0 and five.p == pytest.approx(2 / 2**5)
    assert five.differences[0].told("B", "A").endswith(": not certain")


def test_texts_are_the_same_by_row_and_hash():
    one = per_text([0, 1, 2, 0], [0, 1, 2, 1], rows=[1, 3, 5, 7])
    other = per_text([1, 0, 2], [1, 1, 1], rows=[3, 5, 9], names=("so so", "good", "bad"))
    mine, theirs = align([one, other])
    assert mine.rows.tolist() == theirs.rows.tolist() == [3, 5]
    assert [mine.names[c] for c in mine.labels] == ["so so", "good"]
    assert [theirs.names[c] for c in theirs.labels] == ["good", "so so"]  # under the same list of classes
    changed = per_text([0, 1, 2, 0], [0, 1, 2, 1], rows=[1, 3, 5, 7], hashes=[7, 21, 0, 49])
    assert align([one, changed])[0].rows.tolist() == [1, 3, 7]
    assert not len(align([one, per_text([0], [0], rows=[2])])[0].rows)


def write(
    path: Path, texts: list[str], labels: list[str], predicted: list[str], loss: list[float], **note
) -> None:
    table = pa.table(
        {
            "row": pa.array(range(1, len(texts) + 1), pa.int64()),
            "text_hash": pa.array([hash(t) % 2**63 for t in texts], pa.uint64()),
            "text": texts, "label": labels, "predicted": predicted,
            "loss": pa.array(loss, pa.float32()),
        }
    )  # fmt: skip
    schema = with_note(table.schema, {"step": 5, "labels": list(NAMES), **note})
    parquet.write_table(table.cast(schema), path, row_group_size=16)


def test_the_texts_on_which_they_differ(tmp_path):
    num = 100
    texts = [f"text {i} " * 100 for i in range(num)]
    path = tmp_path / "test_predictions.parquet"
    labels = ["bad"] * num
    write(path, texts, labels, ["bad"] * num, [0.1] * num)
    metrics = {"test/accuracy": 1.0, "test/step": 5}
    one = read_per_text(tmp_path, "test", metrics)
    assert isinstance(one, PerText)
    # Rows 1 to 30: both wrong in other ways; 31 to 60: only one is right, the last with the largest loss.
    said = np.where(np.arange(num) < 60, 1, 0)
    first = np.where(np.arange(num) < 30, 2, 0)
    one = per_text(one.labels, first, one.loss, one.rows, hashes=one.hashes)
    one = PerText(path, *list(vars(one).values())[1:])
    other = per_text(one.labels, said, np.arange(num) / 10, one.rows, hashes=one.hashes)
    count, entries = disagreements([one, other])
    assert count == 60 and len(entries) == MOST_SHOWN
    assert [entry["row"] for entry in entries[:30]] == list(range(60, 30, -1))
    assert [entry["row"] for entry in entries[30:]] == list(range(30, 20, -1))
    assert entries[0]["said"] == [("bad", True), ("so so", False)] and entries[0]["label"] == "bad"
    assert all(entry["text"] == texts[entry["row"] - 1][:597] + "..." for entry in entries)


def test_a_file_that_is_not_of_the_figures(tmp_path):
    path = tmp_path / "test_predictions.parquet"
    metrics = {"test/accuracy": 0.5, "test/step": 5}
    assert read_per_text(tmp_path, "test", metrics) == "there is no test_predictions.parquet"
    write(path, ["a", "b"], ["bad", "bad"], ["bad", "good"], [0.1, 2.0])
    found = read_per_text(tmp_path, "test", metrics)
    assert isinstance(found, PerText) and found.predicted.tolist() == [0, 2] and note_of(path)["step"] == 5
    told = "test_predictions.parquet is not of the figures in metrics.json"
    for other in ({"test/step": 6}, {"test/accuracy": 0.75}):
        assert read_per_text(tmp_path, "test", metrics | other) == told
    write(path, ["a", "b"], ["bad", "bad"], ["bad", "unknown"], [0.1, 2.0])
    whole = path.read_bytes()
    for damaged in (whole, whole[:200], b"", b"PAR1"):
        path.write_bytes(damaged)
        assert read_per_text(tmp_path, "test", metrics) == "test_predictions.parquet cannot be read"
