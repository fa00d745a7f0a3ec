"""`model.decide`: what was predicted is one thing in figures, files, page, card and `predict`."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import one_line, write_csv
from label_objects import classes
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, mean_absolute_error
from torchmetrics.functional.classification import multiclass_calibration_error
from transformers import pipeline

from lit_ft.classifier.metrics import ClassifierMetrics
from lit_ft.classifier.model import BertClassifier
from lit_ft.errors import UserError
from lit_ft.report.analysis import calibration_error, reliability, side_by_side, softmax, summarise
from lit_ft.tasks import DECISIONS, decided

RUN = Path("runs/small/version_0")
MEDIAN = ["--data.ordered", "true", "--model.decide", "median", "--model.learning_rate", "1e-3"]


def drawn(rows: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(rows, 5), torch.randint(0, 5, (rows,))


@pytest.mark.parametrize("how", DECISIONS)
def test_every_figure_is_of_what_was_decided(how):
    logits, labels = drawn()
    metrics = ClassifierMetrics(5, "val/", decide=how)
    for part in torch.arange(300).split(70):
        metrics.update(torch.tensor(1.0), logits[part], labels[part], part)
    tags, matrix, outcomes, temperature = metrics.compute()
    probabilities, calibrated = (softmax(logits.numpy(), by) for by in (1.0, temperature))
    predicted, truth = decided(calibrated, how), labels.numpy()
    assert (outcomes.predicted == predicted).all()
    assert how == "mode" or (predicted != probabilities.argmax(1)).any()
    theirs = {
        "accuracy": accuracy_score(truth, predicted),
        "macro_f1": f1_score(truth, predicted, average="macro"),
        "mae": mean_absolute_error(truth, predicted),
        "kappa": cohen_kappa_score(truth, predicted, weights="quadratic"),
        "ece": calibration_error(reliability(probabilities, truth, predicted)),
    }
    assert {name: float(tags[f"val/{name}"]) for name in theirs} == pytest.approx(theirs, abs=1e-5)
    assert np.trace(matrix) == (predicted == truth).sum()
    if how == "mode":
        ece = multiclass_calibration_error(logits.softmax(-1), labels, 5, n_bins=15, norm="l1")
        assert tags["val/ece"] == ece
    compared = side_by_side(calibrated, truth)
    assert {name: compared[how][name] for name in ("accuracy", "mae", "kappa")} == pytest.approx(
        {name: theirs[name] for name in ("accuracy", "mae", "kappa")}, abs=1e-5
    )
    assert compared[how]["mae_low"] < theirs["mae"] < compared[how]["mae_high"]


def test_a_summary_is_of_what_was_decided():
    logits, labels = (values.numpy() for values in drawn())
    plain = softmax(logits)
    predicted = decided(plain, "mean")
    summary = summarise(logits, labels, predicted, np.arange(300), 1.5)
    wrong = predicted != labels
    assert summary["num_mistakes"] == wrong.sum() == sum(count for *_, count in summary["confusions"])
    assert summary["accepted"]["right"][0] == summary["accepted_calibrated"]["right"][0] == (~wrong).sum()
    for entry in summary["mistakes"]:
        i = entry["index"]
        assert wrong[i] and entry["predicted"] == predicted[i]
        assert entry["confidence"] == plain[i, predicted[i]]


def test_classes_without_an_order_have_no_median(encoder):
    for how in ("median", "mean"):
        with pytest.raises(
            UserError, match=f"decide={how} expects .* found 'neg', 'pos' without an order; tr"
        ):
            BertClassifier(str(encoder), decide=how).build(classes(["neg", "pos"], ordered=False))
    BertClassifier(str(encoder)).build(classes(["neg", "pos"], ordered=False))


@pytest.mark.parametrize("calibrate", [False, True])
def test_predict_decides_by_calibrated_probabilities_whatever_it_shows(encoder, monkeypatch, calibrate):
    model = BertClassifier(str(encoder), decide="median")
    model.build(classes("12345"))
    logits, _ = drawn()
    monkeypatch.setattr(model, "logits_of", lambda batch: logits)
    model.calibrate, model.temperature = calibrate, 4.0
    found, calibrated = model.predict_step({"index": torch.arange(300)}, 0), (logits / 4).softmax(-1)
    torch.testing.assert_close(found["probabilities"], calibrated if calibrate else logits.softmax(-1))
    assert found["predicted"].tolist() == decided(calibrated.numpy(), "median").tolist()
    assert found["predicted"].tolist() != decided(logits.softmax(-1).numpy(), "median").tolist()


def test_median_from_fit_to_predict(lit_ft, fit_args, work):
    """The run's own figures are of its decision; others are kept apart."""
    code, out, err = lit_ft("fit", *fit_args, *MEDIAN)
    assert code == 0, err
    assert "decided: the class of the least expected distance from the label (model.decide=median)" in out
    facts, metrics = (json.loads((RUN / name).read_text()) for name in ("report.json", "metrics.json"))
    found = facts["evaluations"]["val"]["decisions"]
    assert list(found) == list(DECISIONS) and facts["decide"] == "median"
    for name in ("accuracy", "mae", "kappa"):
        assert metrics[f"val/{name}"] == pytest.approx(found["median"][name], abs=1e-5)
    assert found["mode"]["mae"] != found["median"]["mae"]
    line = next(line for line in out.splitlines() if line.startswith("  median "))
    assert f"{found['median']['mae']:.3f} ({found['median']['mae_low']:.3f} to " in line
    page = (RUN / "report.html").read_text()
    assert page.count('<tr class="best"><th scope="row">median</th>') == 1
    assert "An answer is the class of the least expected distance from the label" in page

    # The file of texts, and the plain pipeline with the card's own lines, say the same as `predict`.
    assert lit_ft("test", *fit_args, "--data.ordered", "true")[0] == 0
    texts = pd.read_parquet(RUN / "test_predictions.parquet")
    shares = texts[[f"probability_{star}" for star in range(1, 6)]].to_numpy()
    sharper = shares ** (1 / facts["temperature"])
    calibrated = sharper / sharper.sum(1, keepdims=True)
    assert texts["predicted"].astype(int).tolist() == (decided(calibrated, "median") + 1).tolist()
    classify = pipeline("text-classification", model=str(RUN / "model"), top_k=None)
    assert classify.model.config.decide == "median"
    card = (RUN / "model/README.md").read_text()
    assert "A plain `pipeline` puts the likeliest class first (mode)" in card
    code = re.search(r"To decide as they do:\n\n```python\n(.*?)```", card, re.DOTALL)[1]
    code = code.replace('"The soup was cold."', "text").rsplit("\n", 2)
    program = f"{code[0]}\nanswer = {code[1]}"
    for text, expected in zip(texts["text"][:8], texts["predicted"][:8], strict=True):
        values = {"classify": classify, "text": text}
        exec(program, values)
        assert values["answer"] == expected

    # `predict` says the same with calibrated probabilities; another decision leaves the run's figures.
    before = json.loads((RUN / "metrics.json").read_text())
    write_csv(work / "in.csv", [(text,) for text in texts["text"]], ("text",))
    predict = ["predict", *fit_args, "--data.predict_path", "in.csv"]
    assert lit_ft(*predict, "--calibrate")[0] == 0
    said = pd.read_csv(RUN / "predictions.csv")
    assert said["predicted"].tolist() == texts["predicted"].astype(int).tolist()
    own = [row[f"probability_{row['predicted']}"] for _, row in said.iterrows()]
    assert said["confidence"].tolist() == own
    assert lit_ft(*predict, "--model.decide", "mode")[0] == 0
    assert pd.read_csv(RUN / "predictions.csv")["predicted"].tolist() == (shares.argmax(1) + 1).tolist()
    for how in ("mode", "mean"):
        code, out, err = lit_ft("test", *fit_args, "--model.decide", how)
        assert code == 0, err
        assert f"best_{how}/test/..., because model.decide is {how} here, and was median in training" in out
    after = json.loads((RUN / "metrics.json").read_text())
    assert after == {**after, **before}
    assert after["best_mode/test/mae"] != after["best_mean/test/mae"]
    line = one_line(lit_ft("fit", *fit_args, *MEDIAN, "--model.decide", "mean", "--ckpt_path", "last"))
    assert "with other settings: model.decide=mean (there median)" in line
    assert one_line(lit_ft("test", *fit_args, "--model.decide", "middle")).endswith(
        "expected one of mode, median, mean, found 'middle'"
    )
