"""The runs of a repeat as one: answers put together, figures, intervals, differences, what is missing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error, r2_score
from support.repeats import NAMES, answers, repeat, written

from lit_ft.errors import UserError
from lit_ft.report.intervals import of_answers, scores_of
from lit_ft.report.multi_label import CHOSEN
from lit_ft.report.pooled import Repetition, difference, ends_of_score, f1_of_each, figures, pool


def whole(folder: str, labels, predicted, seed: int = 42, kind: str = "classifier", **more):
    """A run without folds that was tested on these texts."""
    one = Repetition(seed, None, 1.0, Path(folder))
    return written(one, "test", range(1, len(labels) + 1), labels, predicted, kind, **more)


def test_folds_are_put_together():
    found = pool(repeat(Path("a"), 60, ordered=True), "fold")
    assert (found.kind, found.seeds, found.names, found.ordered) == ("classifier", (42, 43), NAMES, True)
    assert found.rows.tolist() == list(range(1, 61)) and found.predicted.shape == (2, 60)
    assert found.folds.tolist() == [1, 2, 3] * 20 and found.notes == ()
    told = figures(found)
    assert (told["texts"], told["seeds"], told["folds"], told["draws"]) == (60, [42, 43], [1, 2, 3], 2000)
    said = [answers(60, 0.8, seed)[1] for seed in (42, 43)]
    labels = answers(60, 0.8, 42)[0]
    expected = [scores_of(labels, one, 3, True) for one in said]
    for name in ("accuracy", "macro_f1", "mae", "kappa"):
        score = told["scores"][name]
        assert score["seeds"]["values"] == pytest.approx([one[name] for one in expected])
        assert score["value"] == pytest.approx(np.mean([one[name] for one in expected]))
        assert score["low"] < score["value"] < score["high"]
    assert expected[0]["macro_f1"] == pytest.approx(f1_score(labels, said[0], average="macro"))
    assert expected[0]["kappa"] == pytest.approx(cohen_kappa_score(labels, said[0], weights="quadratic"))
    # Each run is one seed on one fold; a fold's figure is the mean over the seeds.
    accuracy = told["scores"]["accuracy"]
    singles = [(one == labels)[fold::3].mean() for one in said for fold in range(3)]
    assert accuracy["runs"] == pytest.approx(singles)
    assert told["runs"] == [{"seed": seed, "fold": fold} for seed in (42, 43) for fold in (1, 2, 3)]
    means = np.reshape(singles, (2, 3)).mean(0)
    assert accuracy["folds"]["values"] == pytest.approx(means.tolist())
    assert accuracy["folds"]["sd"] == pytest.approx(means.std(ddof=1))
    assert told["scores"]["loss"]["value"] == pytest.approx(
        np.mean([np.where(one == labels, 0.1, 2.0) for one in said])
    )
    json.dumps(told, allow_nan=False)


def test_one_seed_says_what_is_unknown():
    told = figures(pool(repeat(Path("a"), seeds=(42,)), "fold"))
    assert told["unknown"] == ["one seed: how far seeds differ is unknown; --seeds=3 says"]
    assert told["scores"]["accuracy"]["seeds"]["sd"] is None


def test_the_interval_is_that_of_one_evaluation_and_narrower_for_several_seeds():
    labels, said = answers(500, 0.8, 1)
    one = pool([whole("a", labels, said)], "test")
    low, high = ends_of_score(one, "accuracy", one.draws["accuracy"])
    known = of_answers(labels, said, 3, False)["scores"]
    assert (low, high) == pytest.approx(tuple(known["accuracy"]), abs=0.005)
    seeds = [whole(f"s{seed}", *answers(500, 0.8, seed), seed=seed) for seed in range(1, 6)]
    several = pool(seeds, "test")
    ends = ends_of_score(several, "accuracy", several.draws["accuracy"])
    assert ends[1] - ends[0] < high - low
    # Equal runs add nothing.
    same = pool([whole(f"t{seed}", labels, said, seed=seed) for seed in (1, 2, 3)], "test")
    assert ends_of_score(same, "accuracy", same.draws["accuracy"]) == pytest.approx((low, high))


def test_each_fold_model_measures_the_same_test():
    labels = answers(40, 0.8, 1)[0]
    found = []
    for seed, fold in ((1, 1), (1, 2), (2, 1)):
        one = Repetition(seed, fold, 1.0, Path(f"{seed}_{fold}"))
        found.append(written(one, "test", range(1, 41), labels, answers(40, 0.8, seed * 10 + fold)[1]))
    pooled = pool([*found, Repetition(2, 2, 1.0, Path("none"))], "test")
    assert pooled.folds is None and pooled.members == ((1, 1), (1, 2), (2, 1))
    assert pooled.notes == ("seed 2, fold 2 is left out: it is not finished",)
    accuracy = figures(pooled)["scores"]["accuracy"]
    runs_of = accuracy["runs"]
    assert accuracy["seeds"]["values"] == pytest.approx([np.mean(runs_of[:2]), runs_of[2]])
    assert accuracy["value"] == pytest.approx(np.mean([np.mean(runs_of[:2]), runs_of[2]]))
    assert accuracy["folds"]["values"] == pytest.approx([(runs_of[0] + runs_of[2]) / 2, runs_of[1]])


def test_several_labels_and_numbers():
    rng = np.random.default_rng(0)
    tags, said = rng.random((80, 4)) < 0.4, rng.random((80, 4)) < 0.4
    said |= tags & (rng.random((80, 4)) < 0.7)
    found = pool([whole("a", tags, said, kind="multi_label", names="wxyz")], "test")
    scores = figures(found)["scores"]
    assert scores[f"micro_f1{CHOSEN}"]["value"] == pytest.approx(f1_score(tags, said, average="micro"))
    assert scores[f"macro_f1{CHOSEN}"]["value"] == pytest.approx(f1_score(tags, said, average="macro"))
    assert scores[f"subset_accuracy{CHOSEN}"]["value"] == pytest.approx((tags == said).all(1).mean())
    assert all(one["low"] < one["value"] < one["high"] for one in scores.values())
    each = {one["name"]: one for one in f1_of_each(found)}
    assert each["x"]["value"] == pytest.approx(f1_score(tags[:, 1], said[:, 1]))
    assert each["x"]["low"] < each["x"]["value"] < each["x"]["high"]
    labels = rng.normal(1e6, 2.0, 80)
    numbers = labels + rng.normal(0, 1.0, 80)
    found = pool([whole("b", labels, numbers, kind="regression", names=["price"])], "test")
    scores = figures(found)["scores"]
    assert list(scores) == ["mae", "rmse", "r2"] and f1_of_each(found) == []
    assert scores["mae"]["value"] == pytest.approx(mean_absolute_error(labels, numbers))
    assert scores["rmse"]["value"] == pytest.approx(((labels - numbers) ** 2).mean() ** 0.5)
    assert scores["r2"]["value"] == pytest.approx(r2_score(labels, numbers))
    assert all(one["low"] < one["value"] < one["high"] for one in scores.values())


def test_differences_are_of_the_same_texts():
    one, other = (pool(repeat(Path(name), 60, rate=rate), "fold") for name, rate in (("a", 0.6), ("b", 0.95)))
    assert all(d.value == d.low == d.high == 0 and not d.certain for d in difference(one, one))
    found = {d.score.name: d for d in difference(one, other)}
    values = other.draws["accuracy"] - one.draws["accuracy"]
    assert found["accuracy"].value == pytest.approx(values[0]) and found["accuracy"].certain
    assert found["accuracy"].told("b", "a").endswith("b is better")
    # Of the texts in common alone.
    part = one.take(np.arange(30))
    assert difference(part, other)[0].value == pytest.approx(
        difference(part, other.take(np.arange(30)))[0].value
    )
    with pytest.raises(UserError, match="expected texts in common, found none in a/seed_42_fold_1 and b/"):
        difference(replace(one, rows=one.rows + 1000), other)


def test_what_is_missing_is_told():
    found = repeat(Path("a"), 60)
    shutil.rmtree(found[1].folder)
    one = pool(found, "fold")
    assert one.seeds == (43,) and len(one.rows) == 60
    assert one.notes == (
        "seed 42, fold 2 is left out: it is not finished",
        "seed 42 is left out: it misses fold 2; give the same `repeat` again: it does what is missing",
    )
    shutil.rmtree(found[5].folder)
    (found[4].folder / "fold_predictions.parquet").unlink()
    part = pool(found, "fold")
    assert part.seeds == (42,) and part.folds.tolist() == [1, 3] * 20
    assert part.notes[1:3] == (
        "seed 43, fold 2 is left out: there is no fold_predictions.parquet",
        "seed 43, fold 3 is left out: it is not finished",
    )
    assert part.notes[3].startswith("the figures are of fold 1, 3 of 3: no seed has all folds; give the same")
    with pytest.raises(UserError, match=r"found none \(none: it is not finished\); give the same `repeat`"):
        pool([Repetition(1, 1, 1.0, Path("none"))], "fold")


def test_other_data_is_refused():
    labels, said = answers(30, 0.8, 1)
    runs = [whole("a", labels, said), whole("b", (labels + 1) % 3, said, seed=43)]
    with pytest.raises(
        UserError, match=r"in b than in a \(30 of 30 texts or their labels differ, the first in"
    ):
        pool(runs, "test")
    with pytest.raises(UserError, match="30 and 20 texts, which are not of the same rows"):
        pool([runs[0], whole("c", labels[:20], said[:20], seed=43)], "test")
    one = repeat(Path("d"), 60, seeds=(42,))
    written(one[1], "fold", range(1, 21), answers(60, 0.8, 42)[0][:20], answers(60, 0.8, 42)[1][:20])
    with pytest.raises(UserError, match=r"expected each text in one fold, found row 1 in several \(d/"):
        pool(one, "fold")


def test_all_right_has_an_interval():
    labels = np.array([0, 1, 2, 0])
    told = figures(pool([whole("a", labels, labels, ordered=True)], "test"))["scores"]
    assert told["accuracy"]["high"] == 1 and told["accuracy"]["low"] == pytest.approx(0.51, abs=0.01)
    assert told["mae"]["value"] == 0 and told["mae"]["low"] is None
