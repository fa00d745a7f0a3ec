"""What the template of a classifier's report shows, made from `metrics.json` and `report.json`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lit_ft.report import charts
from lit_ft.report.analysis import per_class
from lit_ft.report.classifier_findings import class_findings, labels_may_be_doubted
from lit_ft.report.intervals import Interval, wilson
from lit_ft.report.scores import CLASSIFIER, SPLITS
from lit_ft.report.slices import slice_tables
from lit_ft.report.tables import decision_rows
from lit_ft.tasks import DECISIONS

MOST_LISTED = 150  # classes that get a row
MOST_IN_TABLE = 12  # classes that get a matrix; of more there is a ranked list
MOST_FREQUENT = 15  # mistakes of the list that are shown at once
# Of the table for readers without JavaScript, and for print: in percent; or for a model that is never so sure
# those that accept these shares of the texts.
THRESHOLDS, ACCEPTED_SHARES = (0, 50, 60, 70, 80, 90), (0.8, 0.6, 0.4, 0.2, 0.1)
SCRIPT = (Path(__file__).parent / "templates/report.js").read_text(encoding="utf-8").strip()


def classifier_values(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `classifier.html.j2`."""
    names = facts["labels"]
    evaluations = {}
    for prefix, split in SPLITS.items():
        if prefix in facts["evaluations"]:
            evaluations[prefix] = {
                **facts["evaluations"][prefix],
                "where": facts["splits"][split]["where"],
            }
    main = next(iter(evaluations), None)
    values: dict[str, Any] = {
        "names": names,
        "evaluations": evaluations,
        "main": main,
        "words": SPLITS,
        "scores": [s for s in CLASSIFIER if any(f"{prefix}/{s.name}" in metrics for prefix in evaluations)],
        "lengths": length_chart(facts),
        "decided": DECISIONS,
        "decisions": {
            prefix: decision_rows(found["decisions"]) if "decisions" in found else None
            for prefix, found in evaluations.items()
        },
    }
    if main is None:
        return values
    shown = evaluations[main]
    if not labels_may_be_doubted(main, metrics, facts):
        shown["mistakes"] = [{**entry, "suspect": False} for entry in shown["mistakes"]]
    mistakes = shown["mistakes"]
    ends = [metrics.get(f"{main}/accuracy_{end}") for end in ("low", "high")]
    return values | {
        "bounds": None if None in ends else ends,
        "rivals": _rivals(main, metrics, facts),
        "most_frequent": MOST_FREQUENT,
        "findings": class_findings(main, metrics, facts),
        "slices": slice_tables(shown, CLASSIFIER),
        "matrix": _matrix(shown.get("confusion")),
        "classes": _classes(shown, facts),
        "thresholds": _thresholds(shown["accepted"], ends),
        "calibrated_thresholds": _thresholds(shown["accepted_calibrated"], ends),
        "surest": max((t for t, count in enumerate(shown["accepted"]["accepted"]) if count), default=0),
        "near": _one_step_off(shown.get("confusion")) if facts.get("ordered") else None,
        "accepted": Markup(json.dumps(shown["accepted"], separators=(",", ":"))),  # numbers only
        "doubted": sum(entry["suspect"] for entry in mistakes),
        "mistaken": {
            "given": sorted({entry["label"] for entry in mistakes}),
            "said": sorted({entry["predicted"] for entry in mistakes}),
        },
    }


def _rivals(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The baselines and the model, each with its accuracy on the same texts."""
    found = facts.get("baselines", {})
    measured = found.get("evaluations", {}).get(prefix, {})
    none = {"low": None, "high": None, "seconds": None, "ours": False}
    rivals = []
    if commonest := measured.get("commonest"):
        name = f"always \u201c\u2068{facts['labels'][found['commonest']['class']]}\u2069\u201d"
        rivals.append({**none, "name": name, "accuracy": commonest["accuracy"]})
    if words := measured.get("words"):
        seconds = found["words"].get("seconds")
        rivals.append({**none, "name": "counting words", "accuracy": words["accuracy"], "seconds": seconds})
    ours = {
        "name": "this model",
        "accuracy": metrics[f"{prefix}/accuracy"],
        "low": metrics.get(f"{prefix}/accuracy_low"),
        "high": metrics.get(f"{prefix}/accuracy_high"),
        "seconds": metrics.get("train/seconds"),
        "ours": True,
    }
    return [*rivals, ours]


def _thresholds(counts: Mapping[str, list[int]], bounds: list[float | None]) -> list[dict[str, Any]]:
    """What a few least confidences accept, with the interval of the share that is right.

    Args:
        counts: `accepted` and `right` of each percent.
        bounds: The interval of the accuracy, which is that of accepting everything.
    """
    accepted, whole = counts["accepted"], counts["accepted"][0]
    chosen: tuple[int, ...] = THRESHOLDS
    if accepted[THRESHOLDS[-2]] < 0.02 * whole:
        found = {max(t for t, n in enumerate(accepted) if n >= share * whole) for share in ACCEPTED_SHARES}
        chosen = (0, *sorted(found - {0}))
    rows = []
    for t in chosen:
        ends = wilson(counts["right"][t], accepted[t])
        if accepted[t] == whole and None not in bounds:
            ends = Interval(*bounds)  # type: ignore[arg-type]
        rows.append({"least": t / 100, "accepted": accepted[t], "right": counts["right"][t], "ends": ends})
    return rows


def _one_step_off(counts: list[list[int]] | None) -> float | None:
    """The share of texts that get their class or one beside it."""
    if counts is None:
        return None
    near = sum(sum(row[max(0, c - 1) : c + 2]) for c, row in enumerate(counts))
    return near / max(1, sum(map(sum, counts)))


def _matrix(counts: list[list[int]] | None) -> list[dict[str, Any]] | None:
    """The rows of the confusion matrix, with each cell's share of its row; None beyond `MOST_IN_TABLE`."""
    if counts is None or len(counts) > MOST_IN_TABLE:
        return None
    rows = []
    for row in counts:
        total = sum(row)
        cells = [{"count": count, "share": round(count / max(total, 1), 3)} for count in row]
        rows.append({"cells": cells, "rows": total})
    return rows


def _classes(evaluation: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes, the lowest F1 first; those without texts last."""
    found = per_class(evaluation["class_counts"])
    trained = facts["splits"].get("train", {}).get("class_counts")
    ends = evaluation.get("intervals", {}).get("classes", {})
    order = sorted(range(len(found)), key=lambda c: (found[c]["rows"] == 0, found[c]["f1"], c))
    return [
        {
            **found[c],
            "name": facts["labels"][c],
            "predicted": evaluation["class_counts"]["predicted"][c],
            "trained": trained[c] if trained else None,
            "ends": ends.get(str(c)),
        }
        for c in order[:MOST_LISTED]
    ]


def length_chart(facts: Mapping[str, Any]) -> Markup | None:
    """The lengths of the training texts, and where they are cut."""
    histogram = facts["splits"].get("train", {}).get("histogram")
    if not histogram:
        return None
    title, most = "Length of the training texts", facts["max_tokens"]
    longer = facts["splits"]["train"]["max"] > histogram["edges"][-1]
    what = "tokens a text; the last bar: that and more" if longer else "tokens a text"
    drawn = charts.bars(histogram["edges"], histogram["counts"], title, what, most, f"cut at {most}")
    return Markup(drawn)
