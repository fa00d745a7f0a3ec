"""Run folders of a repeat that were never trained: the files of texts are written by hand."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from lit_ft import runs
from lit_ft.report.intervals import scores_of
from lit_ft.report.multi_label import CHOSEN, scores_of_tags
from lit_ft.report.pairs import with_note
from lit_ft.report.pooled import Repetition
from lit_ft.report.regression import number_scores

NAMES = ("bad", "so so", "good")
NASTY_NAMES = ("<script>x</script>", "الدفع", "&")


def written(
    one: Repetition,
    prefix: str,
    rows: Sequence[int],
    labels: np.ndarray,
    predicted: np.ndarray,
    kind: str = "classifier",
    names: Sequence[str] = NAMES,
    ordered: bool = False,
    **metrics: float,
) -> Repetition:
    """A run that said this of these rows, with its figures in `metrics.json`."""
    if kind == "regression":
        scores = number_scores(labels, predicted)
        columns: dict[str, Any] = {"label": labels, "predicted": predicted}
    elif kind == "multi_label":
        scores = {f"{name}{CHOSEN}": value for name, value in scores_of_tags(labels, predicted).items()}
        columns = {
            name: [[names[c] for c in np.flatnonzero(row)] for row in tags]
            for name, tags in (("label", labels), ("predicted", predicted))
        }
    else:
        scores = scores_of(labels, predicted, len(names), ordered)
        columns = {name: [names[c] for c in of] for name, of in (("label", labels), ("predicted", predicted))}
    wrong = (np.asarray(labels) != predicted).reshape(len(labels), -1).any(1)
    table = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "text_hash": pa.array([int(row) * 7 for row in rows], pa.uint64()),
            "text": [f"<i>text</i> {row}" for row in rows],
            **columns,
            "loss": pa.array(np.where(wrong, 2.0, 0.1), pa.float32()),
        }
    )
    one.folder.mkdir(parents=True, exist_ok=True)
    note = {"step": 5, "labels": list(names)}
    parquet.write_table(table.cast(with_note(table.schema, note)), one.folder / runs.PER_TEXT[prefix])
    found = {f"{prefix}/{name}": float(value) for name, value in scores.items()}
    found |= {f"{prefix}/step": 5, f"{prefix}/rows": len(rows), "fit/seconds": 90.0} | metrics
    kept = runs.read_metrics(one.folder)
    (one.folder / runs.METRICS).write_text(json.dumps(kept | found))
    facts = {"kind": kind, "labels": list(names), "ordered": ordered}
    (one.folder / runs.FACTS).write_text(json.dumps(facts))
    return one


def answers(num_rows: int, share: float, seed: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels, the same for all seeds, and answers of which about this share is right: (N,) int64 each."""
    labels = np.random.default_rng(0).integers(0, classes, num_rows)
    rng = np.random.default_rng(seed)
    wrong = (labels + rng.integers(1, classes, num_rows)) % classes
    return labels, np.where(rng.random(num_rows) < share, labels, wrong)


def repeat(
    folder: Path,
    num_rows: int = 60,
    seeds: Sequence[int] = (42, 43),
    folds: int = 3,
    share: float = 1.0,
    rate: float = 0.8,
    ordered: bool = False,
    **metrics: float,
) -> list[Repetition]:
    """A classifier's runs of each seed and fold, row i in fold i % `folds` + 1; right at about this rate."""
    found = []
    for seed in seeds:
        labels, said = answers(num_rows, rate, seed)
        for fold in range(1, folds + 1):
            rows = np.arange(num_rows)[np.arange(num_rows) % folds == fold - 1]
            one = Repetition(seed, fold, share, folder / f"seed_{seed}_fold_{fold}")
            found.append(written(one, "fold", rows + 1, labels[rows], said[rows], ordered=ordered, **metrics))
    return found


def beside(one: Repetition, prefix: str, words: float, ours: int, theirs: int) -> None:
    """Give a run word counts: their accuracy, and on how many texts only one of both is right."""
    runs.add_metrics(
        one.folder,
        {f"baseline/words/{prefix}/accuracy": words, f"baseline/commonest/{prefix}/accuracy": 0.4},
    )
    found = {"accuracy": words, "only_model_right": ours, "only_baseline_right": theirs}
    runs.add_facts(one.folder, {"baselines": {"evaluations": {prefix: {"words": found}}}})
