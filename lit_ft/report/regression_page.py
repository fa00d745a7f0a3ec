"""What the template of a report shows of a model that predicts numbers."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from lit_ft.errors import one_line, shorten
from lit_ft.report import charts
from lit_ft.report.classifier_page import length_chart
from lit_ft.report.regression_findings import regression_findings, unit_of
from lit_ft.report.scores import SPLITS, scores_of_run
from lit_ft.report.slices import slice_tables

FIRST = 10  # of the largest errors that are shown at once


def regression_values(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `regression.html.j2`."""
    evaluations = {
        prefix: {**facts["evaluations"][prefix], "where": facts["splits"][split]["where"]}
        for prefix, split in SPLITS.items()
        if prefix in facts["evaluations"]
    }
    main = next(iter(evaluations), None)
    scores = scores_of_run(facts)
    values: dict[str, Any] = {
        "name": facts["labels"][0],
        "shown": unit_of(facts),
        "evaluations": evaluations,
        "main": main,
        "words": SPLITS,
        "scores": [s for s in scores if any(f"{prefix}/{s.name}" in metrics for prefix in evaluations)],
        "lengths": length_chart(facts),
    }
    if main is None:
        return values
    evaluation, label = evaluations[main], shorten(one_line(facts["labels"][0]), 40)
    drawn = charts.scatter(evaluation["scatter"], "Predicted and true numbers", f"true {label}", "predicted")
    rivals = _rivals(main, metrics, facts)
    return values | {
        "rivals": rivals,
        "worst": max(rival["mae"] for rival in rivals) or 1.0,
        "findings": regression_findings(main, metrics, facts),
        "scatter": Markup(drawn),
        "slices": slice_tables(evaluation, scores),
        "first": FIRST,
    }


def _rivals(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The baselines and the model, each with its mean absolute error on the same texts."""
    found, shown = facts.get("baselines", {}), unit_of(facts)
    measured = found.get("evaluations", {}).get(prefix, {})
    none = {"low": None, "high": None, "seconds": None, "ours": False}
    rivals = []
    for name in ("mean", "median"):
        if name in measured:
            words = f"always the training {name}, {shown(found[name]['value'])}"
            rivals.append(
                {**none, "name": words, "mae": measured[name]["mae"], "r2": measured[name].get("r2")}
            )
    if words := measured.get("words"):
        seconds = found["words"].get("seconds")
        rivals.append(
            {**none, "name": "counting words", "mae": words["mae"], "r2": words.get("r2"), "seconds": seconds}
        )
    ours = {
        "name": "this model",
        "mae": metrics[f"{prefix}/mae"],
        "low": metrics.get(f"{prefix}/mae_low"),
        "high": metrics.get(f"{prefix}/mae_high"),
        "r2": metrics.get(f"{prefix}/r2"),
        "seconds": metrics.get("train/seconds"),
        "ours": True,
    }
    return [*rivals, ours]
