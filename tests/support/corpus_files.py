"""What the tests of files and corpora share: a file written and read, an error held to one line."""

from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from lit_ft.data.corpus import read_files
from lit_ft.errors import UserError

FLAG = "--data.train_path"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own folder, and an own cache in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(name: str, content: str | bytes) -> str:
    """Write a file and return its name."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def read(name: str, content: str | bytes) -> dict:
    """The columns of a file with this content."""
    return read_files(write(name, content), flag=FLAG)[:]


def refused(run: Callable[[], object], *expected: str) -> None:
    """The one line of the error holds each of these."""
    with pytest.raises(UserError) as caught:
        run()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    for part in expected:
        assert part in message, message
