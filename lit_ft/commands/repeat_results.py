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
from lit_ft.report.pooled import HELD_OUT, Pooled, Repetition, figures, pool
from lit_ft.report.repeat_facts import HEADLINES, pooled_results, repeat_facts
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
    pooled = pooled_results(repetitions)
    facts = repeat_facts(folder, repetitions, plan, pooled)
    to_check = None
    if pooled[0].prefix == HELD_OUT:
        path = write_out_of_fold(pooled[0].used, folder / OUT_OF_FOLD)
        issues = find_label_issues(path)
        write_label_issues(issues, folder / TO_CHECK)
        facts["labels"] = label_issue_facts(issues)
        to_check = label_issue_line(issues, runs.shown(folder / TO_CHECK))
    if len({one.share for one in repetitions}) > 1:
        facts["curve"] = _curve(repetitions, pooled[0])
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


def _curve(repetitions: Sequence[Repetition], whole: Pooled) -> dict[str, Any]:
    """The learning curve of the headline, over the shares that were trained on.

    Args:
        repetitions: All that were planned.
        whole: The result of the largest share.
    """
    prefix, headline = whole.prefix, HEADLINES[whole.kind]
    score = next(score for score in whole.scores() if score.name == headline.score)
    parts, notes = [whole], list[str]()
    for share in sorted({one.share for one in repetitions}, reverse=True)[1:]:
        some = [one for one in repetitions if one.share == share]
        if not any(f"{prefix}/rows" in runs.read_metrics(one.folder) for one in some):
            notes.append(f"Share {share:.15g} is left out: none of its runs is finished.")
            continue
        pooled = pool(some, prefix)
        notes += [f"Of share {share:.15g}: {note}." for note in pooled.notes]
        if not np.array_equal(pooled.rows, whole.rows):  # draws of others would be draws of other texts
            notes.append(f"Share {share:.15g} is left out: it was not measured on the same texts.")
            continue
        parts.append(pooled)
    points = []
    for pooled in parts:
        of = figures(pooled)["scores"][score.name]
        trained = [runs.read_facts(one.folder)["splits"]["train"]["rows"] for one in pooled.used]
        tag = f"baseline/words/{prefix}/{headline.beside}"
        words: list[Any] = [runs.read_metrics(one.folder).get(tag) for one in pooled.used]
        points.append(
            CurvePoint(
                pooled.used[0].share,
                float(np.mean(trained)),
                pooled.draws[score.name],
                of["seeds"]["values"],
                None if None in words else float(np.mean(words)),
                (of["low"], of["high"]),
                len(pooled.rows),
            )
        )
    found = learning_curve(points, score)
    found["sentences"] += notes
    return {**found, "chart": curve_chart(found)}
