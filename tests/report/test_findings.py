"""For each rule a case where it speaks, and one where it is silent."""

import copy
from typing import Any

import pytest

from lit_ft.report import classifier_findings as findings
from lit_ft.report.classifier_findings import labels_may_be_doubted
from lit_ft.report.findings import LEVELS, MOST_FINDINGS, Case

NAMES = ["late", "broken", "refund"]


def sound() -> dict[str, Any]:
    """A good model: 300 test texts, 80 % right, and nothing to say but good things."""
    evaluation = {
        "rows": 300,
        "class_counts": {"rows": [100, 100, 100], "predicted": [100, 100, 100], "right": [80, 80, 80]},
        "confusions": [[0, 1, 5], [1, 2, 5]],
        "num_mistakes": 60,
        "train_sample": {"rows": 200, "right": 170},
        "reliability": [{"confidence": 0.88, "count": 300}],
    }
    words = {"accuracy": 0.7, "only_model_right": 50, "only_baseline_right": 20}
    return {
        "metrics": {
            "test/accuracy_low": 0.76, "test/accuracy_high": 0.84,
            "test/ece": 0.02, "test/ece_calibrated": 0.02,
            "val/accuracy": 0.8, "val/accuracy_low": 0.79, "val/accuracy_high": 0.81, "val/rows": 4000,
        },
        "facts": {
            "kind": "classifier",
            "labels": NAMES,
            "max_tokens": 128,
            "copies": 0,
            "evaluations": {"test": evaluation, "val": copy.deepcopy(evaluation)},
            "splits": {"train": {"class_counts": [400, 400, 400]}, "validation": {"rows": 4000}},
            "history": {"validation": [{"val/loss": 0.6}, {"val/loss": 0.5}, {"val/loss": 0.495}]},
            "baselines": {
                "commonest": {"class": 0, "share": 0.33},
                "words": {},
                "evaluations": {"test": {"commonest": {"accuracy": 0.33}, "words": words}},
            },
        },
    }  # fmt: skip


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Set values by their path, such as `facts.copies`."""
    for path, value in changes.items():
        *folders, last = path.split(".")
        place = values
        for key in folders:
            place = place[key]
        place[last] = value
    return values


COUNTS = "facts.evaluations.test.class_counts"
ALL_ONE = {COUNTS: {"rows": [100, 100, 100], "predicted": [300, 0, 0], "right": [100, 0, 0]}}
WORDS = "facts.baselines.evaluations.test.words"
LOSSES = "facts.history.validation"
CONFUSIONS = "facts.evaluations.test.confusions"
CUT = "facts.evaluations.test.cut"
SLICES = "facts.evaluations.test.slices"
GERMAN = {
    "value": "de",
    "rows": 60,
    "scores": {"accuracy": [0.5, 0.4, 0.6]},
    "difference": [-0.4, -0.5, -0.2],
}
# rule -> what makes it speak, its level, a part of what it says, what leaves it silent
RULES = {
    "one_answer": (ALL_ONE, "bad", 'It answers "late" to all 300 texts', {}),
    "beside_the_commonest": (
        {"facts.baselines.evaluations.test.commonest": {"accuracy": 0.8}},
        "bad", 'Always answering "late" is right as often: 80.0\u2009%', {},
    ),
    "beside_word_counts": (
        {WORDS: {"accuracy": 0.9, "only_model_right": 10, "only_baseline_right": 40}},
        "bad", "better: 90.0\u2009%. This model is 10.0 points worse (95 %: 5.4 to 14.4)",
        {"facts.baselines": {}},
    ),
    "unmeasured_classes": (
        {COUNTS: {"rows": [200, 100, 0], "predicted": [200, 90, 10], "right": [180, 80, 0]}},
        "note", '1 class has no test texts ("refund"): how well it knows them is not measured',
        {COUNTS: {"rows": [200, 100, 0], "predicted": [200, 100, 0], "right": [180, 80, 0]},
         "facts.splits.train.class_counts": [400, 400, 0]},
    ),
    "never_predicted": (
        {COUNTS: {"rows": [100, 150, 50], "predicted": [100, 200, 0], "right": [90, 140, 0]}},
        "bad", '1 class is never predicted: "refund" (50 test texts)', ALL_ONE,
    ),
    "copies": ({"facts.copies": 300}, "bad", "300 of 4,000 validation texts are copies", {}),
    "commonest_confusion": (
        {CONFUSIONS: [[2, 0, 30]]}, "note",
        '"refund" taken for "late", 30 of 100 texts; 50\u2009% of all mistakes',
        {CONFUSIONS: [[2, 0, 4]]},
    ),
    "few_validation_texts": (
        {"metrics.val/accuracy_low": 0.73, "metrics.val/accuracy_high": 0.87, "metrics.val/rows": 120},
        "note", "Only 120 texts chose the best epoch and the temperature: differences below 7 points", {},
    ),
    "over_the_epochs": (
        {LOSSES: [{"val/loss": 0.6}, {"val/loss": 0.5}]}, "note", "still improving", {},
    ),
    "calibration": (
        {"metrics.test/ece": 0.08, "metrics.test/ece_calibrated": 0.02}, "note",
        "too high, by 8.0 points on average; calibrated it is off by 2.0", {"metrics.test/ece": None},
    ),
    "cut_texts": (
        {CUT: {"rows": 100, "right": 60}}, "note",
        "are longer than 128 tokens and were cut; of these 60.0\u2009% are right",
        {CUT: {"rows": 5, "right": 1}},
    ),
    "few_trained": (
        {"facts.splits.train.class_counts": [400, 7, 19]}, "note",
        '2 classes have fewer than 20 training texts ("broken", "refund"); their mean F1 is 0.80', {},
    ),
    "weak_slices": (
        {SLICES: {"measure": "accuracy", "compared": 1, "columns": {"language": [GERMAN]}}}, "note",
        'rest: language "de" (60 texts): 50.0\u2009% right, of the others 90.0\u2009% (lower by 20.0 to 50.0',
        {SLICES: {"columns": {"language": [{**GERMAN, "difference": [-0.1, -0.2, 0.1]}]}}},
    ),
    "few_texts": (
        {"metrics.test/accuracy_low": 0.6, "metrics.test/accuracy_high": 0.9}, "note",
        "may as well be 60\u2009% or 90\u2009%", {},
    ),
}  # fmt: skip


def test_no_rule_is_left_out():
    assert {rule.__name__ for rule in findings.RULES} == RULES.keys() | {"not_tested"}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_speaks_and_is_silent(rule):
    speaks, level, said, silent = RULES[rule]
    found = getattr(findings, rule)(Case("test", **changed(sound(), speaks)))
    assert found.level == level and said in found.plain(), found
    assert getattr(findings, rule)(Case("test", **changed(sound(), silent))) is None


def test_a_name_keeps_its_own_quotes_in_a_terminal():
    values = changed(sound(), {**ALL_ONE, "facts.labels": ["\u201clate\u201d", "b", "c"]})
    assert findings.one_answer(Case("test", **values)).plain().startswith('It answers "\u201clate\u201d" to')


def test_validation_is_no_test():
    assert findings.not_tested(Case("val", **sound())).level == "note"
    assert findings.not_tested(Case("test", **sound())) is None


def test_what_else_the_rules_say():
    better = findings.beside_word_counts(Case("test", **sound()))
    assert better.level == "good" and "by 10.0 points (95 %: 4.6 to 15.3)" in better.text
    unsure = changed(sound(), {WORDS: {"accuracy": 0.79, "only_model_right": 22, "only_baseline_right": 20}})
    assert "not certain that it beats" in findings.beside_word_counts(Case("test", **unsure)).text
    worse = changed(sound(), {WORDS: {"accuracy": 0.81, "only_model_right": 20, "only_baseline_right": 22}})
    found = findings.beside_word_counts(Case("test", **worse))
    assert found.level == "bad" and "no better than counting words" in found.text
    heart = changed(sound(), {LOSSES: [{"val/loss": 0.5}, {"val/loss": 0.7}]})
    heart = changed(heart, {"facts.evaluations.val.train_sample": {"rows": 200, "right": 198}})
    assert "by heart: 99.0\u2009%" in findings.over_the_epochs(Case("test", **heart)).text
    assert findings.calibration(Case("test", **sound())).level == "good"
    no_help = changed(sound(), {"metrics.test/ece": 0.08, "metrics.test/ece_calibrated": 0.09})
    assert "hardly helps" in findings.calibration(Case("test", **no_help)).text
    cut = changed(sound(), {CUT: {"rows": 100, "right": 80}})
    assert findings.cut_texts(Case("test", **cut)).level == "good"


def test_the_serious_comes_first_and_not_all_is_told():
    values = sound()
    for rule, (speaks, *_) in RULES.items():
        if rule != "one_answer":
            values = changed(values, speaks)
    found = findings.class_findings("test", **values)
    assert len(found) == MOST_FINDINGS
    levels = [LEVELS.index(finding.level) for finding in found]
    assert levels == sorted(levels) and levels[0] == 0
    assert [f.level for f in findings.class_findings("test", **sound())] == ["good", "good"]


def test_only_a_good_model_may_doubt_a_label():
    assert labels_may_be_doubted("test", **sound())
    assert not labels_may_be_doubted("test", **changed(sound(), RULES["beside_word_counts"][0]))
    assert not labels_may_be_doubted("test", **changed(sound(), {"metrics.test/accuracy_low": 0.3}))
    weak = changed(sound(), {"facts.baselines": {}, "metrics.test/accuracy_low": 0.4})
    assert not labels_may_be_doubted("test", **weak)
