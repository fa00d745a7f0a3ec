"""Labels to check: confident learning by hand, planted errors, odd data, and the files."""

import csv
import importlib.util
import json
from codecs import BOM_UTF8

import numpy as np
import pytest
from conftest import REPOSITORY, write_csv
from fold_files import of_classes, repetition

from lit_ft.errors import UserError
from lit_ft.report import label_issues
from lit_ft.report.confident_learning import confident_classes, estimated_errors, mean_confidences
from lit_ft.report.label_issues import (
    TO_CHECK,
    LabelIssues,
    as_given,
    find_label_issues,
    label_issue_facts,
    label_issue_line,
    write_label_issues,
)
from lit_ft.report.out_of_fold import write_out_of_fold

NASTY = '=HYPERLINK("x")\nof "two" lines; رفض 🍜'


def found_in(folder, columns, **note) -> LabelIssues:
    return find_label_issues(
        write_out_of_fold([repetition(folder, 42, 1, columns, **note)], folder / "o.parquet")
    )


def of_shares(folder, labels, shares, names=("a", "b", "c"), listed=0, **columns) -> LabelIssues:
    names = list(names)[: np.shape(shares)[1]] if len(names) < 10 else list(names)
    given = of_classes(range(1, len(labels) + 1), labels, shares, names, listed)
    return found_in(folder, {**given, **columns}, labels=names)


def test_the_confident_joint_by_hand(tmp_path):
    """Thresholds 0.6 and 0.575: cells aa 3, ab 1, ba 1, bb 2, and the last row is in none."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    of_b = np.array([0.1, 0.2, 0.9, 0.4, 0.9, 0.7, 0.2, 0.5])
    shares = np.stack([1 - of_b, of_b], 1)
    thresholds = mean_confidences(labels, shares[np.arange(8), labels], 3)
    assert thresholds == pytest.approx([0.6, 0.575, np.inf])
    confident = confident_classes(shares, thresholds[:2])
    assert confident.tolist() == [0, 0, 1, 0, 1, 1, 0, -1]
    assert estimated_errors(labels, confident, 3) == pytest.approx(4 * 1 / 4 + 4 * 1 / 3)
    issues = of_shares(tmp_path, labels, shares)
    assert [(one.row, one.label, one.suggestion) for one in issues.listed] == [(3, "a", "b"), (7, "b", "a")]
    assert (issues.listed[0].chance, issues.listed[0].own) == pytest.approx((0.9, 0.1))
    assert issues.estimated == pytest.approx(7 / 3) and issues.count == 2 and issues.of == 8


def test_a_suggestion_is_likelier_than_the_label(tmp_path):
    """The first row reaches the threshold of b alone, but a is likelier."""
    shares = [[0.55, 0.4, 0.05], [0.9, 0.05, 0.05], [0.2, 0.4, 0.4], [0.3, 0.3, 0.4]]
    issues = of_shares(tmp_path, [0, 0, 1, 1], shares)
    assert issues.count == 0 and issues.estimated > 0
    assert label_issue_line(issues) == "labels to check: 0 of 4"
    assert issues.words[-1].startswith("That nothing was found does not mean")


def test_planted_errors_are_found(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    logits = rng.normal(size=(600, 3)) + 5 * np.eye(3)[truth]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    planted = rng.choice(600, 30, replace=False)
    labels = truth.copy()
    labels[planted] = (truth[planted] + 1) % 3
    issues = of_shares(tmp_path, labels, shares)
    rows = [one.row - 1 for one in issues.listed]
    assert issues.count == len(rows) >= 24 and set(rows) <= set(planted)
    right = [one.suggestion == "abc"[truth[one.row - 1]] for one in issues.listed[:25]]
    assert all(right) and issues.estimated == pytest.approx(30, abs=8)
    assert [one.own for one in issues.listed] == sorted(one.own for one in issues.listed)


@pytest.mark.parametrize(
    "labels, shares, said",
    [
        ([0, 0, 0], [[0.9, 0.1], [0.2, 0.8], [1.0, 0.0]], "All texts have the same label"),
        ([0, 1, 1], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "1 class has no text here"),
        ([0, 1], [[0.5, 0.5], [0.5, 0.5]], "2 classes have fewer than 10 texts"),
        ([0], [[1.0]], "All texts have the same label"),
    ],
)
def test_little_to_go_by(tmp_path, labels, shares, said):
    issues = of_shares(tmp_path, labels, shares)
    assert any(said in words for words in issues.words) and issues.count <= 1
    assert np.isfinite(issues.estimated)


def test_five_thousand_classes(tmp_path):
    """Only the likeliest are known, and the label's own."""
    names = [f"c{i}" for i in range(5000)]
    labels = np.arange(12) % 6
    shares = np.full((12, 5000), 0.1 / 4999)
    shares[np.arange(12), labels] = 0.9
    shares[0] = np.roll(shares[0], 1)  # c1 instead
    issues = of_shares(tmp_path, labels, shares, names, 5)
    assert [(one.row, one.label, one.suggestion) for one in issues.listed] == [(1, "c0", "c1")]
    assert issues.listed[0].own == pytest.approx(0.1 / 4999) and issues.listed[0].chance == pytest.approx(0.9)
    assert any("4,994 classes have no text" in words for words in issues.words)


