"""What a report says of a split: how many texts, of which classes, how long, and what the cut loses."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_ft.splits import Split, SplitName, asks_hub, origin

NUM_BARS = 50
ORDER: tuple[SplitName, ...] = ("train", "validation", "test")


def length_facts(full: np.ndarray, kept: np.ndarray) -> dict[str, Any]:
    """Facts of token counts, (N,) each: before the cut to `max_tokens`, and after it."""
    most = int(np.percentile(full, 99.5)) + 1  # the rare giant would squeeze all others into one bar
    counts, edges = np.histogram(np.minimum(full, most), bins=min(NUM_BARS, most), range=(0, most))
    return {
        "rows": len(full),
        "tokens": int(full.sum()),
        "mean": float(full.mean()),
        "median": float(np.median(full)),
        "p95": float(np.percentile(full, 95)),
        "max": int(full.max()),
        "cut_rows": int((full > kept).sum()),
        "cut_tokens": int((full - kept).sum()),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def corpus_facts(splits: Mapping[SplitName, Split], settings: Mapping[str, Any], num_labels: int) -> dict:
    """The facts of each split that was read; `settings` are the data module's."""
    found: dict[str, Any] = {}
    for name in filter(splits.__contains__, ORDER):
        split = splits[name]
        where = settings[f"{name}_path"] or settings["source"]
        own = origin(settings, name) is not None
        found[name] = split_facts(split, num_labels, where if own else "held out of train")
        found[name]["from_hub"] = asks_hub(settings, name if own else "train")
    return found


def split_facts(split: Split, num_labels: int, where: str) -> dict[str, Any]:
    """The facts of a classifier's split, as plain values."""
    full = split.rows.encoded.data.column("full_length").to_numpy().astype(np.int64)[split.rows.positions]
    facts = {**length_facts(full, split.rows.lengths), "where": where, "fingerprint": split.fingerprint}
    facts["empty_rows"] = len(split.table) - len(split.texts)
    if split.labels is not None:
        facts["class_counts"] = np.bincount(split.labels, minlength=num_labels).tolist()
    return facts
