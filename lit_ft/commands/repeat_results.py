"""What `repeat` leaves beside its runs: figures and their page, out-of-fold predictions, labels to check."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_ft import runs
from lit_ft.console import say, width
from lit_ft.report.label_issues import (
    TO_CHECK,
    find_label_issues,
    label_issue_facts,
    label_issue_line,
    write_label_issues,
)
from lit_ft.report.learning_curve import CurvePoint, curve_chart, learning_curve
from lit_ft.report.out_of_fold import write_out_of_fold
from lit_ft.report.pooled import HELD_OUT, Repetition, bootstrap, ends_of_score, figures, pool
from lit_ft.report.repeat_facts import HEADLINES, main_of, repeat_facts
from lit_ft.report.repeat_page import repeat_lines, write_repeat

OUT_OF_FOLD = "out_of_fold.parquet"
FEWER_STEPS = (
    "All shares train for the same epochs, so fewer texts also mean fewer steps: more epochs may bring part "
    "of what more labels bring here. --trainer.max_steps trains all shares equally long."
)


def leave_repeat(folder: Path, repetitions: Sequence[Repetition], plan: Mapping[str, Any]) -> None:
    """Put the runs' results together, write them, and say what they come to.

    Args:
        folder: Of the repeat.
        repetitions: All that were planned, also those that failed.
        plan: What else the page shows; see `repeat_facts`.
    """
    facts = repeat_facts(folder, repetitions, plan)
    largest = max(one.share for one in repetitions)
    to_check = None
    if HELD_OUT in facts["results"]:
        used = pool([one for one in repetitions if one.share == largest], HELD_OUT).used
        path = write_out_of_fold(used, folder / OUT_OF_FOLD)
        issues = find_label_issues(path)
        write_label_issues(issues, folder / TO_CHECK)
        facts["labels"] = label_issue_facts(issues)
        to_check = label_issue_line(issues, runs.shown(folder / TO_CHECK))
    if any(one.share < largest for one in repetitions):
        facts["curve"] = _curve(repetitions, main_of(facts)[0])
        if facts["curve"]["step"] and plan.get("settings", {}).get("trainer.max_steps") == -1:
            facts["curve"]["sentences"].append(FEWER_STEPS)
    page = write_repeat(folder, facts)
    say("")
    for line in repeat_lines(facts, width() or 80):
        say(line)
    for told in (facts["curve"] or {}).get("sentences", ()):
        say(told)
    if to_check is not None:
        say(f"out of fold: {runs.shown(folder / OUT_OF_FOLD)}")
        say(to_check)
    say(f"report:  {runs.shown(page)}")


def _curve(repetitions: Sequence[Repetition], prefix: str) -> dict[str, Any]:
    """The learning curve of the headline, over the shares that were trained on."""
    points: list[CurvePoint] = []
    notes: list[str] = []
    rows = None  # that were measured: draws of others would be draws of other texts
    for share in sorted({one.share for one in repetitions}, reverse=True):
        some = [one for one in repetitions if one.share == share]
        if not any(f"{prefix}/rows" in runs.read_metrics(one.folder) for one in some):
            notes.append(f"Share {share:.15g} is left out: none of its runs is finished.")
            continue
        pooled = pool(some, prefix)
        notes += [f"Of share {share:.15g}: {note}." for note in pooled.notes if rows is not None]
        rows = pooled.rows if rows is None else rows
        if not np.array_equal(pooled.rows, rows):
            notes.append(f"Share {share:.15g} is left out: it was not measured on the same texts.")
            continue
        headline = HEADLINES[pooled.kind]
        score = next(score for score in pooled.scores() if score.name == headline.score)
        draws = bootstrap(pooled)[score.name]
        trained = [runs.read_facts(one.folder)["splits"]["train"]["rows"] for one in pooled.used]
        tag = f"baseline/words/{prefix}/{headline.beside}"
        words: list[Any] = [runs.read_metrics(one.folder).get(tag) for one in pooled.used]
        points.append(
            CurvePoint(
                share,
                float(np.mean(trained)),
                draws,
                figures(pooled)["scores"][score.name]["seeds"]["values"],
                None if None in words else float(np.mean(words)),
                ends_of_score(pooled, score.name, draws),
                len(pooled.rows),
            )
        )
    found = learning_curve(points, score)
    found["sentences"] += notes
    return {**found, "chart": curve_chart(found)}
