"""What a run leaves: figures that belong to the weights beside them, written before anything can fail."""

import errno
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import one_line, review, write_csv
from huggingface_hub import ModelCard
from test_preempt import signal_at

from lit_ft import runs
from lit_ft.models.export import export_model
from lit_ft.report.model_card import write_model_card

RUN = Path("runs/small/version_0")
OFTEN = ["--trainer.val_check_interval", "5"]
FROZEN = [*OFTEN, "--model.learning_rate", "0"]  # all validations are equal: the best is the first


def metrics() -> dict:
    return json.loads((RUN / "metrics.json").read_text())


def facts() -> dict:
    return json.loads((RUN / "report.json").read_text())


def under(prefix: str) -> set[str]:
    return {tag for tag in metrics() if tag.startswith(prefix)}


def test_a_test_that_a_run_has_left_behind(lit_ft, fit_args):
    """The card, the report, the metrics and a comparison know of no test of the new weights."""
    code, _, err = lit_ft("fit", *fit_args, *OFTEN, signal_at(batch=7))
    assert code == 143, err
    assert lit_ft("test", *fit_args)[0] == 0
    assert metrics()["test/step"] == 5
    code, _, err = lit_ft("fit", *fit_args, *OFTEN, "--ckpt_path", "last")
    assert code == 0, err
    assert facts()["step"] == metrics()["val/step"] > 5, "the run got better"
    assert not under("test/") and "test" not in facts()["evaluations"]
    card = (RUN / "model/README.md").read_text()
    assert "| test" not in card and "held out of train" in card
    assert "test/" not in lit_ft("report", str(RUN), str(RUN))[1]
    # A test of these very weights stays, though the same command comes again.
    assert lit_ft("test", *fit_args)[0] == 0
    tested = {tag: metrics()[tag] for tag in under("test/")}
    assert lit_ft("fit", *fit_args, *OFTEN, "--ckpt_path", "last")[0] == 0
    assert {tag: metrics()[tag] for tag in under("test/")} == tested
    assert "| test" in (RUN / "model/README.md").read_text() and "test" in facts()["splits"]


def test_figures_of_other_weights_are_kept_apart(lit_ft, fit_args, work):
    assert lit_ft("fit", *fit_args, *FROZEN)[0] == 0
    fitted = metrics()
    assert fitted["val/step"] == 5
    shown = [(RUN / name).read_bytes() for name in ("report.html", "model/README.md")]
    known = facts()
    for command, prefix in (("test", "test"), ("validate", "val")):
        code, out, err = lit_ft(command, *fit_args, "--ckpt_path", "last")
        assert code == 0, err
        why = "because model/, its card and the report are of step 5, these of step 20"
        assert f"under last/{prefix}/..., {why}" in out
        assert metrics()[f"last/{prefix}/step"] == 20 and f"last/{prefix}/accuracy" in metrics()
    assert {tag: metrics()[tag] for tag in fitted} == fitted and not under("test/")
    code, out, _ = lit_ft("test", *fit_args, "--data.max_tokens", "12")
    assert "because data.max_tokens is 12 here, and was 64 in training" in out and under("best/test/")
    assert [(RUN / name).read_bytes() for name in ("report.html", "model/README.md")] == shown
    others = facts().pop("other_evaluations")
    assert facts() == {**known, "other_evaluations": others}
    matrices = {name: (found["step"], sum(map(sum, found["confusion"]))) for name, found in others.items()}
    assert matrices == {"last/test": (20, 30), "last/val": (20, 20), "best/test": (5, 30)}
    assert not [tag for tag in metrics() if "confusion" in tag]
    assert lit_ft("test", *fit_args)[0] == 0
    assert metrics()["test/step"] == 5 and metrics()["test/rows"] == 30
    # Another file: said, and shown beside the figure.
    write_csv(work / "other.csv", [(i % 5 + 1, review(i % 5 + 1, i)) for i in range(20)])
    _, out, _ = lit_ft("test", *fit_args, "--data.test_path", "other.csv")
    assert re.search(
        r"test/\.\.\. was measured on test.csv \(30 texts, .*\), now on other.csv \(20 texts, ", out
    )
    assert metrics()["test/rows"] == 20
    assert "5 classes, 20 test texts (other.csv)" in (RUN / "report.html").read_text()
    assert re.search(
        r"on 20 test texts, 95 % .* \(other.csv\), 5 classes", (RUN / "model/README.md").read_text()
    )
    out = lit_ft("report", str(RUN), str(RUN))[1]
    assert ["test/where", "other.csv", "other.csv"] in [line.split() for line in out.splitlines()]


