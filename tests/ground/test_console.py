"""What a log file gets of a progress bar: a line now and then."""

import io
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from datasets.utils import tqdm

from lit_ft.__main__ import main
from lit_ft.classifier import tracking as progress
from lit_ft.classifier.tracking import ReviewProgressBar
from lit_ft.console import FILE_SECONDS, bar_pace, quiet_datasets, say, warn


class Terminal:
    """Standard error as a person sees it."""

    def isatty(self) -> bool:
        return True


def bars(capfd, name: str) -> int:
    """How often `datasets` draws its bar over a second of work."""

    def work(row: dict) -> dict:
        time.sleep(0.1)
        return row

    capfd.readouterr()
    Dataset.from_dict({"text": ["a"] * 10}).map(work, desc=name, new_fingerprint=name)
    return capfd.readouterr().err.count(f"{name}:")


def test_the_bars_of_datasets_in_a_log_file(capfd):
    before = tqdm.__init__
    with quiet_datasets(bars=True):
        assert bars(capfd, "paced") <= 2  # the first and the last
    assert tqdm.__init__ is before and bars(capfd, "unpaced") > 2


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_console_of_any_encoding(encoding, monkeypatch):
    """What its encoding lacks is escaped, by `say`, `warn` and errors alike; no run ends by it."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, errors="strict") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["--version"]) == 0
    say("labels: 2 classes, \u574f, \u597d \U0001f600")
    warn("\u574f")
    assert main(["\u597d"]) == 2
    out.flush(), err.flush()
    shown = [stream.buffer.getvalue().decode(encoding) for stream in (out, err)]
    if encoding == "utf-8":
        assert "\u574f, \u597d \U0001f600" in shown[0] and "warning: \u574f" in shown[1]
    else:
        assert r"\u574f, \u597d \U0001f600" in shown[0] and r"warning: \u574f" in shown[1]
        assert r"unknown command '\u597d'" in shown[1]


def test_the_pace_of_a_bar(monkeypatch):
    assert bar_pace() == {"mininterval": FILE_SECONDS, "maxinterval": FILE_SECONDS}
    monkeypatch.setattr("sys.stderr", Terminal())
    assert bar_pace() == {}


def test_the_bar_does_not_wait_for_a_loss(monkeypatch):
    """It shows the newest loss that has come from the device."""

    class Copy:
        """Is there with the third question after it."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.asked = tensor, 0

        def is_here(self) -> bool:
            self.asked += 1
            return self.asked >= 3

        def wait(self) -> torch.Tensor:
            assert self.asked >= 3, "the bar waits"
            return self.tensor

    def shown(loss: float) -> str | None:
        bar._follow(SimpleNamespace(callback_metrics={"train/loss": torch.tensor(loss)}))
        return bar.get_metrics(None, None).get("loss")

    bar = ReviewProgressBar()
    bar._follow(SimpleNamespace(callback_metrics={}))
    assert bar.get_metrics(None, None) == {}
    assert shown(9.0) == "9.000"  # on a CPU it is there at once
    monkeypatch.setattr(progress, "OnItsWay", Copy)
    assert [shown(loss) for loss in (8.0, 7.0, 6.0)] == ["9.000", "9.000", "8.000"]
    assert [shown(loss) for loss in (5.0, 4.0, 3.0)] == ["8.000", "8.000", "5.000"]
    bar.on_train_start()
    assert "loss" not in bar.get_metrics(None, None)
