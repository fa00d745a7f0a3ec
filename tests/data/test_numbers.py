"""Labels that are numbers: read as written, refused with value and row, standardised, put into strata."""

import numpy as np
import pytest

from lit_ft.console import quiet
from lit_ft.data.label_column import LabelColumn
from lit_ft.data.numbers import NumberScale, number_text
from lit_ft.errors import UserError


def scale_of(values, **others) -> NumberScale:
    return NumberScale.fit(LabelColumn(values, name="score"), where="train.csv", **others)


def encoded(values, by: NumberScale | None = None) -> list[float]:
    by = by or NumberScale("score", 0.0, 1.0, -100.0, 100.0)
    return by.encode(LabelColumn(values, name="score"), where="test.csv").tolist()


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([1, -2, 3], [1, -2, 3]),
        ([0.5, 1e-3, 2.0], [0.5, 1e-3, 2.0]),
        (np.float32([0.1, 0.2]), [0.1, 0.2]),  # its own digits, not 0.10000000149
        (["1", " +2.50 ", "-.5", "3.", "1e-05", "2E3"], [1, 2.5, -0.5, 3, 1e-5, 2000]),
        (["3,5", "0,25", "-1"], [3.5, 0.25, -1]),
        (["\u22120.5", "\u22122"], [-0.5, -2]),  # a typographer's minus
        (["007", "1.10"], [7, 1.1]),  # codes and versions are numbers here
    ],
)
def test_numbers_are_read_as_they_are_written(values, numbers):
    assert encoded(values) == numbers


