"""What the rules say of a model that predicts numbers, of its page, and of what a terminal shows."""

import copy
import re

import numpy as np
import pytest

from lit_ft.report.page import render
from lit_ft.report.regression import gain_over, number_intervals, number_scores, summarise_numbers
from lit_ft.report.regression_findings import regression_findings
from lit_ft.report.regression_page import regression_values
from lit_ft.report.verdict import verdict

RNG = np.random.default_rng(5)
LABELS = RNG.uniform(1, 5, 1_000)
GOOD = LABELS + RNG.normal(size=1_000) * 0.3


def case(said=GOOD, labels=LABELS, prefix="test", words=0.5, rows=5_000, cut=None, **more):
    """Metrics and facts of an evaluation; `words` is how far word counts are off."""
    index = np.arange(len(labels))
    summary = summarise_numbers(labels, said, index, cut)
    summary["intervals"] = number_intervals(labels, said, 1.15)
    summary["outside"] = int(((labels < 1) | (labels > 5)).sum())
    scores = {**number_scores(labels, said), "loss": 1.0, "rows": len(labels)}
    metrics = {f"{prefix}/{name}": value for name, value in scores.items()}
    if len(labels) < 2:  # as `summary_of_numbers`
        summary["intervals"] = {"scores": {}}
    for name, (low, high) in summary["intervals"]["scores"].items():
        metrics |= {f"{prefix}/{name}_low": low, f"{prefix}/{name}_high": high}
    rivals = {"mean": np.full(len(labels), 3.1), "median": np.full(len(labels), 3.0)}
    rivals["words"] = labels + RNG.choice([-words, words], len(labels))
    measured = {
        n: {**number_scores(labels, p), "gain": list(gain_over(labels, said, p))} for n, p in rivals.items()
    }
    split = {"rows": rows, "where": "x.csv"}
    facts = {
        "kind": "regression", "labels": ["stars"], "max_tokens": 64, "copies": 0,
        "numbers": {"mean": 3.1, "deviation": 1.15, "low": 1.0, "high": 5.0},
        "splits": {"train": split, "validation": split, "test": split}, "evaluations": {prefix: summary},
        "baselines": {"mean": {"value": 3.1}, "median": {"value": 3.0}, "words": {"seconds": 1.5},
                      "evaluations": {prefix: measured}},
        "history": {"validation": []},
    }  # fmt: skip
    return prefix, metrics, {**facts, **more}


def told(*of) -> str:
    return " | ".join(f"{found.level}: {found.plain()}" for found in regression_findings(*of))


OFF = float(np.abs(GOOD - LABELS).mean())
HIGH = np.where(LABELS > 4, LABELS - 1.2, LABELS)
CUT = np.arange(1_000) < 300
CASES = {
    "bad: It gives nearly the same number to all 1,000 texts": {"said": 3 + GOOD * 0.01},
    "bad: It is no better than always answering the training median (3.00), which": {"said": 6 - LABELS},
    "note: It is not certain that it is better than always answering the training": {
        "said": np.r_[LABELS[:20], 3 + (3 - LABELS[20:40]) * 0.7], "labels": LABELS[:40]},
    "bad: Counting words does better: off by 0.10. This model is worse by 0.1": {"words": 0.1},
    "note: It is not certain that it beats counting words": {"words": OFF + 0.002},
    "good: It beats counting words (off by 0.50) by 0.2": {},
    "note: There are few test texts (12): the error may": {"said": GOOD[:12], "labels": LABELS[:12]},
    "note: All 9 test texts have the same number, 3.00: R2 and Spearman": {
        "said": GOOD[:9], "labels": np.full(9, 3.0)},
    "note: 500 of the 1,000 test texts have a number outside those of training, 1.00 to 5.00": {
        "labels": np.r_[LABELS[:500] + 9, LABELS[500:]]},
    "note: Its predictions are 0.5": {"said": GOOD + 0.5},
    "note: It stays near the middle: the highest ones (from 4.": {"said": HIGH},
    "note: It stays near the middle: the lowest ones (up to 1.": {"said": 6 - np.where(
        6 - LABELS > 4, 6 - LABELS - 1.2, 6 - LABELS)},
    "note: It was trained on 80 texts only.": {"rows": 80},
    "note: 30.0 % of the test texts are longer than 64 tokens and were cut; these are off by 0.5": {
        "said": np.where(CUT, LABELS + 0.5, GOOD), "cut": CUT},
    "good: 30.0 % of the test texts are longer than 64 tokens and were cut; they are not": {"cut": CUT},
    "note: These are validation texts: it is not tested yet.": {"prefix": "val"},
    "bad: 400 of 1,000 validation texts are copies of training": {"prefix": "val", "copies": 400},
}  # fmt: skip


