"""`search.html` from `search.json`, and its charts of single points."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from lit_ft.report.search_page import setting_shown, write_search
from lit_ft.report.trial_charts import trial_chart


def trial(number: int, state: str, value: float | None, rate: float, size: str) -> dict:
    values = {"model.learning_rate": rate, "data.batch_size": size}
    return {
        **{"number": number, "state": state, "value": value, "values": values, "seconds": 61.0},
        **{"reason": "<b>NaN</b>" if value is None else "", "pruned_at": 40.0 if state == "pruned" else None},
        **{"own": number == 0, "folder": f"trial_{number:03d}"},
    }


FACTS = {
    "name": "reviews/search_0",
    "command": "python -m lit_ft search",
    "monitor": "val/loss",
    "maximise": False,
    "seed": 42,
    "planned": 5,
    "space": [
        {"key": "model.learning_rate", "text": "1e-05 to 0.001, log", "own": 5e-5, "low": 1e-5, "high": 1e-3,
         "log": True},
        {"key": "data.batch_size", "text": "16, 32", "own": 32, "values": ["16", "32"]},
    ],
    "trials": [
        trial(0, "finished", 0.9, 5e-5, "32"),
        trial(1, "pruned", 1.2, 1e-5, "16"),
        trial(2, "failed", None, 1e-3, "16"),
        trial(3, "finished", 0.8, 1.234e-4, "16"),
        trial(4, "running", None, 2e-4, "32"),
    ],
    "best": 3,
    "importance": None,
    "least": 8,
    "config": "runs/reviews/search_0/best.yaml",
    "finals": None,
}  # fmt: skip


def test_the_page_says_what_is_not_known():
    write_search(Path(), FACTS)
    page = Path("search.html").read_text()
    assert "Best: trial 3" in page and "5 of 5 trials: 2 finished, 1 pruned, 1 failed, 1 running" in page
    assert "What it is worth is not known" in page and "optimistic" in page
    assert "that needs 8 finished trials" in page
    assert "&lt;b&gt;NaN&lt;/b&gt;" in page and "pruned after 40 %" in page
    assert 'href="trial_003/report.html"' in page and 'href="logs/trial_002.txt"' in page
    assert "fit --config runs/reviews/search_0/best.yaml" in page and "0.0001234" in page
    write_search(Path(), {**FACTS, "best": None, "trials": [trial(0, "running", None, 1e-4, "16")]})
    assert "No trial has ended with a figure yet" in Path("search.html").read_text()


def test_charts_of_trials():
    points = [(10.0**-i, 1.0 + i / 10, "dot") for i in range(1, 6)] + [
        (1e-3, 50.0, "triangle"),
        (1e-4, None, "cross"),
    ]
    figure = ElementTree.fromstring(trial_chart(points, "<b>", "value", log=True, higher_is_better=False))
    assert {"1e-05", "0.001", "0.1"} <= {e.text for e in figure.iter("text")}
    heights = [e.get("transform") for e in figure.iter() if e.get("transform")]
    assert len(heights) == 7
    # The diverged trial does not press the others into a line: it stands at the edge, with the failed one.
    assert heights[5].rpartition(",")[2] == heights[6].rpartition(",")[2] == "8.0)"
    named = ElementTree.fromstring(
        trial_chart([(0, 1.0, "dot"), (1, 2.0, "ring")], "size", "value", ["16", "32"])
    )
    assert {"16", "32"} <= {e.text for e in named.iter("text")}
    assert trial_chart([(0, None, "cross")], "none", "value") == ""


def test_values_as_a_config_has_them():
    assert [setting_shown(v) for v in (None, True, 2.22e-5, 0.25, 16, "balanced", "3e-3", "32", "-")] == [
        *("null", "true", "2.22e-05", "0.25", "16", "balanced", "0.003", "32", "-"),
    ]
