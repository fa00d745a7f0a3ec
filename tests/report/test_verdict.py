"""The result in words for a terminal."""

from test_findings import RULES, changed, sound

from lit_ft.report.verdict import verdict


def test_a_good_model_needs_two_lines():
    values = sound()
    values["metrics"]["test/accuracy"] = 0.8
    values["facts"]["baselines"]["words"] = {"seconds": 0.42}
    assert verdict("test", **values) == [
        "80.0\u2009% of the 300 test texts are right (95 %: 76.0 to 84.0)",
        '  beside it: always "late" 33.0\u2009%, counting words 70.0\u2009% (0.4 s)',
    ]


def test_what_is_serious_comes_first_within_the_width():
    values = sound()
    values["metrics"]["test/accuracy"] = 0.8
    for rule in ("beside_word_counts", "never_predicted", "copies", "few_texts"):
        values = changed(values, RULES[rule][0])
    lines = verdict("test", **values, width=60)
    assert all(len(line) <= 60 for line in lines[2:])
    marks = [line[:4] for line in lines if line[2] in "!-"]
    assert marks == ["  ! "] * 3 and lines[-1] == "  ... and 1 more in the report"
    values["facts"]["baselines"] = {}
    values["metrics"]["test/accuracy_low"] = None
    assert verdict("test", **values)[0] == "80.0\u2009% of the 300 test texts are right"