@pytest.mark.parametrize(("sentence", "how"), CASES.items(), ids=lambda value: str(value)[:40])
def test_each_rule(sentence, how):
    assert sentence in told(*case(**how)).replace("\u2009", " ")
    if how:
        assert sentence not in told(*case())


def test_validations_that_chose_an_epoch():
    points = [{"val/loss": loss, "epoch": i + 1, "step": i} for i, loss in enumerate((1.0, 0.5))]
    few = case(GOOD[:50], LABELS[:50], "val", history={"validation": points})
    found = told(*few)
    assert "Only 50 texts chose the best epoch: differences below 0.0" in found
    assert (
        "These are validation texts, which also chose the best epoch: new texts will fare a little" in found
    )
    assert "still improving" in found


def test_what_a_terminal_shows():
    lines = verdict(*case())
    assert re.fullmatch(
        r"stars: off by 0\.2\d on average on the 1,000 test texts \(95 %: 0\.2\d to 0\.2\d\)", lines[0]
    )
    assert (
        lines[1] == "  beside it: always the mean 1.01, always the median 1.00, counting words 0.50 (1.5 s)"
    )
    assert len(lines) == 2  # what is good is on the page


def test_the_page_escapes_and_says_what_is_missing():
    prefix, metrics, facts = case()
    facts = copy.deepcopy(facts) | {
        "labels": ["<b>&"], "pretrained": "x", "finished": "now", "command": "fit", "seed": 1,
        "hardware": "2", "versions": {}, "truncation": "head", "step": 3,
    }  # fmt: skip
    plain = {
        "empty_rows": 0, "tokens": 9, "mean": 1.0, "median": 1.0, "p95": 1.0, "max": 3, "cut_rows": 0,
        "cut_tokens": 0, "fingerprint": "f", "numbers": facts["numbers"],
    }  # fmt: skip
    facts["splits"] = {name: {**split, **plain} for name, split in facts["splits"].items()}
    for entry in facts["evaluations"]["test"]["mistakes"]:
        entry |= {"row": entry["index"] + 1, "text": "<script>"}
    common = {"run": "r/version_0", "config": "", "charts": None, "metrics": metrics | {"train/seconds": 1.0}}
    common["metrics"] |= {"fit/seconds": 2.0}
    page = render("regression.html.j2", **common, facts=facts, **regression_values(facts, metrics))
    assert "<script>" not in page and "&lt;b&gt;&amp;" in page and page.count("<rect") > 100
    assert "The darker a square, the more of the 1,000 texts are in it." in page
    assert len(re.findall(r'class="row">row', page)) == 60 and "The next 50" in page
    facts["evaluations"] = {}
    assert "Not measured yet" in render(
        "regression.html.j2", **common, facts=facts, **regression_values(facts, metrics)
    )


def test_a_single_text_says_nothing():
    text = told(*case(LABELS[:1] + 0.3, LABELS[:1], words=0.1))
    assert "note: A single text was measured" in text
    assert (
        "have the same number" not in text and "counting words" not in text.lower() and "always" not in text
    )
