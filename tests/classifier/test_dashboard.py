"""What a run writes to TensorBoard beside its curves, read back from the event files."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from conftest import review, write_csv
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from lit_ft.report.figures import weakest
from lit_ft.report.tables import cell

RUN = Path("runs/small/version_0")


@pytest.fixture
def fitted(lit_ft, fit_args) -> EventAccumulator:
    code, _, err = lit_ft("fit", *fit_args)
    assert code == 0, err
    return EventAccumulator(str(RUN), size_guidance={"tensors": 0, "images": 0}).Reload()


def layout(events: EventAccumulator) -> layout_pb2.Layout:
    found = layout_pb2.Layout()
    found.ParseFromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    return found


def hparams(events: EventAccumulator) -> dict:
    """The settings of the session. Columns that one run gave would be those of all runs."""
    content = events.summary_metadata
    data = {tag: plugin_data_pb2.HParamsPluginData() for tag in content if tag.startswith("_hparams_")}
    for tag, message in data.items():
        message.ParseFromString(content[tag].plugin_data.content)
    start = data["_hparams_/session_start_info"].session_start_info.hparams
    assert "_hparams_/experiment" not in data
    return dict(start)


def text(events: EventAccumulator, tag: str, at: int = -1) -> str:
    return events.Tensors(f"{tag}/text_summary")[at].tensor_proto.string_val[0].decode()


def test_fit_writes_its_dashboard(fitted):
    scalars = set(fitted.Tags()["scalars"])
    for category in layout(fitted).category:
        for chart in category.chart:
            assert set(chart.multiline.tag) <= scalars, (category.title, chart.title)
    images = {tag: [e.step for e in fitted.Images(tag)] for tag in fitted.Tags()["images"]}
    last = max(images["val/confusion_matrix"])
    every = [last // 2, last]
    assert images == {
        "data/token_lengths": [0],
        "val/confusion_matrix": every,
        "val/reliability": every,
        "val/classes": every,
    }
    tensors = set(fitted.Tags()["tensors"])
    assert {tag for tag in tensors if tag.startswith("val/pr/")} == {f"val/pr/{c}" for c in range(1, 6)}
    assert "data/classes/text_summary" not in tensors  # their names can be drawn
    settings = hparams(fitted)
    # Encoder, learning rate and epochs, and what differs from the defaults.
    assert settings.keys() == {
        *("model.pretrained", "model.learning_rate", "trainer.max_epochs", "data.train_path"),
        *("data.test_path", "data.validation_share", "data.max_tokens", "data.batch_size"),
        *("trainer.accelerator", "trainer.precision"),
    }
    assert settings["model.learning_rate"].number_value == pytest.approx(3e-3)
    assert settings["data.batch_size"].number_value == 8
    assert {"best/accuracy", "best/macro_f1", "best/loss"} <= scalars
    read = json.loads((RUN / "metrics.json").read_text())
    assert fitted.Scalars("best/accuracy")[0].value == pytest.approx(read["val/accuracy"], abs=1e-6)
    command = cell("python -m lit_ft fit --config small.yaml")
    assert f"| command | {command} |" in text(fitted, "run/command_and_versions")
    assert "| texts | 80 | 20 |" in text(fitted, "data/summary")
    assert text(fitted, "val/worst_mistakes").startswith("| text | true | predicted | confidence |")


def test_each_line_is_a_chart_of_its_own(fitted):
    """All lines of a run have the run's colour in TensorBoard: two in one chart could not be told apart."""
    charts = {
        category.title: {chart.title: list(chart.multiline.tag) for chart in category.chart}
        for category in layout(fitted).category
    }
    assert charts["Loss"] == {"training loss": ["train/loss"], "validation loss": ["val/loss"]}
    assert charts["Accuracy"] == {
        "accuracy": ["val/accuracy"],
        "macro F1": ["val/macro_f1"],
        "calibration error before temperature scaling": ["val/ece"],
        "calibration error after temperature scaling": ["val/ece_calibrated"],
    }
    assert all(len(tags) == 1 for category in charts.values() for tags in category.values())