def test_a_decimal_comma_is_told_and_remembered(capfd):
    scale = scale_of(["3,5", "1,234", "2"])
    assert capfd.readouterr().out == "numbers of train.csv: read with a decimal comma, '3,5' as 3.5\n"
    assert scale.comma and scale.high == 3.5 and "decimal comma" in scale.describe()
    assert encoded(["1,234"], scale) == [1.234]  # as in training
    assert encoded(["1.5"], scale) == [1.5]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["1,234", "5"], "found '1,234' in row 1: a decimal comma, or thousands? write a point"),
        (["1.5", "3,5"], "found '3,5' in row 2 beside '1.5': a decimal comma, or thousands?"),
        ([1.0, None], "found none, or NaN, in row 2; fix or remove the row"),
        ([1.0, float("nan"), 2.0], "found none, or NaN, in row 2;"),
        (["1", "", "2"], "found none, or NaN, in row 2;"),
        (["1", "n/a"], "found 'n/a' in row 2 (which often means a missing label); fix or remove the row"),
        (["1", "score"], "found 'score' in row 2 (the column's name: a repeated header?)"),
        ([1.0, float("inf")], "found infinity, inf in row 2; fix or remove the row"),
        (["1", "-inf"], "found '-inf' in row 2;"),
        ([1.0, -1e300], "between -1e30 and 1e30, found -1e+300 in row 2; fix it, or give all numbers in a"),
        (["1", "1e300"], "between -1e30 and 1e30, found 1e300 in row 2;"),
        (["1", "1e999"], "found infinity, '1e999' in row 2;"),
        (["2024-01-31", "2024-02-01"], "found '2024-01-31' in row 1; fix or remove the row, or set --da"),
        (["good", "bad"], "found 'good' in row 1; fix or remove the row, or set --data.label_column to "
                          "another column, or remove --data.task"),
        (["1", "2 stars"], "found '2 stars' in row 2;"),
        (["$3", "1,234.50"], "column, or remove --data.task; numbers stand alone, like 3.5, without"),
        (["1", "\u22121e300"], "between -1e30 and 1e30, found \u22121e300 in row 2;"),
        (["1", "1_000"], "found '1_000' in row 2;"),
        (["1", "\u0664"], "found '\u0664' in row 2;"),  # an Arabic digit
        ([True, False], "in each row of column 'score' of train.csv, found 'True' in row 1;"),
        ([3, 3, 3], "expected at least two different numbers in column 'score' of train.csv, found only 3;"),
        (["3", "3.0"], "found only 3;"),
        ([1e9, 1e9 + 1e-5], "found a standard deviation of "),
        ([], "expected labels in train.csv, found no rows;"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_named_with_its_row(values, found):
    with pytest.raises(UserError) as caught:
        scale_of(values)
    assert found in str(caught.value) and "\n" not in str(caught.value)


def test_declared_classes_are_no_numbers():
    with pytest.raises(UserError, match="found the classes neg, pos; remove --data.task to predict classes"):
        scale_of([0, 1], declared=["neg", "pos"])


def test_the_training_rows_set_the_scale():
    numbers = np.array([1.0, 2.0, 2.0, 5.0])
    scale = scale_of(numbers)
    assert (scale.mean, scale.low, scale.high) == (2.5, 1, 5) and scale.deviation == numbers.std()
    targets = scale.targets(numbers)
    assert targets.dtype == np.float32
    np.testing.assert_allclose([targets.mean(), targets.std()], [0, 1], atol=1e-7)
    np.testing.assert_allclose(scale.numbers(targets), numbers, rtol=1e-6)
    assert NumberScale.from_dict(scale.as_dict()) == scale and scale.as_dict()["task"] == "regression"
    assert scale.describe() == (
        "labels: numbers in 'score', 1 to 5, mean 2.5, standard deviation 1.5; standardised inside, shown in "
        "their own unit"
    )


def test_odd_numbers_are_told(capfd):
    scale = scale_of([*range(100), 1e6])
    err = capfd.readouterr().err
    assert "1 of 101 numbers of train.csv are far from all others, such as 1,000,000 in row 101; half" in err
    scale_of([5e8, 5e8 + 1, 5e8 + 2])
    assert (
        "are 5e+08 on average and differ by 0.816 only: model/ computes in float32" in capfd.readouterr().err
    )
    scale = scale_of([1, 2, 3, 4, 5])
    assert encoded([0, 6], scale) == [0, 6] and not capfd.readouterr().err  # as another sample may have
    assert encoded([3, 80], scale) == [3, 80]
    told = (
        "1 of 2 numbers of test.csv are far outside those of training, 1 to 5: they go from 3 to 80 (row 2)"
    )
    assert told in capfd.readouterr().err


def test_one_number_in_all_rows_of_a_test_may_stand_for_hidden_labels(capfd):
    with quiet():  # of `check`, which shows no other line about numbers
        encoded([-1.0, -1.0], scale_of([0, 2, 5]))
    told = "all 2 numbers of test.csv are -1, outside those of training, 0 to 5: if it stands for labels that"
    assert told in capfd.readouterr().err
    encoded([5, 5], scale_of([0, 2, 5]))  # a test of one number that training has
    encoded([6], scale_of([0, 2, 5]))
    assert not capfd.readouterr().err


def test_another_unit_is_asked_about(capfd):
    salaries, shares = scale_of([20_000, 50_000, 90_000]), scale_of(range(101))
    encoded(np.linspace(21, 90, 20), salaries)
    told = (
        "20 of 20 numbers of test.csv are outside those of training, 20,000 to 90,000: they go from 21 to 90;"
    )
    assert told in capfd.readouterr().err
    encoded(np.linspace(0, 1, 20), shares)
    told = "20 numbers of test.csv hardly differ, 0 to 1, beside those of training, 0 to 100: are they in"
    assert told in capfd.readouterr().err
    encoded(np.linspace(0, 10, 20), shares)
    assert not capfd.readouterr().err


def test_the_line_of_large_numbers_has_no_exponents():
    assert (
        "12,000 to 250,000, mean 131,000, standard deviation 119,000;"
        in scale_of([12e3, 250000.5]).describe()
    )


def test_strata_are_quantiles():
    numbers = np.random.default_rng(0).exponential(size=1000)
    strata = NumberScale.strata(numbers)
    assert np.bincount(strata).tolist() == [100] * 10
    assert all(numbers[strata == i].max() < numbers[strata == i + 1].min() for i in range(9))
    assert NumberScale.strata(np.array([1.0, 2.0] * 50)).tolist() == [0, 1] * 50  # levels that are no more
    assert NumberScale.strata(np.arange(19.0)).tolist() == [0] * 19
    assert np.bincount(NumberScale.strata(np.r_[np.zeros(900), np.arange(1.0, 101)])).tolist() == [900, 100]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(3.0, "3"), (1234567.0, "1,234,567"), (0.123456789, "0.123457"), (-1e20, "-1e+20"), (-0.0, "0")],
        *[(3474.8, "3,474.8"), (2002.2141, "2,002.21"), (-1234567.8, "-1,234,568"), (250000.0, "250,000")],
    ],
)
def test_a_number_in_a_sentence(value, text):
    assert number_text(value) == text
