"""What a run writes to TensorBoard beside its curves, read back from the event files."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

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


def hparams(events: EventAccumulator) -> tuple[dict, set[str]]:
    """The settings of the session and the tags of its metrics."""
    content = events.summary_metadata
    data = {tag: plugin_data_pb2.HParamsPluginData() for tag in content if tag.startswith("_hparams_")}
    for tag, message in data.items():
        message.ParseFromString(content[tag].plugin_data.content)
    start = data["_hparams_/session_start_info"].session_start_info.hparams
    metrics = data["_hparams_/experiment"].experiment.metric_infos
    return dict(start), {info.name.tag for info in metrics}


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
    assert {f"val/pr/{c}_{c + 1}" for c in range(5)} <= tensors
    settings, metrics = hparams(fitted)
    assert settings["model.learning_rate"].number_value == pytest.approx(3e-3)
    assert settings["data.batch_size"].number_value == 8
    assert {"best/accuracy", "best/macro_f1", "test/accuracy"} <= metrics
    read = json.loads((RUN / "metrics.json").read_text())
    assert fitted.Scalars("best/accuracy")[0].value == pytest.approx(read["val/accuracy"])
    command = cell("python -m lit_ft fit --config small.yaml")
    assert f"| command | {command} |" in text(fitted, "run/command_and_versions")
    assert "| texts | 80 | 20 |" in text(fitted, "data/summary")
    assert text(fitted, "val/worst_mistakes").startswith("| text | true | predicted | confidence |")


def test_throughput_counts_every_token_once(fitted):
    read = json.loads((RUN / "metrics.json").read_text())
    facts = json.loads((RUN / "report.json").read_text())
    train = facts["splits"]["train"]
    assert read["train/tokens"] == 2 * (train["tokens"] - train["cut_tokens"])  # two epochs
    assert read["train/samples"] == 160
    assert 0.5 < read["train/real_share"] <= 1 and 0.05 < read["train/peak_memory_gb"] < 20
    assert read["train/tokens_per_second"] == pytest.approx(read["train/tokens"] / read["train/seconds"])
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
    settings, metrics = hparams(events)
    assert settings["model.learning_rate"].number_value == pytest.approx(1e-2)
    assert metrics == {"val/loss", "val/perplexity", "val/masked_accuracy"}
    command = cell("python -m lit_ft sft --config small.yaml")
    assert f"| command | {command} |" in text(events, "run/command_and_versions")
    assert min(e.value for e in events.Scalars("train/real_share")) > 0.95
