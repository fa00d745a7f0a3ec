"""`report.html`, the model card and `report`: what they show is what the run measured."""

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from conftest import review, write_csv
from huggingface_hub import ModelCard

from lit_ft import runs
from lit_ft.errors import UserError
from lit_ft.report.page import read_run

RUN = Path("runs/small/version_0")
NASTY = '<script>alert(1)</script> & "quoted" <img src=x onerror=alert(2)> {{ 7 * 7 }} $x^2$ | a_b*c'


class Figures(HTMLParser):
    """The page's figures, the texts of its cells, and everything that it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, float]] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.loads += [values[key] for key in ("src", "href", "srcset", "data") if values.get(key)]
        if tag == "data":
            self.found.append((values["data-tag"], float(values["value"])))

    def handle_data(self, data):
        self.text += data


def read(path: Path = RUN / "report.html") -> Figures:
    return Figures(path.read_text())


@pytest.fixture
def nasty(work: Path) -> None:
    """Texts and label names that are markup in HTML, Markdown, Jinja and TeX."""
    names = ["<b>bad</b>", "$so$ so", "go|od"]
    rows = [(names[i % 3], f"{NASTY} {review(i % 3 + 1, i)}") for i in range(90)]
    write_csv(work / "train.csv", rows)
    write_csv(work / "test.csv", rows[:30])


def test_every_figure_is_that_of_the_metrics(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    metrics = json.loads((RUN / "metrics.json").read_text())
    page = read()
    assert page.text.lstrip().startswith("small/version_0") and "validation accuracy" in page.text
    assert "of the validation texts are classified right" in page.text
    assert lit_ft("test", *fit_args)[0] == 0
    metrics = json.loads((RUN / "metrics.json").read_text())
    page = read()
    assert len(page.found) > 25
    for tag, value in page.found:
        assert value == metrics[tag], tag
    names = ("accuracy", "macro_f1", "ece_calibrated")
    assert {f"{p}/{name}" for p in ("test", "val") for name in names} <= {tag for tag, _ in page.found}
    whole = (RUN / "report.html").read_text()
    drawn = whole[whole.index('id="training"') : whole.index("Learning rate, gradient norm")]
    assert re.findall(r"<figcaption>(.*?)</figcaption>", drawn) == ["Loss", "Accuracy and macro F1"]
    assert drawn.count("<polyline") == 4 and "training" in drawn and "validation" in drawn
    first = re.search(r"<h1>.*?</h1>", whole, re.DOTALL)
    assert first and f'value="{metrics["test/accuracy"]}"' in first[0]


def test_the_page_is_one_small_file(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    page = read()
    assert (RUN / "report.html").stat().st_size < 100_000
    assert page.loads and all(value.startswith("#") for value in page.loads)  # places in the page
    source = (RUN / "report.html").read_text()
    for place in page.loads:
        assert f'id="{place[1:]}"' in source, place
    assert not page.tags & {"link", "iframe", "object", "embed", "img"}
    assert "url(" not in source and "@import" not in source


def test_one_script_runs_and_its_hash_is_in_the_policy(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    source = (RUN / "report.html").read_text()
    scripts = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    assert len(scripts) == 1 and len(scripts[0]) < 4096
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', source)
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    (data,) = re.findall(r'<script type="application/json" id="accepted">(.*?)</script>', source)
    facts = json.loads((RUN / "report.json").read_text())
    assert json.loads(data) == facts["evaluations"]["val"]["accepted"]


def test_texts_and_names_are_data(lit_ft, fit_args, nasty):
    code, _, err = lit_ft("fit", *fit_args)
    assert code == 0, err
    page = read()
    source = (RUN / "report.html").read_text()
    assert source.count("<script") == 2 and "x" not in page.loads  # ours, and its data
    facts = json.loads((RUN / "report.json").read_text())
    entries = facts["evaluations"]["val"]["mistakes"]
    assert entries, "the tiny run makes mistakes"
    for entry in entries:
        assert entry["text"].startswith(NASTY) and entry["text"] in page.text  # as typed
    assert "<b>bad</b>" in page.text
    card = (RUN / "model/README.md").read_text()
    assert "<b>" not in card and "go|od" not in card
    assert lit_ft("report", str(RUN))[0] == 0


def test_rows_are_those_of_the_file(lit_ft, fit_args, work):
    assert lit_ft("fit", *fit_args)[0] == 0 and lit_ft("test", *fit_args)[0] == 0
    lines = (work / "test.csv").read_text().splitlines()[1:]
    facts = json.loads((RUN / "report.json").read_text())
    entries = facts["evaluations"]["test"]["mistakes"] + facts["evaluations"]["val"]["mistakes"]
    assert facts["evaluations"]["test"]["mistakes"]
    for entry in facts["evaluations"]["test"]["mistakes"]:
        assert lines[entry["row"] - 1] == f'{entry["label"] + 1},"{entry["text"]}"'
    assert all(entry["label"] != entry["predicted"] for entry in entries)


def test_report_compares_runs(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args)[0] == 0
    assert lit_ft("fit", *fit_args, "--model.learning_rate", "1e-4", "--data.batch_size", "16")[0] == 0
    code, out, _ = lit_ft("report", "runs/small/version_0", "runs/small/version_1")
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == ["A  small/version_0", "B  small/version_1"]
    points = r"[+-]\d+\.\d"
    told = rf"  accuracy +B - A: {points} points \(95 %: {points} to {points}\): ([AB] is better|not certain)"
    assert "on the same 20 validation texts:" in lines and any(re.fullmatch(told, line) for line in lines)
    assert max(map(len, lines)) <= 80
    assert ["data.batch_size", "8", "16"] in [line.split() for line in lines]
    assert ["model.learning_rate", "0.003", "0.0001"] in [line.split() for line in lines]
    assert not [line for line in lines if line.startswith(("data.max_tokens", "name"))]  # these are the same
    page = read(Path("runs/comparison.html"))
    metrics = [json.loads(Path(f"runs/small/version_{i}/metrics.json").read_text()) for i in (0, 1)]
    shown = [value for tag, value in page.found if tag == "val/accuracy"]
    assert shown == [m["val/accuracy"] for m in metrics]
    assert "B - A, on the same 20 validation texts" in page.text and "Texts on which they differ" in page.text
    assert not page.loads and "svg" in page.tags  # losses and accuracy, a line a run
    assert "model.learning_rate" in page.text and page.text.index("differ") < page.text.index("val/accuracy")


def test_sft_report(lit_ft, sft_args):
    code, out, err = lit_ft("sft", *sft_args)
    assert code == 0, err
    assert f"report: {RUN / 'report.html'}" in out
    page, metrics = read(), json.loads((RUN / "metrics.json").read_text())
    assert len(page.found) >= 12
    for tag, value in page.found:
        assert value == metrics[tag], tag
    assert "the plot was [MASK], and i [MASK] it!" in page.text
    card = ModelCard.load(RUN / "model/README.md")
    assert card.data.pipeline_tag == "fill-mask" and card.data.eval_results


def test_model_card_is_in_the_hubs_format(lit_ft, fit_args):
    fit_args = [*fit_args, "--data.ordered", "true"]
    assert lit_ft("fit", *fit_args)[0] == 0 and lit_ft("test", *fit_args)[0] == 0
    metrics = json.loads((RUN / "metrics.json").read_text())
    card = ModelCard.load(RUN / "model/README.md")
    assert card.data.pipeline_tag == "text-classification" and card.data.library_name == "transformers"
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == {
        "accuracy": metrics["test/accuracy"], "f1": metrics["test/macro_f1"], "mae": metrics["test/mae"],
    }  # fmt: skip
    assert "base_model" not in card.data.to_dict()  # a folder on this machine is no name on the Hub
    assert f"Accuracy {metrics['test/accuracy']:.3f} on 30 test texts" in card.text


def test_temperature_calibrates_predictions(lit_ft, fit_args, work):
    import csv
    import math

    assert lit_ft("fit", *fit_args)[0] == 0
    args = [*fit_args, "--data.predict_path", "test.csv"]
    assert lit_ft("predict", *args, "--data.predict_output", "plain.csv")[0] == 0
    assert lit_ft("predict", *args, "--data.predict_output", "calibrated.csv", "--calibrate", "true")[0] == 0
    temperature = json.loads((RUN / "model/config.json").read_text())["calibration_temperature"]
    logged = json.loads((RUN / "metrics.json").read_text())["val/temperature"]  # rounded
    assert temperature == pytest.approx(logged, rel=1e-5) and temperature != 1
    plain, calibrated = (list(csv.DictReader(open(name))) for name in ("plain.csv", "calibrated.csv"))
    keys = [key for key in plain[0] if key.startswith("probability_")]
    for one, other in zip(plain, calibrated, strict=True):
        assert one["predicted"] == other["predicted"]
        powers = [float(one[key]) ** (1 / temperature) for key in keys]  # softmax(z / T) from softmax(z)
        expected = [power / math.fsum(powers) for power in powers]
        assert [float(other[key]) for key in keys] == pytest.approx(expected, abs=2e-4)


def test_a_run_without_validation_cannot_calibrate(lit_ft, fit_args, work):
    code, _, err = lit_ft("fit", *fit_args, "--trainer.limit_val_batches", "0", "--trainer.max_epochs", "1")
    assert code == 0, err
    args = ["--data.predict_path", "test.csv", "--ckpt_path", "last", "--calibrate", "true"]
    code, _, err = lit_ft("predict", *fit_args, *args)
    assert code == 2 and "so it has no temperature: remove --calibrate" in err
    assert yaml.safe_load((RUN / "config.yaml").read_text())["name"] == "small"


def test_a_models_folder_is_shown_without_what_leads_to_it(tmp_path, monkeypatch):
    from lit_ft.models.names import shown_name

    (tmp_path / "work/runs/a").mkdir(parents=True)
    (tmp_path / "elsewhere/encoder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert shown_name(str(tmp_path / "work/runs/a")) == shown_name("runs/a") == "runs/a"
    assert shown_name(str(tmp_path / "elsewhere/encoder")) == "encoder"
    assert shown_name("bert-base-cased@main") == "bert-base-cased@main"


def test_damaged_runs_are_one_line(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    whole = (RUN / "config.yaml").read_bytes()
    for content in (b"\xff", b"a: \0", b"3", b""):
        (RUN / "config.yaml").write_bytes(content)
        code, _, err = lit_ft("report", str(RUN), str(RUN))
        assert code == 2 and f"one of {RUN}, {RUN} cannot be used (" in err and err.count("\n") == 1
    (RUN / "config.yaml").write_bytes(whole)
    facts = json.loads((RUN / "report.json").read_text())
    for damage in ({"labels": None}, {"evaluations": 3}, {"splits": []}):
        (RUN / "report.json").write_text(json.dumps(facts | damage))
        page = (RUN / "report.html").read_bytes()
        code, _, err = lit_ft("report", str(RUN))
        assert code == 2 and f"the run {RUN} cannot be used (" in err and err.count("\n") == 1
        assert (RUN / "report.html").read_bytes() == page


def test_a_run_without_its_model_folder_is_measured(lit_ft, fit_args):
    assert lit_ft("fit", *fit_args, "--trainer.max_epochs", "1")[0] == 0
    shutil.rmtree(RUN / "model")
    code, out, err = lit_ft("test", *fit_args)
    assert code == 0 and "test accuracy" in read().text, err


def test_an_unfinished_run_is_told(tmp_path):
    runs.add_metrics(tmp_path, {"val/loss": 1.0})
    with pytest.raises(UserError, match="is unfinished: resume with the same command and --ckpt_path last"):
        read_run(tmp_path)


def test_names_of_files_and_folders_are_data(lit_ft, fit_args, work, encoder):
    """What a name may hold: everything but a slash. The command line shows them all."""
    import shutil

    from lit_ft.report.model_card import write_model_card

    markup = "<img src=x onerror=alert(3)> {{ 7 * 7 }} `a` | *b*"
    shutil.copytree(encoder, markup)
    for name in ("train", "test"):
        (work / f"{name}.csv").rename(work / f"{markup}{name}.csv")
    flags = ["--data.train_path", f"{markup}train.csv", "--data.test_path", f"{markup}test.csv"]
    flags += ["--model.pretrained", markup, "--trainer.max_epochs", "1"]
    for _ in range(2):
        code, _, err = lit_ft("fit", *fit_args, *flags)
        assert code == 0, err
    assert lit_ft("report", "runs/small/version_0", "runs/small/version_1")[0] == 0
    for path in (RUN / "report.html", Path("runs/comparison.html")):
        page = read(path)
        assert path.read_text().count("<script") == 2 * (path.parent == RUN), path
        assert "img" not in page.tags and "x" not in page.loads, path
        assert f"{markup}train.csv" in page.text or path.name == "comparison.html"
    facts = json.loads((RUN / "report.json").read_text())
    facts["command"] += "\n```\n<script>alert(4)</script>"  # a name may hold line breaks
    (RUN / "report.json").write_text(json.dumps(facts))
    write_model_card(RUN, runs.read_metrics(RUN), runs.read_facts(RUN))
    shown, _, command = (RUN / "model/README.md").read_text().partition("```bash\n")
    assert "<img" not in shown and "&#60;img" in shown
    assert command.splitlines()[1] == "```" and "<" not in command.partition("\n```\n")[2]
