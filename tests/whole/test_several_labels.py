"""Several labels a text, from end to end: the loop of transformers, a resume, thresholds, files, errors."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from conftest import lasting, one_line, write_csv
from sklearn import metrics as sk
from tagged import LABELS, write_tagged
from test_parity import SEEN
from test_resume import Killed, curves, history, state
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline

from lit_ft.classifier.multi_label import worst_tags

RUN = Path("runs/small/version_0")
TAGS = ["--data.train_path", "train.jsonl", "--data.test_path", "test.jsonl"]


@pytest.fixture
def tags_args(fit_args, work):
    write_tagged(work / "train.jsonl", range(100))
    write_tagged(work / "test.jsonl", range(200, 240))
    return [*fit_args, *TAGS]


def read(name: str) -> dict:
    return json.loads((RUN / name).read_text())


def matrix(lists, names=LABELS) -> np.ndarray:
    return np.array([[name in labels for name in names] for labels in lists])


def test_a_fit_is_the_loop_of_transformers(lit_ft, tags_args, work, encoder, tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("tagger")
    kept = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02}
    config = AutoConfig.from_pretrained(
        encoder, problem_type="multi_label_classification", id2label=dict(enumerate(LABELS)), **kept
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    code, _, err = lit_ft(
        "fit", *tags_args, "--model.pretrained", str(folder), "--data.validation_path", "test.jsonl",
        "--trainer.callbacks", '[{"class_path": "test_parity.Record"}]', "--model.decay_all", "true",
        "--model.warmup_share", "0", "--data.padding", "max_length", "--model.learning_rate", "5e-4",
    )  # fmt: skip
    assert code == 0, err
    rows = [json.loads(line) for line in Path("train.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    known = {tuple(tokenizer(row["text"])["input_ids"]): row for row in rows}
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.problem_type == "multi_label_classification"
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)
    total, losses = len(SEEN["ids"]), []
    schedule = LambdaLR(optimizer, lambda step: 1 - step / total)
    model.train()
    for ids in SEEN["ids"]:
        mine = [known[tuple(i for i in row if i != tokenizer.pad_token_id)] for row in ids]
        texts = [row["text"] for row in mine]
        batch = tokenizer(texts, padding="max_length", max_length=64, return_tensors="pt")
        loss = model(**batch, labels=torch.tensor(matrix([row["label"] for row in mine])).float()).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert total == 26 and sum(losses[13:]) < sum(losses[:13])
    torch.testing.assert_close(SEEN["losses"], losses, rtol=0, atol=1e-6)
    for name, weight in model.named_parameters():
        if not name.endswith("key.bias"):  # no gradient but rounding
            torch.testing.assert_close(SEEN["weights"][name], weight.detach(), rtol=0, atol=1e-6, msg=name)


def test_what_a_run_leaves_is_what_it_measured(lit_ft, tags_args, work):
    code, out, err = lit_ft("fit", *tags_args, "--trainer.max_epochs", "6", "--monitor", "val/micro_f1")
    assert code == 0, err
    assert "column 'label' holds lists, so a text may have several (data.task=multi_label)" in out
    assert "labels: 7, any number of them a text: acting, bad, ending, film, good, movie, plot" in out
    assert "10 of 100 texts have none" in out and " micro F1 on " in out
    assert "best checkpoint (by val/micro_f1): step " in out
    code, out, err = lit_ft("test", *tags_args)
    assert code == 0 and "micro F1 0." in out and "this model from 0.5 on" in out, err

    facts, values = read("report.json"), read("metrics.json")
    checkpoint = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    config = json.loads((RUN / "model/config.json").read_text())
    thresholds = checkpoint["thresholds"]
    assert facts["kind"] == "multi_label" and facts["thresholds"] == config["thresholds"] == thresholds
    positives = facts["splits"]["validation"]["class_counts"]
    assert {t for t, count in zip(thresholds, positives, strict=True) if count < 10} == {0.5}
    assert facts["evaluations"]["val"]["fitted_here"] and not facts["evaluations"]["test"]["fitted_here"]

    table = parquet.read_table(RUN / "test_predictions.parquet")
    given, said = (matrix(table[name].to_pylist()) for name in ("label", "predicted"))
    shares = np.stack([table[f"probability_{name}"].to_numpy() for name in LABELS], 1)
    assert (said == (shares.astype(np.float64) >= thresholds)).all() and not given[7].any()
    for end, answers in (("", shares >= 0.5), ("_chosen", said)):
        for name, value in (
            ("micro_f1", sk.f1_score(given, answers, average="micro", zero_division=0)),
            ("macro_f1", sk.f1_score(given, answers, average="macro", zero_division=0)),
            ("subset_accuracy", sk.accuracy_score(given, answers)),
        ):
            assert values[f"test/{name}{end}"] == pytest.approx(value, abs=1e-6), name
    assert values["test/average_precision"] == pytest.approx(
        sk.average_precision_score(given, shares), abs=1e-6
    )
    assert values["test/loss"] == pytest.approx(table["loss"].to_numpy().mean(), abs=1e-5)
    assert values["test/without_label"] == pytest.approx((~said.any(1)).mean(), abs=1e-6)
    words = facts["baselines"]["evaluations"]["test"]["words"]
    assert 0 <= values["baseline/words/test/micro_f1"] == pytest.approx(words["micro_f1"])

    # The plain pipeline gives the probabilities of `predict`, which decides by the same thresholds.
    code, out, err = lit_ft("predict", "--data.predict_path", "test.jsonl", "--name", "small",
                            "--data.predict_output", "out.jsonl")  # fmt: skip
    assert code == 0 and f"{(~said.any(1)).sum()} of 40 without a label" in out, err
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row["predicted"] for row in rows] == table["predicted"].to_pylist()
    classify = pipeline("text-classification", model=str(RUN / "model"), top_k=None)
    for row, answers in zip(rows[:8], classify([row["text"] for row in rows[:8]]), strict=True):
        found = {answer["label"]: answer["score"] for answer in answers}
        assert {name: row[f"probability_{name}"] for name in LABELS} == pytest.approx(found, abs=1e-5)
    line = one_line(lit_ft("predict", "--data.predict_path", "test.jsonl", "--name", "small", "--calibrate"))
    assert line.startswith("--calibrate needs a temperature, and there is none with data.task=multi_label")
    predict = [
        "predict",
        "--data.predict_path",
        "test.jsonl",
        "--name",
        "small",
        "--data.threshold",
        "0.0001",
    ]
    predict += ["--data.predict_probabilities", "none", "--data.predict_output", "out.csv"]
    assert lit_ft(*predict, "--data.label_separator", "+")[0] == 0
    assert Path("out.csv").read_text().splitlines()[1].endswith(f",{'+'.join(LABELS)},false")
    code, out, err = lit_ft("test", *tags_args, "--data.threshold", "0.0001")
    assert code == 0 and "under best/test/..., because data.threshold is 0.0001 here, and was None" in out, (
        err
    )
    everything = sk.f1_score(given, np.ones_like(given), average="micro")
    assert read("metrics.json")["best/test/micro_f1_chosen"] == pytest.approx(everything, abs=1e-6)

    page, card = (RUN / "report.html").read_text(), (RUN / "model/README.md").read_text()
    for part in (
        "Which labels go together",
        "wrongly given",
        "One threshold for all labels",
        "counting words",
    ):
        assert part in page
    assert "tag.model.config.thresholds" in card and f"{thresholds[0]:.3f}" in card
    assert lit_ft("report", "small", "small", "--output", "two.html")[0] == 0


def test_a_resume_and_a_token_budget(lit_ft, tags_args):
    args = [
        *tags_args,
        "--trainer.max_epochs",
        "3",
        "--trainer.val_check_interval",
        "4",
        "--data.token_budget",
        "128",
    ]
    args += ["--model.class_weights", "balanced", "--data.validation_share", "0.3"]
    assert lit_ft("fit", *args, "--name", "whole")[0] == 0
    whole = state("whole")
    stop = whole["global_step"] * 3 // 5 + 1
    stop += stop % 4 == 0
    stop_at = [{"class_path": "test_resume.StopAt", "init_args": {"step": stop}}]
    with pytest.raises(Killed):
        lit_ft("fit", *args, "--name", "parts", f"--trainer.callbacks={json.dumps(stop_at)}")
    code, _, err = lit_ft("fit", *args, "--name", "parts", "--ckpt_path", "last")
    assert code == 0, err
    parts = state("parts")
    assert all(torch.equal(value, parts["state_dict"][key]) for key, value in whole["state_dict"].items())
    assert history(parts) == history(whole) and curves("parts") == curves("whole")
    assert parts["thresholds"] == whole["thresholds"]
    read = [json.loads(Path(f"runs/{n}/version_0/metrics.json").read_text()) for n in ("whole", "parts")]
    assert lasting(read[0]) == lasting(read[1])
    weights = whole["state_dict"]["class_weights"]
    counts = json.loads(Path("runs/whole/version_0/report.json").read_text())["splits"]["train"]
    rare, rows = np.array(counts["class_counts"]), counts["rows"]
    assert weights.numpy() == pytest.approx((rows - rare) / rare, rel=1e-6)


ERRORS = [
    (["--data.task", "single_label"], r"found ..* in row 1; .*--data.task=multi_label"),
    (["--model.label_smoothing", "0.1"], "model.label_smoothing=0.1 has no meaning"),
    (["--data.threshold", "1"], "expected data.threshold above 0 and below 1, found 1.0"),
    (
        ["--data.ordered", "true"],
        "may have several labels; set --data.ordered=auto, or --data.task=single_label",
    ),
    (["--monitor", "val/accuracy"], "expected --monitor to be one of .*val/micro_f1.*found 'val/accuracy'"),
]


@pytest.mark.parametrize(("flags", "found"), ERRORS, ids=[" ".join(flags) for flags, _ in ERRORS])
def test_a_mistake_is_one_line(flags, found, lit_ft, tags_args):
    line = one_line(lit_ft("fit", *tags_args, *flags))
    assert re.search(found, line), line
    assert not Path("runs").exists()


def test_settings_of_several_labels_without_them(lit_ft, fit_args):
    line = one_line(lit_ft("fit", *fit_args, "--data.threshold", "0.3"))
    assert "data.threshold=0.3 is for several labels a text, found one in each row of column 'label'" in line
    line = one_line(lit_ft("fit", *fit_args, "--data.task", "single_label", "--data.label_separator", "|"))
    assert "data.label_separator=| has no meaning for data.task single_label" in line


def test_joined_labels_and_flags_train_the_same(lit_ft, fit_args, work):
    """Three ways to write the same labels; another file of the test may be written in another way."""
    lines = write_tagged(work / "lists.jsonl", range(100)).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    write_csv(work / "joined.csv", [("|".join(row["label"]), row["text"]) for row in rows])
    flags = [[*(int(name in row["label"]) for name in LABELS), row["text"]] for row in rows]
    write_csv(work / "flags.csv", flags, (*LABELS, "text"))
    line = one_line(lit_ft("fit", *fit_args, "--data.train_path", "flags.csv"))
    assert f"--data.label_columns='[{','.join(LABELS)}]' for several labels a text" in line
    line = one_line(lit_ft("fit", *fit_args, "--data.train_path", "joined.csv"))
    assert "found none in row 8; fix or remove the row" in line
    assert line.endswith(", or --data.task=multi_label if a row may have several")
    found = {}
    for name, settings in {
        "lists.jsonl": [],
        "joined.csv": ["--data.task", "multi_label", "--data.label_separator", "|"],
        "flags.csv": ["--data.label_columns", f"[{', '.join(LABELS)}]"],
    }.items():
        args = [*fit_args, "--data.train_path", name, *settings, "--name", name.partition(".")[0]]
        code, _, err = lit_ft("fit", *args, "--trainer.max_epochs", "1", "--data.test_path", "null")
        assert code == 0, err
        found[name] = state(name.partition(".")[0])["state_dict"]
    first, *others = found.values()
    for other in others:
        assert all(torch.equal(value, other[key]) for key, value in first.items())
    write_csv(work / "other.csv", [("good;film", "the film was great"), ("nobody", "the plot was fine")])
    line = one_line(lit_ft("test", *fit_args, "--name", "lists", "--data.test_path", "other.csv"))
    assert "expected the labels of training" in line and "found 'nobody' in row 2" in line
    write_csv(work / "other.csv", [("good;film", "the film was great"), ("", "the plot was fine")])
    code, out, err = lit_ft("test", *fit_args, "--name", "lists", "--data.test_path", "other.csv")
    assert code == 0, err


def test_mistakes_show_both_texts_of_a_pair():
    split = SimpleNamespace(texts=[{"text": "Is it warm?", "pair": "No, it is cold."}])
    entry = {"index": 0, "right": [], "missed": [[0, 0.25]], "wrong": []}
    shown = worst_tags({"mistakes": [entry]}, split, ["cold"])
    assert "Is it warm?" in shown and "No, it is cold." in shown and "cold 0.25" in shown
