"""The result of a fit in a few lines for a terminal: how good, beside what, and what to know."""

import textwrap
from collections.abc import Mapping
from typing import Any

from lit_ft.errors import one_line, shorten
from lit_ft.report.classifier_findings import class_findings
from lit_ft.report.findings import Finding
from lit_ft.report.multi_label_findings import main_figure, tag_findings
from lit_ft.report.regression_findings import regression_findings, unit_of
from lit_ft.report.scores import SPLITS
from lit_ft.report.slices import lines_of_slices
from lit_ft.report.tables import duration, number, percent

MOST_FINDINGS = 3  # the page has the others


def verdict(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any], width: int = 80) -> list[str]:
    """The lines.

    Args:
        prefix: `test` or `val`.
        metrics: `metrics.json`.
        facts: `report.json`.
        width: Of the terminal, in letters.
    """
    headline, told_by = KINDS[facts["kind"]]
    told = [found for found in told_by(prefix, metrics, facts) if found.level != "good"]
    lines = headline(prefix, metrics, facts) + lines_of_slices(facts["evaluations"][prefix])
    for found in told[:MOST_FINDINGS]:
        lines += _wrapped(found, width)
    if len(told) > MOST_FINDINGS:
        lines.append(f"  ... and {len(told) - MOST_FINDINGS} more in the report")
    return lines


def _of_classes(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    rows = facts["evaluations"][prefix]["rows"]
    line = f"{percent(metrics[f'{prefix}/accuracy'])} of the {rows:,} {SPLITS[prefix]} texts are right"
    low, high = (metrics.get(f"{prefix}/accuracy_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        line += f" (95 %: {100 * low:.1f} to {100 * high:.1f})"
    return [line, *_baselines(prefix, facts)]


def _baselines(prefix: str, facts: Mapping[str, Any]) -> list[str]:
    """What needs no encoder, on the same texts."""
    found = facts.get("baselines", {})
    measured = found.get("evaluations", {}).get(prefix, {})
    parts = []
    if commonest := measured.get("commonest"):
        name = shorten(one_line(facts["labels"][found["commonest"]["class"]]))
        parts.append(f'always "{name}" {percent(commonest["accuracy"])}')
    if words := measured.get("words"):
        took = found["words"].get("seconds")
        parts.append(
            f"counting words {percent(words['accuracy'])}" + (f" ({duration(took)})" if took else "")
        )
    return [f"  beside it: {', '.join(parts)}"] if parts else []


def _of_numbers(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    shown, rows = unit_of(facts), facts["evaluations"][prefix]["rows"]
    name, mae = shorten(one_line(facts["labels"][0])), shown(metrics[f"{prefix}/mae"])
    line = f"{name}: off by {mae} on average on the {rows:,} {SPLITS[prefix]} texts"
    low, high = (metrics.get(f"{prefix}/mae_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        line += f" (95 %: {shown(low)} to {shown(high)})"
    found = facts.get("baselines", {})
    measured, parts = found.get("evaluations", {}).get(prefix, {}), []
    for name in ("mean", "median"):
        if name in measured:
            parts.append(f"always the {name} {shown(measured[name]['mae'])}")
    if words := measured.get("words"):
        took = found["words"].get("seconds")
        parts.append(f"counting words {shown(words['mae'])}" + (f" ({duration(took)})" if took else ""))
    return [line, *([f"  beside it: {', '.join(parts)}"] if parts else [])]


def _of_tags(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    evaluation = facts["evaluations"][prefix]
    main, rows = main_figure(prefix, facts), evaluation["rows"]
    low, high = (metrics.get(f"{prefix}/{main}_{end}") for end in ("low", "high"))
    line = f"micro F1 {number(metrics[f'{prefix}/{main}'], 3)} on the {rows:,} {SPLITS[prefix]} texts"
    if low is not None and high is not None:
        line += f" (95 %: {number(low, 3)} to {number(high, 3)})"
    if evaluation["fitted_here"]:
        chosen = number(metrics[f"{prefix}/micro_f1_chosen"], 3)
        line += f"; {chosen} at each label's own threshold, fitted on these texts"
    found = facts.get("baselines", {})
    measured, parts = found.get("evaluations", {}).get(prefix, {}), []
    if commonest := measured.get("commonest"):
        names = ", ".join(f'"{shorten(one_line(facts["labels"][c]))}"' for c in found["commonest"]["labels"])
        parts.append(f"always {names or 'no label'} {number(commonest['micro_f1'], 3)}")
    if words := measured.get("words"):
        took = found["words"].get("seconds")
        parts.append(
            f"counting words {number(words['micro_f1'], 3)}" + (f" ({duration(took)})" if took else "")
        )
    if not evaluation["fitted_here"] and parts:
        parts.append(f"this model from 0.5 on {number(metrics[f'{prefix}/micro_f1'], 3)}")
    return [line, *([f"  beside it: {', '.join(parts)}"] if parts else [])]


# By the kind of report: the first lines, and the findings.
KINDS = {
    "classifier": (_of_classes, class_findings),
    "multi_label": (_of_tags, tag_findings),
    "regression": (_of_numbers, regression_findings),
}


def _wrapped(found: Finding, width: int) -> list[str]:
    mark = "  ! " if found.level == "bad" else "  - "
    return textwrap.wrap(
        found.plain(),
        max(width, 40),
        initial_indent=mark,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