def test_an_order_is_told(tmp_path):
    shares = np.full((30, 3), 0.05) + 0.85 * np.eye(3)[np.arange(30) % 3]
    labels = np.arange(30) % 3
    labels[:3] = [1, 0, 0]  # one, one and two steps
    reps = [repetition(tmp_path, 42, 1, of_classes(range(1, 31), labels, shares, "abc"), labels=list("abc"))]
    (reps[0].folder / "report.json").write_text(json.dumps({"ordered": True}))
    issues = find_label_issues(write_out_of_fold(reps, tmp_path / "o.parquet"))
    assert any(
        words.startswith("2 of the 3 suggestions of the models are one step") for words in issues.words
    )


def test_equal_texts_with_other_labels_come_first(tmp_path):
    """The label that the models find likelier is suggested, even if they are sure of neither."""
    shares = [[0.4, 0.35, 0.25]] * 2 + [[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.9, 0.05, 0.05]]
    texts = ["same", "same", "x", "y", "z"]
    issues = of_shares(tmp_path, [1, 0, 0, 1, 1], shares, text=texts)
    listed = [(one.row, one.suggestion, one.reason) for one in issues.listed]
    assert listed == [(1, "a", "equal text"), (5, "a", "model")]
    assert (issues.listed[0].chance, issues.listed[0].own) == pytest.approx((0.4, 0.35))
    assert issues.words[0].startswith(
        "1 row, listed first, has a text that another row has with another label"
    )


def test_what_the_models_never_saw_is_not_judged(tmp_path):
    """`odd` and the tag `rare` are in one fold alone: the models of the other folds were not asked."""
    names = ["a", "b", "odd"]
    shares = 0.05 + 0.85 * np.eye(3)
    of_fold = lambda labels, said: of_classes(range(1, len(said) + 1), labels, shares[said], names)  # noqa: E731
    first = of_fold([0, 1] * 6 + [2], [0, 1] * 6 + [0])
    second = of_fold([0, 1] * 6, [1] + [1] * 11)
    second["row"] = range(20, 32)
    reps = [repetition(tmp_path, 42, fold, one, labels=names) for fold, one in ((1, first), (2, second))]
    issues = find_label_issues(write_out_of_fold(reps, tmp_path / "o.parquet"))
    assert {one.label for one in issues.listed} == {"a"} and issues.count == 6
    assert any(words.startswith("1 class has texts in one fold only, whose models") for words in issues.words)
    alone = [
        repetition(tmp_path / "tags", 42, fold, {
            "row": range(fold, 9, 2), "label": given, "predicted": [["x"], []] * 2, "loss": [0.1] * 4,
            "probability_x": [0.9, 0.1] * 2, "probability_rare": [0.01] * 4,
        }, kind="multi_label", labels=["x", "rare"])
        for fold, given in ((1, [["x"], [], ["x", "rare"], []]), (2, [["x"], [], ["x"], ["x"]]))
    ]  # fmt: skip
    issues = find_label_issues(write_out_of_fold(alone, tmp_path / "t.parquet"))
    assert [(one.row, one.suggestion) for one in issues.listed] == [(8, "-x")]
    assert any(words.startswith("1 label has texts in one fold only") for words in issues.words)


def test_models_that_learned_nothing_judge_nothing(tmp_path):
    issues = of_shares(tmp_path, [0, 0, 1, 1, 1], [[0.4, 0.6]] * 5)
    assert issues.weak and any(words.startswith("These models are hardly better") for words in issues.words)
    line = label_issue_line(issues)
    assert line.endswith("but the models are hardly better than always answering the commonest label: "
                         "they cannot judge labels")  # fmt: skip


def test_several_labels(tmp_path):
    """One that is missing, one too many, and equal texts with other labels."""
    names = ["bug", "cost"]
    given = [["bug"], ["cost"], [], ["bug", "cost"], ["bug"], []] * 4
    bug = [0.9, 0.1, 0.1, 0.9, 0.9, 0.1] * 4
    cost = [0.1, 0.9, 0.1, 0.9, 0.1, 0.1] * 4
    bug[2], cost[3], cost[0] = 0.95, 0.02, 0.97
    texts = [f"text {i}" for i in range(22)] + ["twice", "twice"]
    columns = {
        "row": range(1, 25), "text": texts, "label": given, "predicted": given,
        "loss": [-np.log(0.9)] * 24, "probability_bug": bug, "probability_cost": cost,
    }  # fmt: skip
    issues = found_in(tmp_path, columns, kind="multi_label", labels=names)
    listed = [(one.row, one.label, one.suggestion, one.reason) for one in issues.listed]
    assert listed == [
        (24, "none", "+bug", "equal text"), (4, "bug; cost", "-cost", "model"), (1, "bug", "+cost", "model"),
        (3, "none", "+bug", "model"),
    ]  # fmt: skip
    assert np.isnan(issues.listed[0].own) and issues.listed[1].own == pytest.approx(0.02)
    assert label_issue_facts(issues)["entries"][0]["probability"] is None
    assert issues.estimated == pytest.approx(3, abs=0.5)