def test_names_have_no_order(lit_ft, fit_args, work):
    names = {1: "terrible", 3: "fine", 5: "wonderful"}
    write_csv(work / "named.csv", [(names[i % 3 * 2 + 1], review(i % 3 * 2 + 1, i)) for i in range(60)])
    args = [*fit_args, "--data.train_path", "named.csv", "--trainer.max_epochs", "1"]
    for figure in ("kappa", "mae"):
        line = one_line(lit_ft("fit", *args, "--monitor", f"val/{figure}"))
        assert line.startswith(
            "expected --monitor to be one of val/loss, val/accuracy, val/macro_f1, val/ece, "
        )
        assert line.endswith(
            f"found 'val/{figure}', which needs labels with an order; set --data.ordered=true if these are a "
            "scale"
        )
    assert not Path("runs").exists()
    code, out, err = lit_ft("fit", *args, "--data.test_path", "named.csv")
    assert code == 0, err
    code, tested, err = lit_ft("test", *args, "--data.test_path", "named.csv")
    assert code == 0, err
    page, card = (RUN / "report.html").read_text(), (RUN / "model/README.md").read_text()
    for text in (out, tested, json.dumps(metrics()), page, card):
        assert "kappa" not in text and "mae" not in text and "absolute error" not in text
    assert "val/accuracy" in out and "test/macro_f1" in tested


def test_many_classes_have_no_matrix(lit_ft, fit_args, work):
    rows = [(f"class {c:03}", f"the movie was {word}") for c in range(130) for word in ("great", "fine")]
    write_csv(work / "many.csv", rows)
    args = [*fit_args, "--data.train_path", "many.csv", "--data.validation_share", "0.5"]
    code, _, err = lit_ft("fit", *args, "--data.test_path", "many.csv", "--trainer.max_epochs", "1")
    assert code == 0, err
    code, _, err = lit_ft("test", *args, "--data.test_path", "many.csv")
    assert code == 0, err
    assert not [tag for tag in metrics() if "matrix" in tag]
    for prefix, rows in (("val", 130), ("test", 260)):
        found = facts()["evaluations"][prefix]
        assert sum(found["class_counts"]["rows"]) == rows and len(found["confusions"]) == 40
        assert len(found["intervals"]["classes"]) == 50
    page = (RUN / "report.html").read_text()
    assert (
        "The most frequent mistakes, of " in page
        and "The next 25</summary>" in page
        and 'class="matrix"' not in page
    )
    assert "and 80 more classes" in (RUN / "model/README.md").read_text()
    checkpoint = torch.load(RUN / "checkpoints/last.ckpt", weights_only=True)
    ((_, summary),) = next(s for key, s in checkpoint["callbacks"].items() if "Dashboard" in key)["summaries"]
    assert summary["confusion"] is None and len(json.dumps(summary)) < 25_000  # a matrix alone has 50,000


def test_a_run_without_validation_has_a_report(lit_ft, fit_args):
    code, out, err = lit_ft("fit", *fit_args, "--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1")
    assert code == 0 and f"report: {RUN}/report.html" in out, err
    assert lit_ft("report", "small")[0] == 0
    assert "<h1>Not measured yet</h1>" in (RUN / "report.html").read_text()
    card = ModelCard.load(RUN / "model/README.md")
    assert "Not measured yet: no validation took place" in card.text and not card.data.eval_results
    assert lit_ft("test", *fit_args, "--ckpt_path", "last")[0] == 0
    assert "of the test texts are classified right" in (RUN / "report.html").read_text()
    assert "calibration temperature" not in (RUN / "model/README.md").read_text()  # config.json has none