def test_many_classes_and_names_that_no_font_has(lit_ft, fit_args, work):
    names = ["\U00010600 unwritten", *(f"class {c}" for c in range(1, 9))]
    rows = [(names[i % 9], f"the {review(i % 5 + 1, i)} {'so ' * (i % 9)}") for i in range(90)]
    write_csv(work / "train.csv", rows)
    flags = ["--trainer.max_epochs", "1", "--data.validation_share", "0.4"]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        code, _, err = lit_ft("fit", *fit_args, *flags)
    assert code == 0 and "Glyph" not in err, err
    events = EventAccumulator(str(RUN), size_guidance={"tensors": 0}).Reload()
    curves = {tag for tag in events.Tags()["tensors"] if tag.startswith("val/pr/")}
    found = json.loads((RUN / "report.json").read_text())
    weak = weakest(found["evaluations"]["val"]["class_counts"], 6)
    assert len(curves) == 6 and curves == {f"val/pr/{found['labels'][c]}" for c in weak}
    assert f"| {cell('#' + str(found['labels'].index(names[0])))} | {names[0]} |" in text(
        events, "data/classes"
    )


def test_throughput_counts_every_token_once(fitted):
    read = json.loads((RUN / "metrics.json").read_text())
    facts = json.loads((RUN / "report.json").read_text())
    train = facts["splits"]["train"]
    assert read["train/tokens"] == 2 * (train["tokens"] - train["cut_tokens"])  # two epochs
    assert read["train/samples"] == 160
    assert 0.5 < read["train/real_share"] <= 1 and 0.05 < read["train/peak_memory_gb"] < 20
    assert read["train/tokens_per_second"] == pytest.approx(
        read["train/tokens"] / read["train/seconds"], rel=1e-5
    )
    assert read["fit/seconds"] > read["train/seconds"] > 0


def test_test_adds_its_pictures_and_figures(fitted, lit_ft, fit_args):
    assert lit_ft("test", *fit_args)[0] == 0
    events = EventAccumulator(str(RUN), size_guidance={"images": 0}).Reload()
    step = json.loads((RUN / "metrics.json").read_text())["test/step"]
    for tag in ("test/confusion_matrix", "test/reliability", "test/classes"):
        assert [e.step for e in events.Images(tag)] == [step]
    assert len(events.Scalars("test/accuracy")) == 1


def test_no_text_enters_a_checkpoint(fitted):
    blob = (RUN / "checkpoints/best.ckpt").read_bytes()
    assert b"movie was" not in blob
    checkpoint = torch.load(RUN / "checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["temperature"] > 0


def test_other_loggers_get_the_report_too(lit_ft, fit_args):
    code, _, err = lit_ft("fit", *fit_args, "--trainer.logger", "false", "--trainer.max_epochs", "1")
    assert code == 0, err
    assert (RUN / "report.html").is_file() and not list(RUN.glob("events*"))


def test_sft_writes_its_dashboard(lit_ft, sft_args):
    code, _, err = lit_ft("sft", *sft_args)
    assert code == 0, err
    events = EventAccumulator(str(RUN), size_guidance={"tensors": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    for category in layout(events).category:
        for chart in category.chart:
            assert set(chart.multiline.tag) <= scalars, (category.title, chart.title)
    settings = hparams(events)
    assert settings["model.learning_rate"].number_value == pytest.approx(1e-2)
    assert settings.keys() == {
        *("model.pretrained", "model.learning_rate", "num_train_epochs", "max_steps", "data.train_path"),
        *("data.validation_share", "data.max_tokens", "data.batch_size", "model.warmup_share", "precision"),
    }
    command = cell("python -m lit_ft sft --config small.yaml")
    assert f"| command | {command} |" in text(events, "run/command_and_versions")
    assert min(e.value for e in events.Scalars("train/real_share")) > 0.95
