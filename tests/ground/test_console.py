"""What the console shows, and where: in a terminal, in a file, in any encoding."""

import io
import os
import sys

import pytest
from tqdm import tqdm

from lit_ft.__main__ import main
from lit_ft.console import say, warn


class Terminal(io.StringIO):
    """A stream as a person sees it."""

    def isatty(self) -> bool:
        return True


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


def test_a_line_above_a_bar(monkeypatch):
    """In a terminal the bar is removed, the line printed, the bar drawn again below."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    with tqdm(total=2, desc="training", file=screen) as bar:
        say("epoch 1")
        warn("cold")
        bar.update()
    assert "\repoch 1\n\rtraining:   0%|" in screen.getvalue()
    assert "\rwarning: cold\n\rtraining:   0%|" in screen.getvalue()


def test_long_lines_are_broken_between_words_in_a_terminal_only(monkeypatch):
    path = "runs/" + 60 * "x" + "/version_0/checkpoints/best.ckpt"
    line = f"checkpoint of the run: {path} and what was measured with it, in many words"
    monkeypatch.setattr("shutil.get_terminal_size", lambda *args, **kwargs: os.terminal_size((60, 24)))
    shown = []
    for stream in (io.StringIO(), Terminal()):
        monkeypatch.setattr(sys, "stdout", stream)
        say(f"{line}\nshort")
        shown.append(stream.getvalue())
    assert shown[0] == f"{line}\nshort\n"
    assert shown[1].split("\n") == [
        "checkpoint of the run:",
        f"  {path}",
        "  and what was measured with it, in many words",
        "short",
        "",
    ]
