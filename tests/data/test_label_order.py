"""Which labels are steps of a scale."""

import pytest

from lit_ft.data.label_order import are_ordered
from lit_ft.errors import UserError


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["1 star", "2 stars", "3 stars"], True),
        (["level 0", "level 1"], True),
        (["grade_3", "grade_2", "grade_1"], True),
        (["1 star", "3 stars"], False),  # one is missing between them
        (["1 star", "2 points"], False),
        (["1", "2", "3"], False),  # numbers alone are often codes
        (["1 star", "2 stars", "none"], False),
        (["LABEL_0", "LABEL_1", "LABEL_2"], False),  # a model's names for classes that had none
        (["class 1", "class 2"], False),
        (["It broke on day 1", "It broke on day 2"], False),
        (["Boeing 747", "Boeing 757"], False),
        (["bad", "good"], False),
    ],
)
def test_names_that_count(names, expected):
    assert are_ordered("auto", names, names, "label", False) is expected


@pytest.mark.parametrize(
    ("values", "column", "expected"),
    [
        (range(1, 6), "stars", True),
        (range(11), "NPS_score", True),
        (range(1, 6), "reviewRating", True),
        ([5, 4, 3], "Ratings", True),
        (range(1, 6), "label", False),
        (range(12), "score", False),
        ([1, 3, 5], "stars", False),
        (range(1, 6), "underscore", False),
        (["a", "b"], "stars", False),
    ],
)
def test_numbers_in_a_column_of_scores(values, column, expected):
    assert are_ordered("auto", list(values), [str(v) for v in values], column, True) is expected


def test_what_is_set_holds():
    assert are_ordered(True, [3, 7], ["3", "7"], "code", True)
    assert not are_ordered(False, [1, 2], ["1 star", "2 stars"], "stars", True)
    with pytest.raises(UserError, match=r"data.ordered=true expects labels in their order, found names"):
        are_ordered(True, ["high", "low"], ["high", "low"], "priority", False)
