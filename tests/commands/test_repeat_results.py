"""What a repeat leaves beside its runs, of runs that were never trained: some of them are not done."""

import json
from pathlib import Path

import numpy as np
import pytest
from repeats import answers, written

from lit_ft import runs
from lit_ft.commands.repeat_results import leave_repeat
from lit_ft.report.pooled import Repetition

FOLDER = Path("runs/small/repeat_0")
PLAN = {"command": "c", "name": "small", "seeds": [1, 2], "folds": None, "shares": [], "settings": {}}


def measured(seed: int, share: float, rows: int = 60) -> Repetition:
    """A run that was measured on so many test texts."""
    one = Repetition(seed, None, share, FOLDER / f"seed_{seed}_share_{share:g}")
    labels, said = answers(rows, 0.9 - 0.2 * (1 - share), seed)
    written(one, "test", range(1, rows + 1), labels, said)
    runs.add_facts(one.folder, {"splits": {"train": {"rows": round(400 * share)}}})
    return one


def left(repetitions: list[Repetition]) -> dict:
    leave_repeat(FOLDER, repetitions, PLAN)
    return json.loads((FOLDER / runs.REPEAT).read_text())


def test_a_curve_of_what_is_done(capfd):
    every = [measured(seed, share) for share in (0.25, 0.5, 1.0) for seed in (1, 2)]
    undone = [Repetition(seed, None, 0.125, FOLDER / f"seed_{seed}_share_0.125") for seed in (1, 2)]
    curve = left([*every, *undone])["curve"]
    assert [row["share"] for row in curve["rows"]] == [0.25, 0.5, 1.0]
    assert [row["texts"] for row in curve["rows"]] == [100, 200, 400]
    said = "Share 0.125 is left out: none of its runs is finished."
    assert curve["sentences"][-1] == said and said in capfd.readouterr().out
    (every[2].folder / runs.METRICS).unlink()
    curve = left(every)["curve"]
    assert [len(row["by_seed"]) for row in curve["rows"]] == [2, 1, 2]
    assert curve["sentences"][-1] == ("Of share 0.5: seed 1, share 0.5 is left out: it is not finished.")


def test_other_texts_are_no_point_of_the_curve():
    """As if a fold of a share were not done: its figure is of fewer texts."""
    every = [measured(1, 0.5, rows=40), measured(1, 1.0)]
    curve = left(every)["curve"]
    assert [row["share"] for row in curve["rows"]] == [1.0]
    assert curve["sentences"][-1] == "Share 0.5 is left out: it was not measured on the same texts."
    assert curve["rows"][0]["figure"] == pytest.approx(
        np.mean([answers(60, 0.9, 1)[0] == answers(60, 0.9, 1)[1]])
    )
