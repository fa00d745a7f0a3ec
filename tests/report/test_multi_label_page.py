"""What is told of a model of several labels: findings, verdict, page and card, from figures made here."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_runs import ARABIC, NASTY, TEXTS

from lit_ft import runs
from lit_ft.report.model_card import write_model_card
from lit_ft.report.multi_label import (
    choose_thresholds,
    figures_of_tags,
    sigmoid,
    summarise_tags,
    tag_intervals,
)
from lit_ft.report.multi_label_findings import tag_findings
from lit_ft.report.page import write_report
from lit_ft.report.verdict import verdict

NAMES = ["late", NASTY, ARABIC, "refund", "praise"]


def made(num_labels: int = 5, rows: int = 600) -> dict[str, Any]:
    """Facts and metrics of a good model that was tested."""
    rng = np.random.default_rng(0)
    tags = rng.random((rows, num_labels)) < 0.3
    logits = tags * 5.0 - 2.0 + rng.normal(size=tags.shape)
    probabilities = sigmoid(logits)
    thresholds = choose_thresholds(probabilities, tags)
    said, losses = probabilities >= thresholds, (np.logaddexp(0, logits) - logits * tags).mean(1)
    metrics: dict[str, Any] = {"train/seconds": 9.0, "fit/seconds": 12.0}
    facts: dict[str, Any] = {
        "kind": "multi_label", "labels": [*NAMES, *(f"tag {i}" for i in range(num_labels))][:num_labels],
        "pretrained": "tiny", "from_hub": False, "max_tokens": 64, "truncation": "head", "threshold": None,
        "thresholds": thresholds, "step": 5, "seed": 1, "command": "fit", "hardware": "cpu", "versions": {},
        "finished": "now", "evaluations": {}, "copies": 0, "splits": {},
        "history": {"train": [], "validation": [{"val/loss": 0.5, "epoch": 1, "step": 5}]},
    }  # fmt: skip
    for prefix, split in (("test", "test"), ("val", "validation"), ("", "train")):
        facts["splits"][split] = {
            "rows": rows, "empty_rows": 0, "tokens": 9, **dict.fromkeys(("mean", "median", "p95"), 9.0),
            "max": 9, "cut_rows": 0, "cut_tokens": 0, "from_hub": False, "fingerprint": "0",
            "where": f"{split}.csv",
            "class_counts": tags.sum(0).tolist(), "histogram": {"edges": [0, 9], "counts": [rows]},
        }  # fmt: skip
        if prefix:
            summary = summarise_tags(
                probabilities, tags, said, losses, np.arange(rows), thresholds, np.arange(rows) % 9 == 0
            )
            summary |= {"fitted_here": prefix == "val"}
            summary["intervals"] = tag_intervals(probabilities, tags, said, losses)
            summary["mistakes"] = [
                {**m, "row": m["index"] + 1, "text": TEXTS[2]} for m in summary["mistakes"]
            ]
            facts["evaluations"][prefix] = summary
            found = {**figures_of_tags(probabilities, tags, said), "loss": 0.3, "rows": rows, "step": 5}
            for name, (low, high) in summary["intervals"]["scores"].items():
                found |= {f"{name}_low": low, f"{name}_high": high}
            metrics |= {f"{prefix}/{name}": value for name, value in found.items()}
    metrics["test/micro_f1"] = metrics["test/micro_f1_chosen"]
    words = {"micro_f1": 0.6, "macro_f1": 0.6, "subset_accuracy": 0.3, "model_better_by": [0.3, 0.27, 0.33]}
    never = {"micro_f1": 0.0, "macro_f1": 0.0, "subset_accuracy": 0.2, "model_better_by": [0.9, 0.88, 0.92]}
    facts["baselines"] = {
        "commonest": {"labels": [], "share": 0.2}, "words": {"seconds": 0.42},
        "evaluations": {"test": {"words": words, "commonest": never}},
    }  # fmt: skip
    return {"metrics": metrics, "facts": facts}


def told(values: dict[str, Any], prefix: str = "test") -> list[str]:
    return [f"{found.level}: {found.plain()}" for found in tag_findings(prefix, **values)]


def change(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    values = copy.deepcopy(values)
    place: Any = values
    *keys, last = path.split(".")
    for key in keys:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    return values


COMMONEST = "facts.baselines.evaluations.test.commonest.model_better_by"
SUMMARY, WORDS = "facts.evaluations.test", "facts.baselines.evaluations.test.words.model_better_by"
RULES = [
    ([(WORDS, [-0.1, -0.12, -0.08])], "bad: Counting words does better .*0.100 lower .95 %: 0.080 to 0.120"),
    ([(WORDS, [0.0, -0.02, 0.02])], "bad: It is no better than counting words"),
    ([(WORDS, [0.01, -0.01, 0.03])], "note: It is not certain that it beats counting words"),
    ([(COMMONEST, [0.0, 0, 0])], "bad: Always answering no label"),
    ([(f"{SUMMARY}.class_counts.predicted", [0] * 5)], "bad: It gives no label to all 600 texts"),
    ([(f"{SUMMARY}.class_counts.predicted.3", 0)], 'bad: 1 label is never given: "refund"'),
    ([("facts.copies", 7), ("metrics.val/rows", 600)], "note: 7 of 600 validation texts are copies"),
    ([(f"{SUMMARY}.without_label", {"given": 90, "predicted": 300, "both": 80})], "note: 220 of 600 texts"),
    ([("metrics.test/micro_f1", 1.1)], "note: The thresholds that validation chose do worse"),
    ([("metrics.test/micro_f1", 0.50)], "good: The thresholds that validation chose help"),
    ([("facts.splits.validation.class_counts.0", 12)], 'threshold chosen on fewer than 50 texts ."late"'),
    ([("facts.splits.validation.class_counts.0", 3)], 'keeps 0.5, with fewer than 10 .* ."late"'),
    ([("facts.splits.train.class_counts.4", 3)], '1 label has fewer than 20 training texts ."praise"'),
    ([(f"{SUMMARY}.class_counts.rows.0", 0)], "note: 1 label is on none of the test texts"),
    ([("metrics.test/micro_f1_chosen_low", 0.7)], "note: There are few test texts"),
    ([(f"{SUMMARY}.cut", {"rows": 100, "right": 10})], "note: 16.7.% of the test texts are longer than 64"),
]  # fmt: skip


def test_a_good_model_has_no_bad_finding():
    lines = told(made())
    assert [line for line in lines if line.startswith("bad")] == []
    assert any(
        line.startswith("good: It beats counting words (micro F1 0.600, from 0.5 on)") for line in lines
    )
    assert any("which also chose the thresholds" in line for line in told(made(), "val"))


@pytest.mark.parametrize(("changes", "line"), RULES, ids=[line for _, line in RULES])
def test_a_rule_says_what_it_found(changes, line):
    values = made()
    assert not any(re.search(line, found) for found in told(values))
    for path, value in changes:
        values = change(values, path, value)
    assert any(re.search(line, found) for found in told(values)), told(values)


def test_the_verdict_marks_what_was_fitted_here():
    values = made()
    first, second, *_ = verdict("test", **values)
    assert first.startswith("micro F1 0.9") and "fitted" not in first
    assert second.startswith(
        "  beside it: always no label 0.000, counting words 0.600 (0.4 s), this model from 0.5 on"
    )
    first, *_ = verdict("val", **values)
    assert first.endswith(" at each label's own threshold, fitted on these texts")


@pytest.mark.parametrize("num_labels", [5, 40])
def test_page_and_card_of_any_names(num_labels, tmp_path):
    values = made(num_labels, 300)
    write_report(tmp_path, **values)
    page = (tmp_path / runs.REPORT).read_text()
    assert NASTY not in page and "<script>document" not in page
    assert ('class="matrix"' in page) == (num_labels == 5)
    assert f'Micro F1 <data value="{values["metrics"]["test/micro_f1_chosen"]}"' in page
    assert page.count("<tr") > num_labels and "this model, at its thresholds" in page
    (tmp_path / runs.MODEL).mkdir()
    write_model_card(tmp_path, **values)
    card = (tmp_path / runs.MODEL / "README.md").read_text()
    assert f"{num_labels} labels" in card and "average precision | threshold" in card
    assert f"{values['facts']['thresholds'][0]:.3f}" in card and "name: micro_f1_chosen" in card
    values["facts"]["evaluations"]["test"]["fitted_here"] = True  # too good: not for the Hub's leaderboards
    write_model_card(tmp_path, **values)
    assert "name: micro_f1\n" in (tmp_path / runs.MODEL / "README.md").read_text()
    none = copy.deepcopy(values)
    none["facts"]["evaluations"], none["metrics"] = {}, {"train/seconds": 1.0, "fit/seconds": 2.0}
    write_report(tmp_path, **none)
    assert "Not measured yet" in (tmp_path / runs.REPORT).read_text()


def test_values_are_plain():
    assert json.loads(json.dumps(made()["facts"]))["evaluations"]["test"]["rows"] == 600
    assert Path(runs.REPORT).suffix == ".html"
