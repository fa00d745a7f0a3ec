"""--shares: what is understood, and what a line says of the rest."""

import pytest

from lit_ft.errors import UserError
from lit_ft.settings.shares import shares_of


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("0.25,0.5,1", (0.25, 0.5, 1.0)),
        (" 1, .25 ", (0.25, 1.0)),
        ("7%,25 %", (0.07, 0.25)),
        ("[0.5, 1]", (0.5, 1.0)),
        ("1e-1", (0.1,)),
    ],
)
def test_shares_are_sorted(text, shares):
    assert shares_of(text) == shares


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "expected shares of the training texts, found ''; set --shares=0.25,0.5,1"),
        ("[]", r"expected shares of the training texts, found \[\]"),
        ("25,50", "at most 1, found 25 in 25,50; write 0.25 or 25% if percent are meant"),
        ("0,1", "above 0 and at most 1, found 0 in 0,1; set --shares"),
        ("-0.5", "above 0 and at most 1, found -0.5; set"),
        ("nan", "at most 1, found nan"),
        ("inf,1", "at most 1, found inf in inf,1"),
        ("150%", "at most 1, found 150%; set"),
        ("half,1", "at most 1, found half in half,1"),
        ("0.5,,1", "found '' in 0.5,,1"),
        ("0.5;1", "found 0.5;1; set"),
        ("1,0.5,1", "expected each share of --shares once, found 1 twice in 1,0.5,1; leave one out"),
        ("0.5,50%", "found 0.5 and 50% in 0.5,50%; leave one out"),
    ],
)
def test_others_are_refused(text, line):
    with pytest.raises(UserError, match=line):
        shares_of(text)
