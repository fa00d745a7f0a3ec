"""What the template of a report shows of a model of several labels, from `metrics.json` and `report.json`."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from lit_ft.report import charts
from lit_ft.report.analysis import per_class
from lit_ft.report.classifier_page import MOST_LISTED, length_chart
from lit_ft.report.multi_label import CHOSEN
from lit_ft.report.multi_label_findings import main_figure, tag_findings
from lit_ft.report.scores import MULTI_LABEL, SPLITS
from lit_ft.report.slices import slice_tables

MOST_PAIRS = 12  # that are shown at once


def tag_values(facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `multi_label.html.j2`."""
    evaluations = {
        prefix: {**facts["evaluations"][prefix], "where": facts["splits"][split]["where"]}
        for prefix, split in SPLITS.items()
        if prefix in facts["evaluations"]
    }
    main = next(iter(evaluations), None)
    values: dict[str, Any] = {
        "names": facts["labels"],
        "evaluations": evaluations,
        "main": main,
        "words": SPLITS,
        "scores": [s for s in MULTI_LABEL if any(f"{prefix}/{s.name}" in metrics for prefix in evaluations)],
        "lengths": length_chart(facts),
    }
    if main is None:
        return values
    shown, figure = evaluations[main], main_figure(main, facts)
    mistakes = shown["mistakes"]
    return values | {
        "figure_name": figure,
        "at": "from probability 0.5 on" if figure != f"micro_f1{CHOSEN}" else _at(facts),
        "bounds": [metrics.get(f"{main}/{figure}_{end}") for end in ("low", "high")],
        "shares": _shares(shown["class_counts_at_half" if figure == "micro_f1" else "class_counts"]),
        "rivals": _rivals(main, metrics, facts),
        "findings": tag_findings(main, metrics, facts),
        "slices": slice_tables(shown, MULTI_LABEL),
        "labels": _labels(shown, facts),
        "pairs": shown["pairs"],
        "most_pairs": MOST_PAIRS,
        "curve": _curve(shown),
        "mistaken": {
            kind: sorted({c for entry in mistakes for c, _ in entry[kind]}) for kind in ("missed", "wrong")
        },
    }


def _at(facts: Mapping[str, Any]) -> str:
    """Where the thresholds are, in words."""
    given = facts.get("threshold")
    return f"from probability {given:g} on" if given is not None else "each label from its own threshold on"


def _shares(counts: Mapping[str, list[int]]) -> dict[str, float]:
    """Precision and recall of all labels together."""
    rows, predicted, right = (sum(counts[key]) for key in ("rows", "predicted", "right"))
    return {"precision": right / max(predicted, 1), "recall": right / max(rows, 1)}


def _rivals(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The baselines and the model, each with its figures on the same texts; all but the last from 0.5 on."""
    found = facts.get("baselines", {})
    measured = found.get("evaluations", {}).get(prefix, {})
    none = {"low": None, "high": None, "seconds": None, "ours": False}
    rivals = []
    for name in ("commonest", "words"):
        if not (of := measured.get(name)):
            continue
        words, seconds = "counting words", found[name].get("seconds")
        if name == "commonest":
            labels = ", ".join(f"\u201c\u2068{facts['labels'][c]}\u2069\u201d" for c in found[name]["labels"])
            words = f"always {labels or 'no label'}"
        rivals.append({**none, **of, "name": words, "seconds": seconds})
    for end, at in (("", "from 0.5 on"), (CHOSEN, "at its thresholds")):
        names = {name: f"{prefix}/{name}{end}" for name in ("micro_f1", "macro_f1", "subset_accuracy")}
        if fitted := end and facts["evaluations"][prefix]["fitted_here"]:
            at += ", fitted on these texts"
        rivals.append(
            {
                **{name: metrics[tag] for name, tag in names.items()},
                "name": f"this model, {at}",
                "low": metrics.get(f"{names['micro_f1']}_low"),
                "high": metrics.get(f"{names['micro_f1']}_high"),
                "seconds": metrics.get("train/seconds"),
                "ours": not fitted,
            }
        )
    return rivals


def _labels(evaluation: Mapping[str, Any], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The labels, the lowest F1 first; those without texts last."""
    counts = evaluation["class_counts"]
    found, half = per_class(counts), per_class(evaluation["class_counts_at_half"])
    trained = facts["splits"].get("train", {}).get("class_counts")
    ends = evaluation.get("intervals", {}).get("classes", {})
    order = sorted(range(len(found)), key=lambda c: (found[c]["rows"] == 0, found[c]["f1"], c))
    return [
        {
            **found[c],
            "label": c,
            "name": facts["labels"][c],
            "trained": trained[c] if trained else None,
            "predicted": counts["predicted"][c],
            "missed": counts["rows"][c] - counts["right"][c],
            "wrong": counts["predicted"][c] - counts["right"][c],
            "f1_at_half": half[c]["f1"],
            "average_precision": evaluation["average_precisions"][c],
            "threshold": evaluation["thresholds"][c],
            "ends": ends.get(str(c)),
        }
        for c in order[:MOST_LISTED]
    ]


def _curve(evaluation: Mapping[str, Any]) -> Markup | None:
    """Precision and recall of all labels together over one threshold of all."""
    if len(evaluation["curve"]) < 2:
        return None
    lines = {
        name: [(point[0], point[i]) for point in evaluation["curve"]]
        for i, name in (
            (1, "precision: of the labels given, right"),
            (2, "recall: of the labels there are, found"),
        )
    }
    return Markup(charts.lines(lines, "One threshold for all labels", "threshold"))
