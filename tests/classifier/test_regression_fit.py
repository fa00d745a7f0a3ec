"""Numbers from end to end: fit, test, predict, the exported folder, two runs compared; and bad input."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import one_line, review, write_csv
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from tiny_families import FAMILIES, tiny_config
from transformers import AutoModelForSequenceClassification, pipeline

from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.regression import check_outputs, in_own_unit
from lit_ft.data.numbers import NumberScale
from lit_ft.errors import UserError

RUN = Path("runs/small/version_0")
PRICES = [(f"{12.5 * (i % 5) - 10.25}", review(i % 5 + 1, i // 5)) for i in range(100)]
SCALE = NumberScale("price", 14.75, 17.5, -10.25, 39.75)


@pytest.fixture
def args(fit_args, work):
    write_csv(work / "train.csv", PRICES, ("price", "text"))
    write_csv(work / "test.csv", PRICES[::3], ("price", "text"))
    return [*fit_args, "--data.task", "regression", "--data.label_column", "price"]


def metrics(run: Path = RUN) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_held_out_rows_do_not_set_the_scale(args, encoder):
    data = YelpDataModule(
        train_path="train.csv",
        label_column="price",
        task="regression",
        validation_share=0.07,
        max_tokens=64,
        tokenizer=str(encoder),
    )
    data.setup("fit")
    train, validation = data.splits["train"], data.splits["validation"]
    assert (data.labels.mean, data.labels.deviation) == (train.labels.mean(), train.labels.std())
    assert data.labels.mean != np.concatenate([train.labels, validation.labels]).mean()
    assert train.rows.labels.mean() == pytest.approx(0, abs=1e-6)
    for split in (train, validation):
        np.testing.assert_allclose(data.labels.numbers(split.rows.labels), split.labels, rtol=1e-6)


def test_from_fit_to_the_pipeline(args, lit_ft, work):
    code, out, err = lit_ft("fit", *args, "--monitor", "val/mae", "--trainer.max_epochs", "6")
    assert code == 0 and "warning" not in err, err
    assert "labels: numbers in 'price', -10.25 to 39.75, mean 14.75, standard deviation 17.68; stand" in out
    told = (
        "always the median (14.8) 15, always the mean (14.8) 15 mean absolute error on 20 validation texts (r"
    )
    assert told in out
    assert re.search(r"best checkpoint \(by val/mae\): step \d+\n  val/loss +\d\.\d{4} +0", out), out
    assert re.search(r"\nprice: off by \d+\.\d on average on the 20 validation texts \(95 %: ", out), out
    assert re.search(r"\n  beside it: always the mean 15, always the median 15, counting words \d\.", out)
    code, out, err = lit_ft("test", *args)
    assert code == 0, err

    # The figures are scikit-learn's of the file of texts, in the numbers' own unit.
    table = parquet.read_table(RUN / "test_predictions.parquet")
    assert table.column_names == ["row", "text_hash", "text", "label", "predicted", "error", "loss", "cut"]
    labels, said = table["label"].to_numpy(), table["predicted"].to_numpy()
    assert labels.tolist() == [float(number) for number, _ in PRICES[::3]]
    np.testing.assert_allclose(table["error"].to_numpy(), said - labels, atol=1e-5)
    found = {name: metrics()[f"test/{name}"] for name in ("mae", "rmse", "r2", "spearman", "loss")}
    expected = {
        "mae": mean_absolute_error(labels, said),
        "rmse": root_mean_squared_error(labels, said),
        "r2": r2_score(labels, said),
        "spearman": spearmanr(labels, said).statistic,
    }
    scale = json.loads((RUN / "report.json").read_text())["numbers"]
    expected["loss"] = float(np.mean(((said - labels) / scale["deviation"]) ** 2))
    assert found == pytest.approx(expected, rel=1e-5)
    assert table["loss"].to_numpy().mean() == pytest.approx(found["loss"], rel=1e-5)
    assert metrics()["test/mae_low"] < found["mae"] < metrics()["test/mae_high"] and found["r2"] > 0.2
    assert metrics()["baseline/median/test/mae"] == pytest.approx(np.abs(labels - 14.75).mean(), rel=1e-5)
    assert metrics()["baseline/words/test/r2"] > 0.9

    # The plain pipeline and `predict` give the same numbers; a column of the same name keeps its name.
    rate = pipeline("text-classification", model=str(RUN / "model"), device="cpu")
    scores = [rate(text, truncation=True)[0] for text in table["text"].to_pylist()]
    assert {score["label"] for score in scores} == {"price"}
    np.testing.assert_allclose([score["score"] for score in scores], said, rtol=1e-5, atol=1e-5)
    write_csv(work / "new.csv", [(i, text) for i, (_, text) in enumerate(PRICES[::3])], ("predicted", "text"))
    predict = ["predict", *args, "--data.predict_path", "new.csv", "--data.predict_output"]
    code, out, err = lit_ft(*predict, "new_out.csv")
    assert code == 0, err
    rows = list(csv.DictReader(Path("new_out.csv").open(newline="")))
    assert list(rows[0]) == ["predicted", "text", "lit_ft_predicted", "cut"]
    assert [row["predicted"] for row in rows] == [str(i) for i in range(len(rows))]
    np.testing.assert_allclose([float(row["lit_ft_predicted"]) for row in rows], said, rtol=1e-6)
    assert re.search(r"predicted:   'price' of 34 texts, -?[\d.]+ to [\d.]+, mean [\d.]+; training had", out)
    assert lit_ft(*predict, "new_out.csv")[0] == 0  # its own earlier prediction is replaced

    # Clipped on request, which is said, and kept apart from the figures of model/.
    clip = ["--model.clip", "[0, 20]"]
    code, out, err = lit_ft(*predict, "clipped.parquet", *clip)
    assert code == 0, err
    bounded = parquet.read_table("clipped.parquet")["lit_ft_predicted"].to_numpy()
    np.testing.assert_allclose(bounded, said.clip(0, 20), rtol=1e-6)
    count = int(((said < 0) | (said > 20)).sum())
    assert count and f"clipped: {count} of 34 predictions were outside 0 to 20 (model.clip)" in out
    code, out, err = lit_ft("test", *args, *clip)
    assert code == 0, err
    assert f"clipped: {count} of 34 predictions were outside 0 to 20" in out
    assert "under best/test/..., because model.clip is [0.0, 20.0] here, and model/ does not clip" in out
    clipped_mae = mean_absolute_error(labels, said.clip(0, 20))
    assert metrics()["best/test/mae"] == pytest.approx(clipped_mae, rel=1e-5)
    assert metrics()["test/mae"] == found["mae"]

    # The page and the card.
    page = (RUN / "report.html").read_text()
    assert "mean absolute error of <bdi>price</bdi>" in page and "<circle" in page and "true price" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page).lower().split()
    card = (RUN / "model/README.md").read_text()
    assert (
        "Mean absolute error" in card
        and ', truncation=True)[0]["score"]' in card
        and "calibration" not in card
    )
    config = json.loads((RUN / "model/config.json").read_text())
    assert config["problem_type"] == "regression" and "calibration_temperature" not in config

    # Another fit from this folder starts with a new head: the scale of the old one is in it.
    again = [*args, "--name", "again", "--model.loss", "huber", "--model.pretrained", str(RUN / "model")]
    code, out, err = lit_ft("fit", *again)
    assert code == 0 and "is on a scale of its own: the output layer is initialised at random" in err
    assert lit_ft("test", "--name", "again", "--data.test_path", "test.csv")[0] == 0

    code, out, err = lit_ft("report", "small", "again")
    assert code == 0, err
    assert "on the same 34 test texts:" in out and "mean absolute error      B - A: " in out
    assert re.search(r"A is closer on \d+ texts, B on \d+; sign test: p", out)
    assert "predictions of" in out and "clearly differ" in out
    assert "not comparable" not in out
    # Not text by text with a run that predicts classes.
    write_csv(work / "test.csv", PRICES[::3], ("price", "text"))
    named = ["--data.task", "single_label", "--data.label_type", "names", "--name", "classes"]
    assert lit_ft("fit", *args, *named, "--trainer.max_epochs", "1")[0] == 0
    code, out, err = lit_ft("report", "small", "classes")
    assert code == 0 and "B (classifier) and A (regression) predict other things" in " ".join(out.split()), (
        err
    )


def test_one_number_in_validation(args, lit_ft, work):
    write_csv(work / "val.csv", [("3", review(3, i)) for i in range(12)], ("price", "text"))
    own = [*args, "--data.validation_path", "val.csv", "--trainer.max_epochs", "1"]
    code, out, err = lit_ft("fit", *own)
    assert code == 0, err
    assert "val/r2" not in metrics() and metrics()["val/mae"] > 0
    assert "have the same number, 3.0: R2 and Spearman's correlation are not defined" in " ".join(out.split())
    line = one_line(lit_ft("fit", *own, "--monitor", "val/r2"))
    assert line == (
        "expected validation texts with different numbers for --monitor=val/r2, found 3 in all 12; set "
        "--monitor=val/loss"
    )


NO_CLASSES = "is about classes, and there are none with data.task=regression; set --data."
NO_MEANING = "has no meaning for data.task regression (a number a text); set --model."
CLIP = "expected model.clip as two numbers, the lower one first, found "
REFUSED = {
    "data.ordered=true": f"data.ordered=True {NO_CLASSES}ordered=auto, or another data.task",
    'data.label_names=["a", "b"]': f"data.label_names=['a', 'b'] {NO_CLASSES}",
    "data.label_type=names": f"data.label_type=names {NO_CLASSES}",
    "data.label_base=1": f"data.label_base=1 {NO_CLASSES}label_base=null",
    "model.class_weights=balanced": f"model.class_weights=balanced {NO_MEANING}class_weights=null",
    "model.label_smoothing=0.1": f"model.label_smoothing=0.1 {NO_MEANING}label_smoothing=0",
    "model.loss=mae": "expected model.loss to be one of mse, huber for data.task regression (a number",
    "model.clip=[1, 5]": "model.clip=[1.0, 5.0] is applied after training: leave it out of fit, and give --",
    "model.clip=[5, 1]": f"{CLIP}[5.0, 1.0]; set --model.clip='[1, 5]'",
    "model.clip=[0, .inf]": f"{CLIP}[0.0, inf]",
    "monitor=val/accuracy": "expected --monitor to be one of val/loss, val/mae, val/rmse, val/r2, val/spear",
    "data.label_column=text": "expected a number in each row of column 'text' of train.csv, found 'the ",
}


@pytest.mark.parametrize(("setting", "line"), REFUSED.items())
def test_settings_without_a_meaning(setting, line, args, lit_ft):
    assert line in one_line(lit_ft("fit", *args, f"--{setting}"))
    assert not Path("runs").exists()


def test_where_classes_are_expected(args, lit_ft):
    line = one_line(lit_ft("fit", *args, "--data.task", "auto"))
    assert "found '-10.25' in row 1; set --data.task=regression to predict numbers" in line
    names = ["--data.task", "single_label", "--data.label_type", "names", "--trainer.max_epochs", "1"]
    assert lit_ft("fit", *args, *names)[0] == 0
    line = one_line(lit_ft("test", *args, "--data.task", "single_label", "--model.clip", "[1, 5]"))
    assert "model.clip=[1.0, 5.0] is about numbers, and has no meaning for data.task single_label" in line


def test_no_calibration_of_numbers(args, lit_ft, work):
    assert lit_ft("fit", *args, "--trainer.max_epochs", "1")[0] == 0
    line = one_line(lit_ft("predict", *args, "--data.predict_path", "test.csv", "--calibrate"))
    assert line.startswith("--calibrate is about probabilities, and there are none with data.task=regression")
    write_csv(work / "test.csv", [("12", "fine"), ("many", "great")], ("price", "text"))
    line = one_line(lit_ft("test", *args))
    assert line.startswith(
        "expected a number in each row of column 'price' of test.csv, found 'many' in row 2;"
    )
    write_csv(work / "test.csv", [("4000", "fine"), ("3", "great")], ("price", "text"))
    code, _, err = lit_ft("test", *args)
    assert (
        code == 0
        and "warning: 1 of 2 numbers of test.csv are far outside those of training, -10.25 to" in err
    )


def test_check_shows_numbers(args, lit_ft, work):
    rows = [*PRICES, ("1", PRICES[7][1])]
    write_csv(work / "train.csv", rows, ("price", "text"))
    code, out, err = lit_ft("check", *args)
    assert code == 0, err
    assert "NUMBERS of each split" in out and "CLASS BALANCE" not in out and "(label 1)" in out
    found = json.loads(lit_ft("check", *args, "--json")[1])["splits"]
    assert found["test"]["numbers"]["high"] == 39.75 and found["test"]["classes"] is None


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scale_goes_into_the_output_layer(family):
    config = tiny_config(family, num_labels=1)
    torch.manual_seed(0)
    net = AutoModelForSequenceClassification.from_config(config).eval()
    try:
        check_outputs(config, "it")
    except UserError as error:  # a decoder's
        assert f"expected a {config.model_type} model whose output layer has a weight and a bias" in str(
            error
        )
        assert "found score.weight in it; set --model.pretrained" in str(error)
        return
    ids = {"input_ids": torch.tensor([[7, 8, 9, 2]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    before = net(**ids).logits.double()
    net.load_state_dict(in_own_unit(SCALE, config, net.state_dict()))
    torch.testing.assert_close(net(**ids).logits.double(), before * 17.5 + 14.75, rtol=1e-5, atol=1e-5)


def test_a_head_of_classes_is_not_kept(tmp_path, capfd):
    config = tiny_config("bert", num_labels=3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    BertClassifier(str(tmp_path)).build(SCALE)
    assert "'LABEL_0', 'LABEL_1', 'LABEL_2', not 'price': the output layer is init" in capfd.readouterr().err


def test_slices_and_pairs(args, lit_ft, work):
    rows = [(number, text, "what?", "ab"[i % 2]) for i, (number, text) in enumerate(PRICES)]
    write_csv(work / "train.csv", rows, ("price", "text", "question", "channel"))
    write_csv(work / "test.csv", rows, ("price", "text", "question", "channel"))
    more = ["--data.slice_columns", "channel", "--data.pair_column", "question", "--trainer.max_epochs", "1"]
    assert lit_ft("fit", *args, *more)[0] == 0
    code, _, err = lit_ft("test", *args)
    assert code == 0, err
    table = parquet.read_table(RUN / "test_predictions.parquet")
    inside = np.array(table["slice_channel"].to_pylist()) == "b"
    off = np.abs(table["error"].to_numpy())[inside].mean()
    assert metrics()["test/slice/channel=b/mae"] == pytest.approx(off, rel=1e-5)
    assert metrics()["test/slice/channel=b/mae_low"] < off < metrics()["test/slice/channel=b/mae_high"]
    assert "By <bdi>channel</bdi>" in (RUN / "report.html").read_text()
    spaces: dict = {}
    use = re.findall(r"```python\n(.*?)```", (RUN / "model/README.md").read_text(), re.DOTALL)[0]
    exec(use.replace("PATH_OR_NAME", str(RUN / "model")), spaces)
    inputs = [{"text": row["text"], "text_pair": row["pair"]} for row in table.slice(0, 3).to_pylist()]
    scores = [score["score"] for score in spaces["rate"](inputs, truncation=True)]
    np.testing.assert_allclose(scores, table["predicted"].to_numpy()[:3], rtol=1e-4)
