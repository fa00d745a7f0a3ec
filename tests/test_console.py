"""What a log file gets of a progress bar: a line now and then."""

import time

from datasets import Dataset
from datasets.utils import tqdm

from lit_ft.console import FILE_SECONDS, bar_pace, quiet_datasets


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


def test_the_pace_of_a_bar(monkeypatch):
    assert bar_pace() == {"mininterval": FILE_SECONDS, "maxinterval": FILE_SECONDS}
    monkeypatch.setattr("sys.stderr", Terminal())
    assert bar_pace() == {}
