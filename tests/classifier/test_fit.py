"""What a run leaves, and what the other commands make of it: the real command line on a tiny BERT."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import lasting, one_line, write_csv

RUN = Path("runs/small/version_0")
LEARN = ["--trainer.max_epochs", "12", "--model.learning_rate", "1e-2", "--model.hidden_dropout", "0"]


@pytest.fixture
def fitted(lit_ft, fit_args) -> str:
    code, out, err = lit_ft("fit", *fit_args)
    assert code == 0, err
    return out


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def metrics() -> dict:
    return json.loads((RUN / "metrics.json").read_text())


def test_exact_set_of_files(fitted):
    files = {str(p.relative_to(RUN)) for p in RUN.rglob("*") if p.is_file()}
    events = {f for f in files if f.startswith("events.out.tfevents")}
    assert len(events) == 1
    assert files - events == {
        "baseline/words.json",
        "baseline/words.safetensors",
        "config.yaml",
        "metrics.json",
        "loss.png",
        "report.html",
        "report.json",
        "val_predictions.parquet",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "model/README.md",
    }
    assert (RUN / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_console_names_what_matters(fitted):
    assert "labels: 5 classes" in fitted
    assert "validation: 20 texts held out of train" in fitted
    assert "val/accuracy" in fitted and str(RUN / "model") in fitted
    assert "Loading weights" not in fitted and "LOAD REPORT" not in fitted


def test_learns_and_writes_metrics(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, *LEARN, "--data.ordered", "true")[0] == 0
    assert {"val/loss", "val/accuracy", "val/macro_f1", "val/mae", "val/kappa", "val/ece"} <= metrics().keys()
    code, out, _ = lit_ft("test", "--config", "small.yaml")
    assert code == 0 and f"checkpoint: {RUN}/checkpoints/best.ckpt" in out
    assert metrics()["test/accuracy"] >= 0.6  # 0.2 is chance
    assert "val/accuracy" in metrics()  # test adds to the file
    assert not [tag for tag, value in metrics().items() if isinstance(value, list)]
    matrix = json.loads((RUN / "report.json").read_text())["evaluations"]["test"]["confusion"]
    assert sum(map(sum, matrix)) == 30
    assert metrics()["test/accuracy"] == pytest.approx(sum(matrix[i][i] for i in range(5)) / 30, abs=1e-6)


def test_validate_repeats_the_fits_figures(fitted, lit_ft):
    before = metrics()
    code, _, _ = lit_ft("validate", "--config", "small.yaml", "--ckpt_path", "best")
    assert code == 0
    for key in ("val/loss", "val/accuracy", "val/macro_f1"):
        assert metrics()[key] == pytest.approx(before[key], abs=1e-5)


def test_config_yaml_is_the_run(fitted, lit_ft):
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    assert config["data"]["batch_size"] == 8 and config["trainer"]["max_epochs"] == 2
    first = metrics()
    code, _, err = lit_ft("fit", "--config", str(RUN / "config.yaml"), "--name", "again")
    assert code == 0, err
    again = json.loads(Path("runs/again/version_0/metrics.json").read_text())
    assert lasting(again) == lasting(first)


def test_pipeline_gives_what_predict_gives(fitted, lit_ft, work):
    from transformers import pipeline

    rows = [
        ("a", "the movie was great, i liked it!"),
        ("b", "  "),
        ("c", "the plot was boring " * 30),
        ("d", "fine"),
    ]
    with (work / "new.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    code, out, err = lit_ft("predict", "--config", "small.yaml", "--data.predict_path", "new.csv")
    assert code == 0 and str(RUN / "predictions.csv") in out
    assert "1 of 4 rows of new.csv have no text" in err
    written = read(RUN / "predictions.csv")
    assert [row["id"] for row in written] == list("abcd")
    assert [row["text"] for row in written] == [text for _, text in rows]
    assert set(written[1].values()) == {"b", "  ", ""}  # no text, no prediction
    classify = pipeline("text-classification", model=str(RUN / "model"), top_k=None)
    for row in (written[0], written[2], written[3]):
        by_label = {p["label"]: p["score"] for p in classify([row["text"]], truncation=True)[0]}
        assert set(by_label) == {"1", "2", "3", "4", "5"}
        for label, score in by_label.items():
            assert float(row[f"probability_{label}"]) == pytest.approx(score, abs=1e-5)
        assert row["predicted"] == max(by_label, key=by_label.get)
        assert float(row["confidence"]) == pytest.approx(max(by_label.values()), abs=1e-5)


@pytest.mark.parametrize("truncation", ["head", "tail"])
def test_pipeline_cuts_as_training_did(truncation, lit_ft, fit_args, work):
    from transformers import pipeline

    flags = ["--data.max_tokens", "10", "--data.truncation", truncation]
    assert lit_ft("fit", *fit_args, *flags)[0] == 0
    text = "terrible " * 20 + "wonderful " * 20
    write_csv(work / "long.csv", [(text,)], header=("text",))
    assert lit_ft("predict", "--config", "small.yaml", "--data.predict_path", "long.csv")[0] == 0
    (row,) = read(RUN / "predictions.csv")
    classify = pipeline("text-classification", model=str(RUN / "model"), top_k=None)
    for guess in classify([text], truncation=True)[0]:
        assert float(row[f"probability_{guess['label']}"]) == pytest.approx(guess["score"], abs=1e-5)


def test_predict_keeps_the_order_of_many_rows_and_their_columns(fitted, lit_ft, work):
    rows = [
        (f"{i}", "x" if i % 7 else "", f"the movie was great {'very ' * (i * 7 % 40)}") for i in range(700)
    ]
    with (work / "many.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("predicted", "note", "text"), *rows])
    code, _, err = lit_ft(
        "predict", "--config", "small.yaml", "--data.predict_path", "many.csv",
        "--data.predict_output", "out/p.csv", "--data.eval_batch_size", "4",
    )  # fmt: skip
    assert code == 0, err
    written = read(Path("out/p.csv"))
    assert [(r["predicted"], r["note"], r["text"]) for r in written] == rows
    assert all(r["lit_ft_predicted"] in "12345" for r in written)  # the input's own column keeps its name
    assert not list(Path("out").glob(".*"))
    assert len({r["probability_1"] for r in written}) > 10  # each row its own


def test_a_checkpoint_alone_is_enough(fitted, lit_ft, work, tmp_path_factory, monkeypatch, encoder):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copy(RUN / "checkpoints/best.ckpt", elsewhere / "model.ckpt")
    shutil.copy("test.csv", elsewhere / "reviews.csv")
    lit_ft("test", "--config", "small.yaml")
    expected = metrics()["test/accuracy"]
    monkeypatch.chdir(elsewhere)
    hidden = encoder.with_name("hidden")
    encoder.rename(hidden)  # neither the encoder nor the training data is there
    try:
        code, out, err = lit_ft("test", "--ckpt_path", "model.ckpt", "--data.test_path", "reviews.csv")
        assert code == 0, err
        assert f"{expected:.4f}" in out and "metrics.json was not written" in out
        code, out, err = lit_ft(
            "predict",
            "--ckpt_path",
            "model.ckpt",
            "--data.predict_path",
            "reviews.csv",
            "--data.predict_output",
            "p.csv",
        )
        assert code == 0, err
        right = [row["predicted"] == row["label"] for row in read(Path("p.csv"))]
        assert sum(right) / len(right) == pytest.approx(expected)
    finally:
        hidden.rename(encoder)


def test_evaluation_reads_texts_as_training_did(lit_ft, fit_args):
    """A flag of fit counts in test, too, though the config says otherwise; a flag of test counts more."""
    assert lit_ft("fit", *fit_args, "--data.max_tokens", "12", "--trainer.max_epochs", "1")[0] == 0
    _, out, _ = lit_ft("test", "--config", "small.yaml")
    assert "cut at 12 tokens" in out
    _, out, _ = lit_ft("test", "--config", "small.yaml", "--data.max_tokens", "20")
    assert "cut at 20 tokens" in out


def test_second_start_reuses_the_token_ids(fitted, lit_ft):
    assert "(cached)" in lit_ft("fit", "--config", "small.yaml", "--trainer.max_epochs", "1")[1]
    assert Path("runs/small/version_1/model").is_dir()
    code, out, _ = lit_ft("test", "--config", "small.yaml")
    assert code == 0 and "version_1/checkpoints/best.ckpt" in out  # the newest run of that name


def test_newest_run_without_a_readable_checkpoint_is_passed_over(fitted, lit_ft):
    broken = Path("runs/small/version_7/checkpoints")
    broken.mkdir(parents=True)
    (broken / "best.ckpt").write_bytes((RUN / "checkpoints/best.ckpt").read_bytes()[:5000])
    code, out, _ = lit_ft("test", "--config", "small.yaml")
    assert code == 0 and "version_0/checkpoints/best.ckpt" in out


def test_names_as_labels_and_display_names(lit_ft, fit_args, work):
    names = {1: "awful", 2: "bad", 3: "so so", 4: "good", 5: "superb"}
    rows = [{**row, "label": names[int(row["label"])]} for row in read(work / "train.csv")]
    Path("named.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert lit_ft("fit", *fit_args, "--data.train_path", "named.jsonl", "--trainer.max_epochs", "1")[0] == 0
    config = json.loads((RUN / "model/config.json").read_text())
    assert config["id2label"] == {str(i): name for i, name in enumerate(sorted(names.values()))}
    shown = '["1 star", "2 stars", "3 stars", "4 stars", "5 stars"]'
    code, _, err = lit_ft("fit", *fit_args, "--trainer.max_epochs", "1", "--data.label_names", shown)
    assert code == 0, err
    config = json.loads(Path("runs/small/version_1/model/config.json").read_text())
    assert config["id2label"]["4"] == "5 stars"


def test_classes_last_as_long_as_the_run(lit_ft, fit_args, work):
    """Labels that are names, given in an order of their own: trained, tested and predicted under them."""
    words = {"positive": "great", "negative": "terrible", "neutral": "fine"}
    texts = [(name, f"the film was {word} ") for name, word in words.items()]
    write_csv(work / "named.csv", [(name, text * (i % 3 + 1)) for i in range(20) for name, text in texts])
    flags = [f"--data.{split}_path=named.csv" for split in ("train", "validation", "test")]
    order = ["--data.label_names", json.dumps(list(words)), "--data.label_type", "names"]
    code, out, err = lit_ft("fit", *fit_args, *flags, *order, *LEARN)
    assert code == 0, err
    assert "labels: 3 classes, positive, negative, neutral -> 0 to 2" in out
    assert list(json.loads((RUN / "model/config.json").read_text())["id2label"].values()) == list(words)
    settings = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)["settings"]["data"]
    assert settings["label_type"] == "names" and settings["label_names"] == list(words)
    assert lit_ft("predict", *fit_args, "--data.predict_path", "named.csv")[0] == 0
    predicted = read(RUN / "predictions.csv")
    assert sum(row["label"] == row["predicted"] for row in predicted) > 0.9 * len(predicted)
    assert lit_ft("test", *fit_args, *flags)[0] == 0  # without the flags: the classes are the checkpoint's
    assert metrics()["test/accuracy"] > 0.9
    code, _, err = lit_ft("test", *fit_args, *flags, "--data.label_type", "auto")
    assert code == 2 and "leave out --data.label_type" in err


def test_monitor_chooses_the_best_checkpoint(lit_ft, fit_args):
    code, out, _ = lit_ft("fit", *fit_args, "--monitor", "val/accuracy", "--trainer.val_check_interval", "3")
    assert code == 0 and "best checkpoint (by val/accuracy)" in out
    import torch

    state = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    assert all(group["fused"] for group in state["optimizer_states"][0]["param_groups"])
    seen = next(v for k, v in state["callbacks"].items() if "LossHistory" in k)["validation"]
    assert metrics()["val/accuracy"] >= max(v["val/accuracy"] for v in seen) - 1e-6  # rounded


@pytest.mark.parametrize("flags", [["--trainer.max_steps", "3"], ["--trainer.limit_val_batches", "0"]])
def test_a_run_without_validation_keeps_its_weights(flags, lit_ft, fit_args):
    code, out, err = lit_ft("fit", *fit_args, *flags)
    assert code == 0, err
    assert "no validation took place: model/ holds the last weights" in out
    assert (RUN / "checkpoints/last.ckpt").is_file() and (RUN / "model/model.safetensors").is_file()
    assert lit_ft("test", "--config", "small.yaml", "--ckpt_path", "last")[0] == 0
    assert metrics()["test/step"] == (3 if "3" in flags else 20)
    code, out, err = lit_ft("predict", "--config", "small.yaml", "--data.predict_path", "test.csv")
    told = f"so there is no best checkpoint: using {RUN}/checkpoints/last.ckpt"
    assert code == 0 and told in err and len(read(RUN / "predictions.csv")) == 30
    line = one_line(lit_ft("test", "--config", "small.yaml", "--ckpt_path", "best"))
    assert f"no validation took place; set --ckpt_path last for {RUN}/checkpoints/last.ckpt" in line
    assert "(names here: small)" in one_line(lit_ft("test", "--config", "small.yaml", "--name", "other"))


def test_a_newer_run_without_a_best_checkpoint_is_named(fitted, lit_ft):
    newer = Path("runs/small/version_1/checkpoints")
    newer.mkdir(parents=True)
    shutil.copy(RUN / "checkpoints/last.ckpt", newer / "last.ckpt")
    code, out, err = lit_ft("test", "--config", "small.yaml")
    assert code == 0 and f"checkpoint: {RUN}/checkpoints/best.ckpt" in out
    assert f"{newer}/last.ckpt is of a newer run, which has no best checkpoint" in err


def test_a_moved_run_goes_on_and_keeps_its_best(lit_ft, fit_args, work):
    assert lit_ft("fit", *fit_args, "--trainer.val_check_interval", "5")[0] == 0
    expected = metrics()
    shutil.copytree("runs", work / "moved/runs")
    shutil.rmtree("runs")
    for name in ("train.csv", "test.csv", "small.yaml"):
        shutil.copy(name, "moved")
    import os

    os.chdir("moved")
    flags = ["--trainer.val_check_interval", "5", "--ckpt_path", "last"]
    code, out, err = lit_ft("fit", *fit_args, *flags)
    assert code == 0, err
    assert {k: v for k, v in metrics().items() if k.startswith("val/")} == {
        k: v for k, v in expected.items() if k.startswith("val/")
    }


def test_best_score_of_a_moved_run_is_known(tmp_path):
    """Else the first validation after the move would overwrite a better checkpoint."""
    import torch

    from lit_ft.classifier.callbacks import RunCheckpoint

    old, new = tmp_path / "old", tmp_path / "new"
    new.mkdir()
    (new / "best.ckpt").touch()
    state = RunCheckpoint(old, "best", monitor="val/loss").state_dict()
    score = torch.tensor(0.5)
    state |= {"best_model_path": str(old / "best.ckpt"), "best_model_score": score}
    state |= {"best_k_models": {str(old / "best.ckpt"): score}, "kth_best_model_path": str(old / "best.ckpt")}
    moved = RunCheckpoint(new, "best", monitor="val/loss")
    moved.load_state_dict(state)
    assert moved.best_model_score == 0.5 and moved.best_model_path == str(new / "best.ckpt")
    assert moved.best_k_models == {str(new / "best.ckpt"): score}


@pytest.mark.parametrize("present", [(0, 1), (1, 2), (0, 2)])
def test_declared_classes_without_a_row(present, lit_ft, fit_args, work):
    from datasets import ClassLabel, Dataset, Features, Value

    names = ["negative", "neutral", "positive"]
    features = Features({"label": ClassLabel(names=names), "text": Value("string")})
    rows = {"label": list(present) * 20, "text": ["the movie was fine", "the movie was great"] * 20}
    Dataset.from_dict(rows, features=features).to_parquet("named.parquet")
    flags = ["--data.train_path", "named.parquet", "--trainer.max_epochs", "1"]
    code, out, err = lit_ft("fit", *fit_args, *flags)
    assert code == 0, err
    config = json.loads((RUN / "model/config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "neutral", "2": "positive"}


def test_names_of_settings_still_exist():
    """The lists in checkpoints.py name arguments that the constructors really have."""
    import inspect

    from lightning import Trainer

    from lit_ft.classifier import resume as checkpoints
    from lit_ft.classifier.data import YelpDataModule

    data = set(inspect.signature(YelpDataModule.__init__).parameters)
    assert set(checkpoints.READING) | set(checkpoints.LOCATION) | checkpoints.HARMLESS["data"] <= data
    assert checkpoints.HARMLESS["trainer"] <= set(inspect.signature(Trainer.__init__).parameters)


def test_fast_dev_run_tries_and_keeps_the_config_only(lit_ft, fit_args):
    code, out, err = lit_ft("fit", *fit_args, "--trainer.fast_dev_run", "true")
    assert code == 0, err
    assert "fast_dev_run: training and validation work" in out
    assert [p.name for p in RUN.iterdir()] == ["config.yaml"]


def test_curves_have_a_point_a_validation_and_the_test_at_the_checkpoints_step(fitted, lit_ft):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert lit_ft("validate", "--config", "small.yaml")[0] == 0
    assert lit_ft("test", "--config", "small.yaml")[0] == 0
    events = EventAccumulator(str(RUN)).Reload()
    steps = {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert len(steps["val/accuracy"]) == 2 and len(steps["train/epoch_loss"]) == 2
    assert steps["test/accuracy"] == [metrics()["test/step"]]
    assert steps["train/loss"] == list(range(20))
    rates = [e.value for e in events.Scalars("train/learning_rate")]
    peak = 3e-3
    assert rates[:3] == pytest.approx([0, peak / 2, peak]) and rates[-1] == pytest.approx(peak / 18)


@pytest.mark.parametrize("native, precision", [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_is_chosen_and_written_down(native, precision, lit_ft, fit_args, monkeypatch):
    monkeypatch.setattr("lit_ft.machine.multiplies_bfloat16", lambda device: native)
    args = [*fit_args, "--trainer.max_epochs", "1", "--trainer.precision", "null"]
    assert lit_ft("fit", *args)[0] == 0
    run = Path("runs/small/version_0")
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"] == precision
    weights = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(value.dtype == torch.float32 for value in weights.values() if value.is_floating_point())
    # On another kind of machine the run goes on as it began.
    monkeypatch.setattr("lit_ft.machine.multiplies_bfloat16", lambda device: not native)
    code, _, err = lit_ft("fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last")
    assert code == 0, err
    code, _, err = lit_ft("fit", *args, "--ckpt_path", "last")
    assert code == 0, err
