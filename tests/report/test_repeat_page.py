"""`repeat.json`, its page and its lines, of runs whose files were written by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.repeats import NASTY_NAMES, answers, beside, repeat, written

from lit_ft import runs
from lit_ft.commands.report import main
from lit_ft.errors import UserError
from lit_ft.report.label_issues import LabelIssue, LabelIssues, label_issue_facts
from lit_ft.report.pooled import Repetition
from lit_ft.report.regression import gain_over
from lit_ft.report.repeat_facts import HEADLINES, pooled_results, repeat_facts, told_luck
from lit_ft.report.repeat_page import read_repeat, repeat_lines, write_repeat

PLAN = {
    "command": "python -m lit_ft repeat --config <b>",
    "seeds": [42, 43],
    "folds": 3,
    "settings": {"a.b": "<i>"},
}


def written_repeat(folder: Path, rate: float = 0.8, **more) -> tuple[list[Repetition], dict]:
    found = repeat(folder, 120, rate=rate, **more)
    for one in found:
        beside(one, "fold", 0.5, ours=16, theirs=4)
    return found, repeat_facts(folder, found, PLAN, pooled_results(found))


def test_the_page_answers_in_order():
    folder = Path("runs/x/repeat_0")
    found, facts = written_repeat(folder, ordered=True)
    path = write_repeat(folder, facts)
    page = path.read_text()
    labels, said = answers(120, 0.8, 42)[0], [answers(120, 0.8, seed)[1] for seed in (42, 43)]
    mean = np.mean([one == labels for one in said])
    assert f"<h1>{mean:.1%}".replace("%", "\u2009%") + " of the 120 texts are right" in page
    assert "each said by a model that never saw it, as a mean of 2 seeds" in page
    order = [page.index(f'id="{name}"') for name in ("result", "luck", "classes", "runs")]
    assert order == sorted(order)
    assert "This model is better than counting words by 30.0 points (95 %: " in page
    assert page.count('href="seed_') == 6 and 'href="seed_42_fold_1/report.html"' in page
    assert "<script" not in page and "<i>" not in page and "&lt;b&gt;" in page
    assert page.count("<circle") == 1 + 2 + 3 + 6
    # It is made of the file alone.
    path.unlink()
    assert main("report", [str(folder)]) == 0 and path.read_text() == page
    with pytest.raises(UserError, match="--output is for a comparison"):
        main("report", [str(folder), "--output", "x.html"])


def test_the_lines():
    _, facts = written_repeat(Path("runs/x/repeat_0"))
    lines = repeat_lines(facts, 80)
    assert all(len(line) <= 80 for line in lines) and len(lines) <= 20
    text = "\n".join(lines)
    assert re.search(r"^\d\d\.\d.% of the 120 texts are right \(95 %: \d\d\.\d to \d\d\.\d\), each", text)
    assert "better than counting words by 30.0 points (95 %: 18.1 to 40.9)" in text.replace("\n  ", " ")
    assert "counting words 50.0\u2009%" in text and "2 seeds, mean \u00b1 sd" in text
    assert "a single run of these 6 would have said" in text
    # One seed, and a fold that is missing.
    found = repeat(Path("runs/y/repeat_0"), 60, seeds=(42,))
    (found[0].folder / runs.METRICS).unlink()
    text = "\n".join(repeat_lines(repeat_facts(Path("runs/y/repeat_0"), found, PLAN, pooled_results(found))))
    assert "one seed: how far seeds differ is unknown; --seeds=3 says" in text
    assert "  ! seed 42, fold 1 is left out: it is not finished" in text and "of the 40 texts" in text


def test_a_few_texts_are_not_certain():
    """Folds of very different sizes, and runs on a text or two, whose own variance says nothing."""
    found = [
        written(Repetition(42, fold, 1.0, Path(f"runs/f/repeat_0/{fold}")), "fold", rows, labels, labels * 0)
        for fold, rows in ((1, range(1, 81)), (2, range(81, 83)), (3, range(83, 85)))
        if (labels := np.arange(len(rows)) % 2) is not None
    ]
    for one in found:
        beside(one, "fold", 0.5, ours=1, theirs=0)
    plan = {**PLAN, "settings": {"data.group_column": "author"}}
    facts = repeat_facts(Path("runs/f/repeat_0"), found, plan, pooled_results(found))
    text = "\n".join(repeat_lines(facts, 200))
    assert facts["results"]["fold"]["fold_texts"] == [80, 2, 2]
    # sqrt(0.25 (1/80 + 1/2 + 1/2) / 3): what the mean size, 28, would say is 9.4
    assert re.search(r"folds of 2 to 80 texts differ by \u00b1 (2[89]|30)\.\d by chance", text)
    assert "a single run of these 3 would have said 50.0\u2009%" in text
    assert "those of a group (author) are right or wrong together, it is too narrow" in text
    del facts["results"]["fold"]["fold_texts"]  # as an earlier version wrote it
    assert "by chance" not in "\n".join(repeat_lines(facts, 200))
    gain = HEADLINES["classifier"].gain
    one_each = [{"only_model_right": 0, "only_baseline_right": 1}] * 3
    assert gain(one_each, np.array([3, 3, 3]))[2] > 0  # McNemar: p = 0.25
    # The same numbers in one run and in four give the same interval.
    labels, said, other = np.zeros(9), np.arange(9.0), np.array([3.0, 1, 4, 1, 5, 9, 2, 6, 5])
    whole = gain_over(labels, said, other)
    parts = [{"gain": gain_over(labels[at], said[at], other[at])} for at in np.split(np.arange(9), [1, 3, 6])]
    of_parts = HEADLINES["regression"].gain(parts, np.array([1.0, 2, 3, 3]))
    assert of_parts == pytest.approx(whole)


@pytest.mark.parametrize(
    "sd, end",
    [
        (0.01, ", no more than that"),
        (0.08, ", which may still be chance"),
        (0.2, ", more than that explains"),
    ],
)
def test_whether_folds_differ_by_more_than_chance(sd, end):
    """Three folds of 40 texts, 80 % right: chance alone makes a standard deviation of 5 points or so."""
    _, facts = written_repeat(Path("runs/x/repeat_0"))
    facts["results"]["fold"]["scores"]["accuracy"]["folds"]["sd"] = sd
    (told,) = [line for line in told_luck(facts, "fold") if "by chance" in line]
    assert re.fullmatch(
        rf"folds of 40 texts differ by . \d\.\d by chance; these by . {100 * sd:.1f}{end}", told
    )


def test_numbers_and_several_labels():
    rng = np.random.default_rng(0)
    folder = Path("runs/n/repeat_0")
    labels = rng.normal(3, 1.0, 60)
    found = [
        written(Repetition(seed, None, 1.0, folder / f"seed_{seed}"), "test", range(1, 61), labels,
                labels + rng.normal(0, 0.5, 60), "regression", ["stars"])
        for seed in (1, 2)
    ]  # fmt: skip
    facts = repeat_facts(folder, found, {**PLAN, "folds": None}, pooled_results(found))
    page = write_repeat(folder, facts).read_text()
    assert "stars: off by 0." in page and "of the 60 test texts" not in page and 'id="levels"' in page
    assert "as a mean of 2 models" in "\n".join(repeat_lines(facts))
    assert [len(facts["results"]["test"]["levels"]), facts["plan"]["runs"][0]["folder"]] == [5, "seed_1"]
    tags, said = rng.random((60, 3)) < 0.4, rng.random((60, 3)) < 0.4
    folder = Path("runs/t/repeat_0")
    one = Repetition(1, None, 1.0, folder / "seed_1")
    written(one, "test", range(1, 61), tags, said, "multi_label", NASTY_NAMES)
    page = write_repeat(folder, repeat_facts(folder, [one], PLAN, pooled_results([one]))).read_text()
    assert "micro F1 0." in page and "F1 of each label" in page and "<script" not in page


def test_a_curve_and_labels_to_check_are_shown():
    folder = Path("runs/x/repeat_0")
    _, facts = written_repeat(folder)
    row = {
        "share": 0.5,
        "texts": 40,
        "figure": 0.7,
        "low": 0.6,
        "high": 0.8,
        "by_seed": [0.69],
        "baseline": None,
    }
    facts["curve"] = {
        "words": ["Twice the labels <b> bring"],
        "chart": "<figure>drawn</figure>",
        "rows": [row],
    }
    entry = {"row": 3, "text": "<i>x", "label": "good", "suggestion": "bad", "probability": 0.97}
    facts["labels"] = {"count": 1, "of": 120, "file": "labels_to_check.csv", "words": ["A person decides."],
                       "entries": [entry]}  # fmt: skip
    page = write_repeat(folder, facts).read_text()
    assert "Twice the labels &lt;b&gt; bring" in page and "<figure>drawn</figure>" in page
    assert '<a href="labels_to_check.csv">' in page and "&lt;i&gt;x" in page and ">0.97<" in page
    entry["pair"] = "<b>second"
    page = write_repeat(folder, facts).read_text()
    assert "&lt;b&gt;second" in page
    facts["labels"]["entries"] = []
    assert ">probability<" not in write_repeat(folder, facts).read_text()


@pytest.mark.parametrize("kind", ["classifier", "multi_label", "regression"])
def test_the_labels_to_check_of_each_kind_are_shown(kind):
    """As they are found, not as a test thinks that they are."""
    folder = Path("runs/x/repeat_0")
    _, facts = written_repeat(folder)
    own = -9.6 if kind == "regression" else 0.04
    issue = LabelIssue(3, "text", None, "1.5", "2.5", 0.96, own, 1, "model")
    facts["labels"] = label_issue_facts(LabelIssues(kind, 120, 1, [issue], None, []))
    page = write_repeat(folder, facts).read_text()
    assert (">\u22129.6<" in page or ">-9.6<" in page) if kind == "regression" else ">0.96<" in page


def test_a_file_without_results_is_told():
    folder = Path("runs/x/repeat_0")
    folder.mkdir(parents=True)
    (folder / runs.REPEAT).write_text(json.dumps({"plan": {}}))
    with pytest.raises(UserError, match="has no results yet; give the same `repeat` again"):
        read_repeat(folder)
    (folder / runs.REPEAT).write_text("{")
    with pytest.raises(UserError, match="repeat.json .*; give the same `repeat` again, which writes it"):
        main("report", [str(folder)])
    one = folder / "seed_42_fold_1"
    one.mkdir()
    (one / runs.METRICS).touch()
    with pytest.raises(UserError, match=f"found the repeat {folder}, which is shown alone; .* such as {one}"):
        main("report", [str(folder), str(folder)])
    with pytest.raises(UserError, match=f"found 'x'; the newest are {folder}"):
        main("report", ["x"])
