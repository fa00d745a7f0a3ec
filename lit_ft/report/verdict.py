"""The result of a classifier in a few lines for a terminal: how good, beside what, and what to know."""

import textwrap
from collections.abc import Mapping
from typing import Any

from lit_ft.errors import one_line, shorten
from lit_ft.report.findings import Finding, findings
from lit_ft.report.scores import SPLITS
from lit_ft.report.tables import duration, percent

MOST_FINDINGS = 3  # the page has the others


def verdict(prefix: str, metrics: Mapping[str, Any], facts: Mapping[str, Any], width: int = 80) -> list[str]:
    """The lines.

    Args:
        prefix: `test` or `val`.
        metrics: `metrics.json`.
        facts: `report.json`.
        width: Of the terminal, in letters.
    """
    rows = facts["evaluations"][prefix]["rows"]
    line = f"{percent(metrics[f'{prefix}/accuracy'])} of the {rows:,} {SPLITS[prefix]} texts are right"
    low, high = (metrics.get(f"{prefix}/accuracy_{end}") for end in ("low", "high"))
    if low is not None and high is not None:
        line += f" (95 %: {100 * low:.1f} to {100 * high:.1f})"
    lines = [line, *_baselines(prefix, facts)]
    told = [found for found in findings(prefix, metrics, facts) if found.level != "good"]
    for found in told[:MOST_FINDINGS]:
        lines += _wrapped(found, width)
    if len(told) > MOST_FINDINGS:
        lines.append(f"  ... and {len(told) - MOST_FINDINGS} more in the report")
    return lines


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
