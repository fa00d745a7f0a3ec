"""The help of the Trainer's settings: plain words, and what holds here."""

import re

import pytest

from lit_ft.classifier_parser import TRAINER_HELP, plain


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
    code, out, _ = lit_ft("fit", "--help")
    assert code == 0
    one_line = re.sub(r"\s+", " ", out)
    unbroken = "".join(out.split())
    marks = (":paramref:", ":class:", ":func:", "~lightning", "``", "1000", "infinite")
    assert not [mark for mark in marks if mark in unbroken]
    for text in TRAINER_HELP.values():
        assert text.split(".")[0] in one_line  # each still names an argument of the Trainer
    assert "one: here or in max_steps. (type: Optional[int], default: 3)" in one_line
