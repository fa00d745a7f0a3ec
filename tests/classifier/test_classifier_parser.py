"""The help of the Trainer's settings: plain words, and what holds here."""

import inspect
import re
from typing import Union, get_args

import pytest
from lightning import Trainer

from lit_ft.classifier.parser import SHOWN, TRAINER_HELP, int_first, plain
from lit_ft.commands.check import make_parser


@pytest.mark.parametrize(
    "text, expected",
    [
        ("as a :class:`datetime.timedelta`, or", "as a datetime.timedelta, or"),
        ("in :paramref:`~lightning.pytorch.trainer.trainer.Trainer.callbacks`.", "in callbacks."),
        (
            "see :ref:`profiler <advanced/profiler>` and :func:`torch.no_grad`",
            "see profiler and torch.no_grad",
        ),
        ("A ``True`` value. Default: ``50``.", "A `True` value."),
        ("nothing: at all, `~` or so", "nothing: at all, `~` or so"),
    ],
)
def test_plain_text(text, expected):
    assert plain(text) == expected


def test_help_of_fit(lit_ft):
    code, out, _ = lit_ft("fit", "--help_all")
    assert code == 0
    one_line = re.sub(r"\s+", " ", out)
    unbroken = "".join(out.split())
    marks = (":paramref:", ":class:", ":func:", "~lightning", "``", "1000", "infinite")
    assert not [mark for mark in marks if mark in unbroken]
    for text in TRAINER_HELP.values():
        assert text.split(".")[0] in one_line  # each still names an argument of the Trainer
    assert "an end is required, here or in max_steps. (type: Optional[int], default: 3)" in one_line


@pytest.mark.parametrize("command", SHOWN)
def test_short_help(command, lit_ft):
    """Every setting that is named is there, those of a fit are 25 to 30, and the last line leads to all."""
    code, out, _ = lit_ft(command, "--help")
    assert code == 0
    explained = re.findall(r"^  (?:-. \w+, )?--([\w.]+)", out, flags=re.MULTILINE)
    assert set(explained) == {"config", "help_all", *SHOWN[command]}
    assert len(explained) == len(set(explained))
    assert 25 <= len(SHOWN["fit"]) <= 30 and len(SHOWN[command]) <= 32
    assert out.endswith("--help_all explains every setting.\n")


def test_one_batch_is_not_a_whole_epoch(monkeypatch):
    """`Optional[Union[int, float]]` is what Python's cache of types makes of it, see `int_first`."""
    assert get_args(int_first(Union[float, int, None])) == (int, float, type(None))  # noqa: UP007
    assert get_args(int_first(Union[bool, float, str, int])) == (bool, int, float, str)  # noqa: UP007
    assert get_args(int_first(Union[int, str, float])) == (int, str, float)  # noqa: UP007
    assert int_first(float) is float and int_first(float | None) == float | None
    hints = inspect.unwrap(Trainer.__init__).__annotations__
    monkeypatch.setitem(hints, "limit_train_batches", Union[float, int, None])  # noqa: UP007
    parsed = make_parser().parse_args(["--trainer.limit_train_batches", "1"])
    assert type(parsed.trainer.limit_train_batches) is int
