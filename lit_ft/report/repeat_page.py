"""`repeat.html` and the lines of the terminal, made of `repeat.json` alone."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report import charts
from lit_ft.report.page import render
from lit_ft.report.repeat_facts import (
    HEADLINES,
    ends_of_headline,
    headline_of,
    main_of,
    shown,
    spread,
    told_gain,
    told_luck,
    told_texts,
    who_said,
)
from lit_ft.report.tables import aligned, number, percent

MOST_AT_ONCE = 20  # classes, and labels to check, before the rest is folded away
MOST_TABLED = 3  # scores in the terminal's table
MOST_NOTES = 3  # lines about what is missing; the page has all


def write_repeat(folder: Path, facts: dict[str, Any]) -> Path:
    """Write `repeat.json` and the page made of it; returns the page's path."""
    written = runs.write_values(folder / runs.REPEAT, facts)
    runs.write(folder / runs.REPEAT_REPORT, render("repeat.html.j2", **page_values(folder, written)))
    return folder / runs.REPEAT_REPORT


def read_repeat(folder: Path) -> dict[str, Any]:
    """The `repeat.json` of a folder.

    Raises:
        UserError: It has no results, or is damaged.
    """
    path = folder / runs.REPEAT
    facts = runs.read_values(path, "give the same `repeat` again, which writes it")
    if not facts.get("results"):
        raise UserError(f"{path} has no results yet; give the same `repeat` again: it does what is missing")
    return facts


# ---- the page ----------------------------------------------------------------------------------------


