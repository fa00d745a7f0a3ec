"""`fold_predictions.parquet` made by hand: the runs of a repeat that were never trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from lit_ft import runs
from lit_ft.report.pairs import with_note
from lit_ft.report.pooled import Repetition


def repetition(folder: Path, seed: int, fold: int, columns: dict[str, Any], **note: Any) -> Repetition:
    """A run with this file, whose `row` is given; texts, their hashes and what is missing are made up."""
    run = folder / f"seed_{seed}_fold_{fold}"
    run.mkdir(parents=True)
    rows = list(columns["row"])
    texts = columns.get("text", [f"text {row}" for row in rows])
    table = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "text_hash": pa.array([crc32(text.encode()) for text in texts], pa.uint64()),
            "text": texts,
            **columns,
            "loss": pa.array(columns["loss"], pa.float32()),
            "cut": [False] * len(rows),
        }
    )
    note = {"kind": "classifier", "split": "fold", "step": 5, **note}
    parquet.write_table(table.cast(with_note(table.schema, note)), run / runs.PER_TEXT["fold"])
    return Repetition(seed, fold, 1.0, run)


def of_classes(
    rows: Sequence[int], labels: Sequence[int], probabilities: Any, names: Sequence[str], listed: int = 0
) -> dict[str, Any]:
    """The columns of classes: a probability each, or the likeliest `listed`."""
    shares = np.asarray(probabilities, np.float64)
    given = [names[c] for c in labels]
    columns: dict[str, Any] = {
        "row": list(rows), "label": given, "predicted": [names[c] for c in shares.argmax(1)],
        "loss": -np.log(np.maximum(shares[np.arange(len(given)), list(labels)], 1e-30)),
    }  # fmt: skip
    if not listed:
        shown = {f"probability_{name}": shares[:, c].astype(np.float32) for c, name in enumerate(names)}
        return columns | shown
    best = np.argsort(-shares, axis=1, kind="stable")[:, :listed]
    return columns | {
        "likeliest": [[names[c] for c in row] for row in best],
        "likeliest_probabilities": pa.array(
            [shares[i, row].tolist() for i, row in enumerate(best)], pa.list_(pa.float32())
        ),
    }