def test_numbers_far_out(tmp_path):
    residuals = np.array([-1.0, 1.0] * 20)
    residuals[[3, 8]] = [30.0, -90.0]

    def of(residuals):
        columns = {
            "row": range(1, 41),
            "label": 50 + residuals,
            "predicted": [50.0] * 40,
            "loss": residuals**2,
        }
        return found_in(tmp_path / str(residuals[0]), columns, kind="regression", labels=["stars"])

    issues = of(residuals)
    assert [(one.row, one.label, one.suggestion) for one in issues.listed] == [
        (9, "-40", "50"),
        (4, "80", "50"),
    ]
    assert issues.estimated is None and issues.listed[0].own == pytest.approx(0.6745 * -90, rel=0.05)
    path = write_label_issues(issues, tmp_path / TO_CHECK)
    assert ",-40,50," in path.read_text() and path.read_bytes().startswith(BOM_UTF8)
    assert path.read_text("utf-8-sig").splitlines()[0] == "rank,row,text,label,suggestion,robust_z,fold"
    assert [as_given(value) for value in (1234567.5, 1e6, -0.1)] == ["1234567.5", "1000000", "-0.1"]
    issues = of(np.zeros(40))
    assert issues.count == 0 and issues.words[0].startswith("Half of the residuals are all the same")


def test_the_files(tmp_path, monkeypatch):
    """Read back as written, with line breaks and quotes, no formula; the first of many, and that is said."""
    monkeypatch.setattr(label_issues, "MOST_LISTED", 2)
    labels, truth = [1, 1, 1] + [0, 1] * 10, [0, 0, 0] + [0, 1] * 10
    shares = 0.1 + 0.8 * np.eye(2)[truth]
    shares[1] = [0.99, 0.01]
    texts = ["one", NASTY, "three"] + [f"text {i}" for i in range(20)]
    issues = of_shares(tmp_path, labels, shares, ["so so", '"good"'], text=texts, pair=["second\n"] * 23)
    assert issues.count == 3 and len(issues.listed) == 2
    assert "The list ends after the first 2 of 3." in issues.words
    path = write_label_issues(issues, tmp_path / TO_CHECK)
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *rows = csv.reader(file)
    assert header == [
        "rank", "row", "text", "pair", "label", "suggestion",
        "probability", "probability_of_label", "fold", "reason",
    ]  # fmt: skip
    assert rows[0] == [
        "1",
        "2",
        f"'{NASTY}",
        "second\n",
        '"good"',
        "so so",
        "0.990000",
        "0.010000",
        "1",
        "model",
    ]
    facts = label_issue_facts(issues)
    assert json.loads(json.dumps(facts)) == facts and facts["count"] == 3 and facts["file"] == TO_CHECK
    assert facts["entries"][0]["text"] == NASTY and facts["entries"][0]["rank"] == 1
    assert "a person decides" in facts["words"][-1].lower() and "nothing was changed" in facts["words"][-1]
    line = label_issue_line(issues)
    assert (
        line.startswith("labels to check: 3 of 23 (labels_to_check.csv), the first: row 2: ")
        and "\n" not in line
    )
    assert line.endswith(', labelled "good", perhaps so so')


def test_another_file_is_refused(tmp_path):
    with pytest.raises(
        UserError, match="expected out-of-fold predictions in .*none.parquet, found none; make"
    ):
        find_label_issues(tmp_path / "none.parquet")
    run = repetition(tmp_path, 42, 1, of_classes([1], [0], [[0.5, 0.5]], "ab"), labels=["a", "b"]).folder
    with pytest.raises(UserError, match="found none; make them by `repeat --folds=5`"):
        find_label_issues(run / "fold_predictions.parquet")


def test_planted_labels_are_scored(tmp_path):
    """Average precision by hand: the first and the third listed are planted, and one that is not listed."""
    spec = importlib.util.spec_from_file_location("planted_errors", REPOSITORY / "scripts/planted_errors.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    found = script.score_list([7, 1, 9], {7, 9, 12})
    assert found["precision"] == found["recall"] == found["precision_at_planted"] == pytest.approx(2 / 3)
    assert found["average_precision"] == pytest.approx((1 + 2 / 3) / 3) and found["precision_at_50"] == 0.04
    rows = [(i % 3, f"line\n{i}") for i in range(40)]
    source = write_csv(tmp_path / "train.csv", rows)
    assert script.plant(source, tmp_path / "to", "label", 0.25, seed=1) == 10
    with (tmp_path / "to/train.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["text"] for row in written] == [text for _, text in rows]
    changed = [i + 1 for i, row in enumerate(written) if row["label"] != str(rows[i][0])]
    assert changed == script.rows_of(tmp_path / "to/key.csv") and len(changed) == 10
