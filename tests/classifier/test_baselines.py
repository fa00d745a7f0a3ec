"""What a fit compares its model with: measured on the same texts, fitted once, never at the run's cost."""

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import lasting, review, write_csv
from label_objects import classes
from lightning.pytorch.callbacks import EarlyStopping, Timer
from test_preempt import signal_at

from lit_ft.classifier import baselines, word_counts
from lit_ft.classifier.metrics import ClassifierMetrics
from lit_ft.classifier.single_label import class_scores
from lit_ft.classifier.tracking import take_back
from lit_ft.reliability import run_owner

RUN = Path("runs/small/version_0")
SCORES = ("accuracy", "macro_f1", "mae", "kappa")
SKEWED = [(i % 5 + 1 if i < 60 else 4, review(i % 5 + 1 if i < 60 else 4, i // 5)) for i in range(100)]


def metrics() -> dict:
    return json.loads((RUN / "metrics.json").read_text())


def facts() -> dict:
    return json.loads((RUN / "report.json").read_text())


def under(prefix: str) -> dict:
    return {tag: value for tag, value in metrics().items() if tag.startswith(prefix)}


def failing(*args, **kwargs):
    raise MemoryError("no memory for\nword counts")


def scores(num_classes: int, labels: np.ndarray, answers: np.ndarray, ordered: bool = True) -> dict:
    names = classes([str(c) for c in range(num_classes)], ordered)
    return class_scores(names, labels, answers, labels)


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_model(seed):
    """Also with a class that no text has and none predicts, and one that is only predicted."""
    generator = np.random.default_rng(seed)
    labels, predicted = generator.integers(0, 4, 50), generator.integers(0, 5, 50)
    theirs = ClassifierMetrics(6, "val/")
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 6).float() * 9
    theirs.update(torch.tensor(0.0), logits, torch.tensor(labels), torch.arange(50))
    expected, *_ = theirs.compute()
    found = scores(6, labels, predicted)
    for score in SCORES:
        assert found[score] == pytest.approx(float(expected[f"val/{score}"]), abs=1e-6), score
    assert found["class_counts"]["rows"] == np.bincount(labels, minlength=6).tolist()
    assert not {"mae", "kappa"} & scores(6, labels, predicted, ordered=False).keys()


def test_a_constant_answer_has_no_kappa():
    labels = np.array([0, 1, 1, 4])
    assert scores(5, labels, np.full(4, 1))["kappa"] == 0
    assert np.isnan(scores(5, labels[1:3], np.full(2, 1))["kappa"])


def test_baselines_are_measured_on_the_texts_of_the_model(lit_ft, fit_args, work):
    write_csv(work / "train.csv", SKEWED)
    code, out, err = lit_ft("fit", *fit_args, "--data.ordered", "true")
    assert code == 0 and "warning" not in err, err
    assert "baselines: word counts 1.000, always '4' 0.444 accuracy on 18 validation texts (logistic " in out
    found, values = facts()["baselines"], metrics()
    assert found["commonest"] == {"class": 3, "share": pytest.approx(44 / 82)}
    assert found["words"] | {"seconds": 0, "iterations": 0} == {
        "method": "logistic regression", "analyzer": "words", "rows": 82, "converged": True, "seconds": 0,
        "iterations": 0, "features": len(json.loads((RUN / "baseline/words.json").read_text())["vocabulary"]),
    }  # fmt: skip
    assert values["baseline/words/seconds"] == found["words"]["seconds"] < 3
    assert values["baseline/words/val/accuracy"] == 1 and values[
        "baseline/commonest/val/accuracy"
    ] == pytest.approx(8 / 18, abs=1e-6)
    assert under("baseline/").keys() == {
        "baseline/words/seconds", *(f"baseline/{b}/val/{s}" for b in ("words", "commonest") for s in SCORES)
    }  # fmt: skip
    check_pairs("val")
    assert "baselines" not in facts()["evaluations"]["val"]

    # Other texts, without the training data.
    (work / "train.csv").unlink()
    write_csv(work / "other.csv", [(i % 5 + 1, review(i % 5 + 1, i)) for i in range(12)])
    code, _, err = lit_ft("test", *fit_args, "--data.test_path", "other.csv")
    assert code == 0 and "warning" not in err, err
    assert metrics()["baseline/words/test/accuracy"] == 1
    assert metrics()["baseline/commonest/test/accuracy"] == pytest.approx(2 / 12, abs=1e-6)
    check_pairs("test")
    code, _, err = lit_ft(
        "test", *fit_args, "--trainer.limit_test_batches", "1", "--data.eval_batch_size", "8"
    )
    assert code == 0, err
    assert sum(facts()["baselines"]["evaluations"]["test"]["words"]["class_counts"]["rows"]) == 8


def check_pairs(prefix: str) -> None:
    """The rows on which only one is right explain the difference of the accuracies."""
    for name, found in facts()["baselines"]["evaluations"][prefix].items():
        rows = metrics()[f"{prefix}/rows"]
        more = metrics()[f"{prefix}/accuracy"] - metrics()[f"baseline/{name}/{prefix}/accuracy"]
        assert found["only_model_right"] - found["only_baseline_right"] == pytest.approx(
            more * rows, abs=1e-4
        )
        assert found["accuracy"] == sum(found["class_counts"]["right"]) / rows
        assert sum(found["class_counts"]["rows"]) == sum(found["class_counts"]["predicted"]) == rows


def test_names_without_an_order_have_no_distance(lit_ft, fit_args, work):
    write_csv(work / "train.csv", [("abcde"[i % 5], review(i % 5 + 1, i // 5)) for i in range(100)])
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    assert {tag.rpartition("/")[2] for tag in under("baseline/")} == {"seconds", "accuracy", "macro_f1"}


def test_a_fit_is_the_same_without_them(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    code, out, err = lit_ft("fit", *fit_args, "--baselines", "false")
    assert code == 0 and "baseline" not in out + err
    other = RUN.with_name("version_1")
    one, two = (torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (RUN, other))
    assert one["state_dict"].keys() == two["state_dict"].keys()
    assert all(torch.equal(weight, two["state_dict"][name]) for name, weight in one["state_dict"].items())
    with_them = lasting(metrics())
    without = lasting(json.loads((other / "metrics.json").read_text()))
    assert {tag: v for tag, v in with_them.items() if not tag.startswith("baseline/")} == without
    assert not (other / "baseline").exists()
    assert "baselines" not in json.loads((other / "report.json").read_text())
    # Asked for afterwards: measured on what the best checkpoint said, which is not run again.
    last = str(other / "checkpoints/last.ckpt")
    code, out, err = lit_ft("fit", *fit_args, "--ckpt_path", last)
    assert code == 0 and "beside it: always" in out and "counting words" in out, err
    afterwards = lasting(json.loads((other / "metrics.json").read_text()))
    assert {t: v for t, v in afterwards.items() if "seconds" not in t} == {
        t: v for t, v in with_them.items() if "seconds" not in t
    }
    (other / "val_predictions.parquet").unlink()
    code, out, err = lit_ft("fit", *fit_args, "--ckpt_path", last)
    told = "the baselines are not measured on the validation texts: there is no val_predictions.parquet; "
    assert code == 0 and told + "`validate` measures them" in out, err


def test_a_resumed_run_reads_them_back(lit_ft, fit_args, monkeypatch):
    assert lit_ft("fit", *fit_args, signal_at(batch=12))[0] == 143
    fitted = {path.name: path.read_bytes() for path in (RUN / "baseline").iterdir()}
    monkeypatch.setattr(word_counts, "fit", failing)
    code, out, err = lit_ft("fit", *fit_args, "--ckpt_path", "last")
    assert code == 0 and "warning" not in err, err
    assert "baselines: word counts 1.000, always" in out
    assert {path.name: path.read_bytes() for path in (RUN / "baseline").iterdir()} == fitted
    assert metrics()["baseline/words/val/accuracy"] == 1
    # A test of these weights stays when the finished run is resumed again.
    assert lit_ft("test", *fit_args)[0] == 0
    tested = under("baseline/words/test/")
    assert lit_ft("fit", *fit_args, "--ckpt_path", "last")[0] == 0
    assert under("baseline/words/test/") == tested != {}
    assert facts()["baselines"]["evaluations"].keys() == {"val", "test"}
    # Damaged, they cost a test one line.
    (RUN / "baseline/words.safetensors").write_bytes(b"cut")
    code, _, err = lit_ft("test", *fit_args)
    assert code == 0 and err.count("warning") == 1
    assert f"warning: baselines: {RUN / 'baseline'} cannot be used (" in err


def test_failing_word_counts_cost_one_line(lit_ft, fit_args, monkeypatch):
    monkeypatch.setattr(word_counts, "fit", failing)
    code, out, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")
    assert code == 0
    warnings = [line for line in err.splitlines() if "warning" in line]
    assert warnings == [
        "warning: no baseline of word counts: no memory for; the run goes on without "
        "(--baselines=false leaves them out)"
    ]
    assert "baselines: always '1' 0.200 accuracy on 20 validation texts\n" in out
    assert facts()["baselines"].keys() == {"commonest", "evaluations"}
    assert {tag.split("/")[1] for tag in under("baseline/")} == {"commonest"}
    monkeypatch.setattr("lit_ft.classifier.single_label.class_counts", failing)
    code, _, err = lit_ft("test", *fit_args)
    assert code == 0 and "warning: baselines not measured: no memory for" in err
    assert metrics()["test/rows"] == 30


def test_a_trial_run_has_none(lit_ft, fit_args):
    code, out, _ = lit_ft("fit", *fit_args, "--trainer.fast_dev_run", "true")
    assert code == 0 and "baseline" not in out and not (RUN / "baseline").exists()


@pytest.mark.parametrize("undo", [run_owner.give_up, take_back])
def test_a_run_that_fails_at_once_leaves_nothing(undo):
    (RUN / "baseline").mkdir(parents=True)
    (RUN / "baseline/words.json").touch()
    undo(RUN)
    assert not Path("runs").exists()


# ---- the time --------------------------------------------------------------------------------------


def time_for(weights=20_000_000, tokens=1_000_000, epochs=3, steps=-1, device="cpu", callbacks=()) -> float:
    """For 100 batches an epoch on one process."""
    table = torch.nn.Embedding(10, 10)
    net = torch.nn.ModuleList([table, torch.nn.Linear(weights, 1, bias=False, device="meta")])
    net.get_input_embeddings = lambda: table
    trainer = SimpleNamespace(
        world_size=1, limit_train_batches=1.0, max_epochs=epochs, max_steps=steps, precision="32-true",
        accumulate_grad_batches=2, callbacks=callbacks,
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )  # fmt: skip
    rows = SimpleNamespace(lengths=np.full(1_000, tokens // 1_000))
    data = SimpleNamespace(
        splits={"train": SimpleNamespace(rows=rows)}, num_train_batches=lambda world_size: 100
    )
    return baselines.time_for(trainer, net, data)


def test_five_percent_of_what_a_run_takes_at_least(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    # 4 operations for each of 20 M weights and 3 M tokens, at 2 x 10^11 a second: 1,200 s
    assert time_for() == pytest.approx(60.0)
    assert time_for(weights=10_000_000) == pytest.approx(30.0)
    assert time_for(weights=10_000_000, steps=50) == pytest.approx(10.0)  # of 150
    assert time_for(weights=10_000_000, epochs=-1, steps=50) == pytest.approx(10.0)
    assert time_for(weights=10_000_000, callbacks=[EarlyStopping("val/loss")]) == pytest.approx(10.0)
    assert time_for(callbacks=[Timer(timedelta(seconds=100))]) == pytest.approx(5.0, abs=0.1)
    assert time_for(weights=10**9, device="cuda") == 12.0
    assert time_for(weights=10**9) == 60 and time_for(weights=1_000) == 3
