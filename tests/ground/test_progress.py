"""The progress of a run: its bar in a terminal, its lines in a log file, and the time that is left."""

import io
import sys
import time

import pytest
from datasets import Dataset
from datasets.utils import tqdm

from lit_ft import progress
from lit_ft.console import quiet_datasets
from lit_ft.progress import LINE_SECONDS, Lines, RunProgress, TimeLeft, bar_settings, clock, is_live


class Terminal(io.StringIO):
    """Standard error as a person sees it."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def passing(monkeypatch) -> list[float]:
    """A clock that stands still unless a test moves it."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    "seconds, shown", [(0.4, "0:00"), (65, "1:05"), (3599.7, "1:00:00"), (36725, "10:12:05")]
)
def test_the_clock(seconds, shown):
    assert clock(seconds) == shown


def test_the_time_left_of_a_run(passing):
    """By hand: 40 steps, 10 between evaluations; the first takes 60 s, the others 2 s, an evaluation 7 s."""
    left = TimeLeft(40, every=10, guess=5)
    assert left.seconds() is None
    passing[0] += 60
    left.step(1)
    assert left.seconds() is None  # the first step warms up, and says nothing of the others
    for step in range(2, 11):
        passing[0] += 2
        left.step(step)
    assert (
        left.seconds() == 30 * 2 + 3 * 5 * 2
    )  # that at step 10 runs; each as long as 5 steps, until one ran
    passing[0] += 7
    left.evaluated(7)
    passing[0] += 2
    left.step(11)
    assert left.seconds() == pytest.approx(29 * 2 + 3 * 7)
    for step in range(12, 41):
        passing[0] += 2
        left.step(step)
    assert left.seconds() == 0


def test_the_time_left_of_a_resumed_run_counts_its_own_steps(passing):
    left = TimeLeft(100, done=90)
    for step in (91, 92, 93):
        passing[0] += 3
        left.step(step)
    assert left.seconds() == 7 * 3


@pytest.mark.parametrize("kind", ["file", "dumb terminal"])
def test_a_log_file_gets_a_line_a_minute(kind, passing, monkeypatch):
    stream = io.StringIO() if kind == "file" else Terminal()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys, "stderr", stream)
    run = RunProgress("training", 2000, done=0)
    for step in range(1, 1001):
        passing[0] += 0.25
        run.step(step, lambda: ["loss 0.812"], at_most=90.0 if step == 720 else None)
    for batch in range(1, 7):
        passing[0] += 10
        run.evaluating(batch, 6)
    run.evaluated()
    run.close()
    assert LINE_SECONDS == 60
    assert stream.getvalue().split("\n") == [
        "training: step 240 of 2,000 (12 %), loss 0.812, 7:20 left",
        "training: step 480 of 2,000 (24 %), loss 0.812, 6:20 left",
        "training: step 720 of 2,000 (36 %), loss 0.812, 1:30 left",  # max_time ends it
        "training: step 960 of 2,000 (48 %), loss 0.812, 4:20 left",
        "validating 5/6: step 1,000 of 2,000 (50 %), loss 0.812, 4:10 left",
        "",
    ]


def test_the_bar_of_a_terminal(passing, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    run = RunProgress("training", 10, done=4)
    for step in range(5, 9):
        passing[0] += 2
        run.step(step, lambda: ["loss 0.812"])
    assert run._bar.n == 8 and sys.stderr.getvalue().rstrip().endswith("| 8/10, loss 0.812, 0:04 left")
    run.evaluating(1, 2)
    passing[0] += 1
    run.evaluating(2, 2)
    assert "\rvalidating 2/2  80%|" in sys.stderr.getvalue()
    run.close()
    assert sys.stderr.getvalue().split("\r")[-2].strip() == ""  # removed
    assert "\n" not in sys.stderr.getvalue()


def test_a_part_of_a_step_is_no_step(passing, monkeypatch):
    """With accumulated gradients several batches make one step."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run = RunProgress("training", 10)
    for step in (0, 1, 1, 2, 2, 3):
        passing[0] += 1
        run.step(step)
    assert run.left.seconds() == 7 * 2


def test_a_bar_of_the_data_in_a_log_file(monkeypatch, capfd):
    """A line when it is due, without a carriage return; none for what is soon done."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.2)
    for rows, seconds in ((3, 0.01), (6, 0.1)):
        with tqdm(total=rows, desc="tokenising train", unit=" rows", **bar_settings()) as bar:
            for _ in range(rows):
                time.sleep(seconds)
                bar.update()
    err = capfd.readouterr().err
    lines = err.splitlines()
    assert "\r" not in err and 1 <= len(lines) <= 3
    assert all(line.startswith("tokenising train:") and "/6 [" in line for line in lines)


def test_the_bars_of_datasets_in_a_log_file(capfd, monkeypatch):
    def bars(name: str) -> str:
        """What `datasets` shows over a second of work."""

        def work(row: dict) -> dict:
            time.sleep(0.1)
            return row

        capfd.readouterr()
        Dataset.from_dict({"text": ["a"] * 10}).map(work, desc=name, new_fingerprint=name)
        return capfd.readouterr().err

    before = tqdm.__init__
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.5)
    with quiet_datasets(bars=True):
        shown = bars("paced")
    assert 1 <= shown.count("paced:") <= 2 and "\r" not in shown
    assert tqdm.__init__ is before and bars("unpaced").count("unpaced:") > 2


def test_streams(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert is_live(Terminal()) and not is_live(io.StringIO())
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert "file" not in bar_settings()
    monkeypatch.setenv("TERM", "dumb")
    assert not is_live(Terminal()) and isinstance(bar_settings()["file"], Lines)
