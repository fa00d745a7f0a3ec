"""Decisions from probabilities, by hand and by what each of them promises."""

import numpy as np
import pytest

from lit_ft.tasks import DECISIONS, decided


@pytest.mark.parametrize(
    ("probabilities", "mode", "median", "mean"),
    [
        ([0.1, 0.2, 0.6, 0.1], 2, 2, 2),  # 0.1, 0.3, 0.9 reach a half at class 2; expected class 1.7
        ([0.45, 0.0, 0.0, 0.55], 3, 3, 2),  # two camps: 1.65 is nearest to a class that nobody expects
        ([0.4, 0.15, 0.15, 0.3], 0, 1, 1),  # 0.4, 0.55; 1.35
        ([0.4, 0.4, 0.2, 0.0], 0, 1, 1),  # of equally likely ones the first; 0.4, 0.8; 0.8
        ([0.5, 0.0, 0.0, 0.5], 0, 0, 1),  # all of 0 to 3 are at the same distance; 1.5 lies between 1 and 2
        ([0.2, 0.3, 0.0, 0.5], 3, 1, 2),  # 0.2 + 0.3 is a half; 1.8
        ([0.1, 0.1, 0.1, 0.7], 3, 3, 2),  # 2.4
        ([0.25, 0.25, 0.25, 0.25], 0, 1, 1),  # 1.5
        ([1.0, 0.0, 0.0, 0.0], 0, 0, 0),
        ([0.0, 0.0, 0.0, 1.0], 3, 3, 3),
        ([np.nan] * 4, 0, 0, 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_decided_by_hand(probabilities, mode, median, mean, dtype):
    rows = np.array([probabilities, [1, 0, 0, 0]], dtype)
    for how, expected in {"mode": mode, "median": median, "mean": mean}.items():
        found = decided(rows, how)
        assert found.tolist() == [expected, 0] and found.dtype == np.int64, how
        assert decided(rows[:0], how).shape == (0,)


def test_each_decision_costs_the_least_of_its_kind():
    rows = np.random.default_rng(0).dirichlet(np.full(6, 0.4), 500)
    away = np.abs(np.arange(6)[:, None] - np.arange(6))  # between an answer and a label
    costs = {"mode": away > 0, "median": away, "mean": away**2}
    assert costs.keys() == DECISIONS.keys()
    for how, cost in costs.items():
        expected = rows @ cost  # of each answer, (N, C)
        taken = expected[np.arange(len(rows)), decided(rows, how)]
        np.testing.assert_allclose(taken, expected.min(1), atol=1e-5)
    answers = [decided(rows, how) for how in costs]
    assert all((a != b).any() for a, b in zip(answers, answers[1:], strict=False))