def page_values(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `repeat.html.j2`."""
    main, found = main_of(facts)
    headline = HEADLINES[facts["kind"]]
    name = headline.score
    score, plan = found["scores"][name], facts["plan"]
    planned = plan["runs"]
    return {
        "title": folder.absolute().name,
        "run": f"{folder.absolute().parent.name}/{folder.absolute().name}",
        "facts": facts,
        "plan": plan,
        "found": found,
        "score": score,
        "headline": headline_of(facts, main),
        "interval": ends_of_headline(facts, main),
        "who": who_said(found),
        "others": [_sentence(facts, prefix) for prefix in facts["results"] if prefix != main],
        "rivals": _rivals(facts, main),
        "beside_words": facts["results"][main]["baselines"],
        "gain": told_gain(facts, main),
        "luck": told_luck(facts, main),
        "chart": Markup(_chart(found, name)),
        "tables": [
            (f"{told_texts(of).removeprefix('the ')}, {who_said(of)}", _table(of))
            for of in facts["results"].values()
        ],
        "each": [{**one, "bar": round(100 * one["value"], 1)} for one in found["each"]],
        "levels": _levels(found, score),
        "at_once": MOST_AT_ONCE,
        "curve": facts.get("curve"),
        "labels": facts.get("labels"),
        "done": sum(bool(one["done"]) for one in planned),
        "seconds": sum(one["seconds"] or 0 for one in planned),
        "runs": [
            {
                **one,
                "shown": shown(name, score, one["figure"]),
                "href": f"{quote(one['folder'])}/{runs.REPORT}",
            }
            for one in planned
        ],
        "settings": sorted(plan.get("settings", {}).items()),
        "metrics": {},
        "main_score": score["words"],
        "noun": headline.noun,
        "shares": len({one["share"] for one in planned}) > 1,
        **_curve_values(facts, name, score),
    }


def _curve_values(facts: Mapping[str, Any], name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    """The chart and the rows of the learning curve, whose chart escapes its own words."""
    curve = facts.get("curve") or {}
    rows = [
        [
            percent(row["share"]),
            number(row["texts"]),
            shown(name, score, row["figure"]),
            _ends(name, score, row["low"], row["high"]),
            ", ".join(shown(name, score, value) for value in row["by_seed"]),
            shown(name, score, row["baseline"]),
        ]
        for row in curve.get("rows", ())
    ]
    told = curve.get("sentences") or curve.get("words") or []
    drawn = Markup(curve["chart"]) if curve.get("chart") else None
    return {"told_of_curve": told, "curve_rows": rows, "chart_of_curve": drawn}


def _sentence(facts: Mapping[str, Any], prefix: str) -> str:
    """`61.0 % of the 1,000 test texts are right (95 %: 58.0 to 64.1), as a mean of 15 models`."""
    ends = ends_of_headline(facts, prefix)
    told = f" (95 %: {ends})" if ends else ""
    return f"{headline_of(facts, prefix)}{told}, {who_said(facts['results'][prefix])}"


def _rivals(facts: Mapping[str, Any], prefix: str) -> list[dict[str, Any]]:
    """The baselines and the runs, each with a bar."""
    found, headline = facts["results"][prefix], HEADLINES[facts["kind"]]
    score, beside = found["scores"][headline.score], found["baselines"]
    if not beside:
        return []
    rows = [{**row, "low": None, "high": None, "ours": False} for row in beside["rows"]]
    rows.append({"name": "this model", **{key: score[key] for key in ("value", "low", "high")}, "ours": True})
    rows = [row for row in rows if row["value"] is not None]
    # An error has no natural end: the longest bar is the largest one.
    most = 1.0
    if score["higher_is_better"] is False:
        most = max(max(row["value"], row["high"] or 0) for row in rows) or 1.0
    for row in rows:
        row |= {"shown": shown(headline.score, score, row["value"]), "bar": _share(row["value"], most)}
        row["whisker"] = None
        if row["low"] is not None:
            low, high = _share(row["low"], most), _share(row["high"], most)
            row["whisker"] = (low, round(high - low, 1))
            row["ends"] = " to ".join(shown(headline.score, score, row[end]) for end in ("low", "high"))
    return rows


def _share(value: float, most: float) -> float:
    return round(100 * min(max(value / most, 0.0), 1.0), 1)


def _chart(found: Mapping[str, Any], name: str) -> str:
    """The figure of all, of each seed, of each fold and of each run."""
    score = found["scores"][name]
    scale = 100 if shown(name, score, 0.5).endswith("%") else 1
    rows = {"all together": [score["value"]]}
    rows["seeds"] = score["seeds"]["values"] if len(found["seeds"]) > 1 else []
    rows["folds"] = score["folds"]["values"] if score["folds"] and len(found["folds"]) > 1 else []
    several = len(found["seeds"]) > 1 and len(found["folds"] or ()) > 1
    rows["single runs"] = score["runs"] if several else []
    drawn = {key: [value * scale for value in values if value is not None] for key, values in rows.items()}
    words = [
        row["value"]
        for row in (found["baselines"] or {}).get("rows", [])
        if row["name"] == "counting words" and found["baselines"]["score"] == name
    ]
    ends = None if score["low"] is None else (score["low"] * scale, score["high"] * scale)
    xlabel = f"{score['words']}{', %' if scale == 100 else ''}; the bar: 95 % interval over texts"
    mark = words[0] * scale if words else None
    return charts.dots(drawn, "How far the figure differs", xlabel, ends, mark, "counting words")


def _table(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row a score: its value, its interval, and how far seeds, folds and single runs differ."""
    rows = []
    for name, score in found["scores"].items():
        seeds, folds = score["seeds"], score["folds"]
        values = [value for value in score["runs"] if value is not None]
        rows.append(
            {
                "words": score["words"],
                "value": shown(name, score, score["value"]),
                "interval": _ends(name, score, score["low"], score["high"]),
                "seeds": spread(name, score, seeds["sd"]),
                "seeds_range": _ends(name, score, seeds["low"], seeds["high"])
                if seeds["sd"] is not None
                else "",
                "folds": spread(name, score, folds["sd"]) if folds else "\u2013",
                "folds_range": _ends(name, score, folds["low"], folds["high"])
                if folds and folds["sd"] is not None
                else "",
                "single": _ends(name, score, min(values), max(values)) if len(values) > 1 else "\u2013",
            }
        )
    return rows


def _range(name: str, score: Mapping[str, Any], of: Mapping[str, Any] | None) -> str:
    """The lowest and highest of several values; "" of one."""
    return _ends(name, score, of["low"], of["high"]) if of and of["sd"] is not None else ""


def _levels(found: Mapping[str, Any], score: Mapping[str, Any]) -> list[dict[str, str]]:
    """Errors by the true number, as text."""
    digits, rows = score["digits"], []
    for level in found["levels"] or ():
        low, high = (number(level[end], max(digits - 1, 0)) for end in ("low", "high"))
        rows.append(
            {
                "level": low if low == high else f"{low} to {high}",
                "rows": number(round(level["rows"])),
                "mae": number(level["mae"], digits),
                "bias": f"{round(level['bias'], digits) + 0.0:+,.{digits}f}",
            }
        )
    return rows


# ---- the terminal ------------------------------------------------------------------------------------


def repeat_lines(facts: Mapping[str, Any], width: int = 80) -> list[str]:
    """The result in a few lines: how good, beside what, whether it is luck, what is not known.

    Args:
        facts: `repeat.json`.
        width: Of the terminal, in letters.
    """
    main, found = main_of(facts)
    lines = _wrapped(_sentence(facts, main), width, "")
    beside = [f"{row['name']} {row['shown']}" for row in _rivals(facts, main) if not row["ours"]]
    if gain := told_gain(facts, main):
        beside.append(gain)
    if beside:
        means = "" if found["baselines"]["linear"] else ", means of the runs' own figures"
        lines += _wrapped(f"beside it: {'; '.join(beside)}{means}", width, "  ")
    for prefix in facts["results"]:
        lines += _wrapped(_sentence(facts, prefix), width, "") if prefix != main else []
    lines += ["", *_spread_table(found, width), ""]
    for told in told_luck(facts, main):
        lines += _wrapped(told, width, "  - ")
    notes = list(dict.fromkeys(note for of in facts["results"].values() for note in of["notes"]))
    for note in notes[:MOST_NOTES]:
        lines += _wrapped(note, width, "  ! ")
    if len(notes) > MOST_NOTES:
        lines.append(f"  ... and {len(notes) - MOST_NOTES} more on the page")
    return lines


def _spread_table(found: Mapping[str, Any], width: int) -> list[str]:
    """Of the first scores: the figure, its interval, and over seeds and folds mean and standard deviation."""
    scores = list(found["scores"].items())[:MOST_TABLED]
    rows: list[Sequence[str]] = [["", *(score["words"] for _, score in scores)]]

    def row(head: str, of: Any) -> None:
        rows.append([head, *(of(name, score) for name, score in scores)])

    row("all texts", lambda name, score: shown(name, score, score["value"]))
    row("  95 % interval", lambda name, score: _ends(name, score, score["low"], score["high"]))
    for key, what in (("seeds", "seeds"), ("folds", "folds")):
        of = scores[0][1][key]
        if of and of["sd"] is not None:
            count = len(of["values"])
            row(
                f"{count} {what}, mean \u00b1 sd",
                lambda name, score, key=key: (
                    f"{shown(name, score, score[key]['mean'])} {spread(name, score, score[key]['sd'])}"
                ),
            )
    return aligned(rows, indent="  ", columns=width)


def _ends(name: str, score: Mapping[str, Any], low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "\u2013"
    return f"{shown(name, score, low)} to {shown(name, score, high)}".replace("\u2009% to", " to")


def _wrapped(told: str, width: int, start: str) -> list[str]:
    return textwrap.wrap(
        told,
        max(width, 40),
        initial_indent=start,
        subsequent_indent=" " * max(len(start), 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
