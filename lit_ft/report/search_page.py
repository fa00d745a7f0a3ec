"""`search.html`: made of `search.json` alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lit_ft import runs
from lit_ft.report.page import render
from lit_ft.report.scores import SCORES, SPLITS
from lit_ft.report.tables import duration, number
from lit_ft.report.trial_charts import trial_chart

SHAPES = {"finished": "dot", "pruned": "triangle", "failed": "cross", "running": "cross"}


def write_search(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Write the page of a search from the contents of its `search.json`; returns its path."""
    path = folder / runs.SEARCH_REPORT
    runs.write(path, render("search.html.j2", metrics={}, **search_values(facts)))
    return path


def search_values(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows."""
    trials = facts["trials"]
    best = None if facts["best"] is None else trials[facts["best"]]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in SHAPES}
    seconds = [trial["seconds"] for trial in trials if trial["seconds"] is not None]
    return {
        **facts,
        "lead": lead(facts),
        "best_trial": best,
        "rows": [_row(entry, best) for entry in facts["space"]],
        "counted": ", ".join(f"{count} {state}" for state, count in counts.items() if count),
        "took": duration(sum(seconds)) if seconds else "",
        "finals_rows": _finals(facts["finals"]),
        "texts": SPLITS[facts["finals"]["measured"]] if facts["finals"] else "",
        "over_time": Markup(_over_time(facts)),
        "charts": [Markup(chart) for entry in facts["space"] if (chart := _chart(entry, facts))],
        "bars": _bars(facts["importance"]),
        "trial_rows": [_trial_row(trial, facts) for trial in trials],
        "keys": [entry["key"] for entry in facts["space"]],
    }


def lead(facts: Mapping[str, Any]) -> str:
    """The answer in one sentence."""
    if facts["best"] is None:
        return "No trial has ended with a figure yet."
    if facts["finals"] is not None:
        sentence = facts["finals"]["sentence"]
        return f"{sentence[0].upper()}{sentence[1:]}."
    return (
        f"Trial {facts['best']} is the best so far. What it is worth is not known: it has not run again with "
        "new seeds, on texts that chose nothing."
    )


def _row(entry: Mapping[str, Any], best: Mapping[str, Any] | None) -> dict[str, Any]:
    value = None if best is None else best["values"][entry["key"]]
    return {
        "key": entry["key"],
        "text": entry["text"],
        "own": setting_shown(entry["own"]),
        "best": setting_shown(value),
    }


def setting_shown(value: Any) -> str:
    """A value of a setting as a config has it; 3e-3, which was chosen from a list, as 0.003."""
    if (
        isinstance(value, str)
        and re.fullmatch(r"[-+]?\d*(\.\d*)?([eE][-+]?\d+)?", value)
        and not value.isdecimal()
    ):
        value = float(value) if any(map(str.isdecimal, value)) else value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"  # as the console has it
    return str(value)


def _finals(finals: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """A row for each figure: of the best settings and of the start's, and their difference."""
    if finals is None:
        return []
    differences = {one["name"]: one for one in finals["differences"]}
    rows = []
    for score in SCORES[finals["kind"]]:
        if (own := finals["start"].get(score.name)) is None:
            continue
        of = (finals["best"] or {}).get(score.name)
        difference = differences.get(score.name)
        rows.append(
            {
                "words": score.words,
                "own": _with_interval(own),
                "best": _with_interval(of) if of else "",
                "told": difference["told"] if difference else "",
                "verdict": difference["verdict"] if difference else "",
                "main": score.name == finals["main"],
            }
        )
    return rows


def _with_interval(of: Mapping[str, Any]) -> str:
    """`0.842 (seeds 0.831 to 0.850)`."""
    seeds = of["seeds"]["values"]
    if len(seeds) < 2:
        return number(of["value"], 3)
    return f"{number(of['value'], 3)} (seeds {number(min(seeds), 3)} to {number(max(seeds), 3)})"


# ---- charts ------------------------------------------------------------------------------------------


def _points(
    facts: Mapping[str, Any], places: Sequence[float | None]
) -> list[tuple[float, float | None, str]]:
    """A point a trial, and a ring around the best one."""
    found = []
    for trial, x in zip(facts["trials"], places, strict=True):
        if x is None or trial["state"] == "running":
            continue
        found.append((x, trial["value"], SHAPES[trial["state"]]))
        if trial["number"] == facts["best"]:
            found.append((x, trial["value"], "ring"))
    return found


def _over_time(facts: Mapping[str, Any]) -> str:
    places = [float(trial["number"]) for trial in facts["trials"]]
    points = _points(facts, places)
    better = facts["maximise"]
    return trial_chart(points, f"{facts['monitor']} of each trial", "trial", higher_is_better=better)


def _chart(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The figure over one setting."""
    values = [trial["values"].get(entry["key"]) for trial in facts["trials"]]
    names = entry.get("values", [])
    places = [None if v is None else float(names.index(v)) if names else float(v) for v in values]
    points = _points(facts, places)
    return trial_chart(
        points,
        entry["key"],
        "value",
        names=names,
        log=bool(entry.get("log")),
        higher_is_better=facts["maximise"],
    )


def _bars(importance: Mapping[str, float] | None) -> list[tuple[str, float]]:
    return sorted((importance or {}).items(), key=lambda item: -item[1])


def _trial_row(trial: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    has_report = trial["state"] in ("finished", "pruned")
    state = trial["state"]
    if state == "pruned" and trial["pruned_at"] is not None:
        state = f"pruned after {trial['pruned_at']:.0f} %"
    return {
        **trial,
        "shown": [setting_shown(trial["values"].get(entry["key"])) for entry in facts["space"]],
        "figure": number(trial["value"], 4),
        "said": state,
        "took": duration(trial["seconds"]),
        "link": f"{trial['folder']}/report.html" if has_report else f"logs/{trial['folder']}.txt",
        "best": trial["number"] == facts["best"],
    }