def test_figures_outlive_an_export_that_fails(lit_ft, fit_args, work, monkeypatch):
    def full(run, *args):
        (run / ".model").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device", str(run))

    args = [*fit_args, "--trainer.max_epochs", "1"]
    monkeypatch.setattr("lit_ft.classifier.results.export_model", full)
    assert "No space left on device" in one_line(lit_ft("fit", *args))
    assert "val/accuracy" in metrics() and facts()["evaluations"]["val"]["rows"] == 20
    # model/ is a link, since it was moved to a larger disk: what it leads to is not touched.
    monkeypatch.undo()
    monkeypatch.chdir(work)
    assert lit_ft("fit", *args, "--ckpt_path", "last")[0] == 0
    (RUN / "model").rename(work / "elsewhere")
    before = {path.name: path.read_bytes() for path in (work / "elsewhere").iterdir()}
    (RUN / "model").symlink_to(work / "elsewhere")
    code, out, err = lit_ft("fit", *args, "--ckpt_path", "last")
    assert code == 0, err
    assert (RUN / "model/model.safetensors").is_file() and not (RUN / "model").is_symlink()
    assert {path.name: path.read_bytes() for path in (work / "elsewhere").iterdir()} == before
    size = (RUN / "checkpoints/last.ckpt").stat().st_size / 1e6
    assert f"{RUN}/checkpoints/last.ckpt ({size:.1f} MB), only to resume\n" in out


def test_an_export_that_fails_leaves_the_model_before(tmp_path):
    class Broken:
        def save_pretrained(self, folder, state_dict):
            folder.mkdir()
            (folder / "half").touch()
            raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").touch()
    with pytest.raises(OSError):
        export_model(tmp_path, Broken(), {}, None, 64, "head")
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["model", "model/config.json"]


@pytest.mark.parametrize(
    ("pretrained", "model_from_hub", "where", "data_from_hub", "base", "datasets"),
    [
        ("my-bert", False, "data/train.csv", False, None, None),
        ("owner/model@main", True, "owner/data@v1", True, "owner/model", ["owner/data"]),
        ("bert-base-cased", True, "held/out", False, "bert-base-cased", None),
        ("all-MiniLM-L6-v2", True, "imdb", True, "all-MiniLM-L6-v2", ["imdb"]),
    ],
)
def test_the_card_names_what_is_on_the_hub(
    tmp_path, pretrained, model_from_hub, where, data_from_hub, base, datasets
):
    """By where it came from: not by what a name looks like."""
    train = {"where": where, "from_hub": data_from_hub, "class_counts": [1, 1]}
    test = {"where": "own/test.csv", "from_hub": False, "class_counts": [1, 1]}
    (tmp_path / "model").mkdir()
    runs.add_metrics(
        tmp_path, {"val/loss": 1.0, "val/accuracy": 0.5, "test/loss": 1.0, "test/accuracy": 0.25}
    )
    kept = {"kind": "classifier", "labels": ["a", "b"], "max_tokens": 8, "truncation": "head", "seed": 1}
    kept |= {"pretrained": pretrained, "from_hub": model_from_hub, "temperature": None, "finished": "now"}
    kept |= {"splits": {"train": train, "validation": {**train, "where": "held out of train"}, "test": test}}
    counts = {"rows": [1, 1], "predicted": [2, 0], "right": [1, 0]}
    measured = {"rows": 2, "class_counts": counts, "confusions": [[1, 0, 1]], "num_mistakes": 1}
    kept |= {"evaluations": {"val": measured}, "command": "fit", "versions": {}, "hardware": "CPU"}
    runs.add_facts(tmp_path, kept)
    write_model_card(tmp_path, runs.read_metrics(tmp_path), runs.read_facts(tmp_path))
    data = ModelCard.load(tmp_path / "model/README.md").data
    assert data.base_model == base and data.datasets == datasets
    assert {result.dataset_type for result in data.eval_results} == {datasets[0] if datasets else "local"}
    runs.add_facts(tmp_path, {"evaluations": {"test": measured}})  # of a file, whatever was trained on
    write_model_card(tmp_path, runs.read_metrics(tmp_path), runs.read_facts(tmp_path))
    data = ModelCard.load(tmp_path / "model/README.md").data
    assert [(result.dataset_type, result.metric_value) for result in data.eval_results] == [("local", 0.25)]
