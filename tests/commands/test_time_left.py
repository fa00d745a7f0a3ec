"""What `repeat` says of the time that is left."""

from lit_ft.commands.repeat import time_left


def test_the_time_left_is_that_of_runs_on_the_same_share():
    """Runs on a few texts take their time to start, too, so that a share of 0.01 is no hundredth."""
    took = [(1.0, 16.0), (1.0, 14.0)]
    assert time_left(took, [1.0, 1.0], 2) == "about 0:15"
    assert time_left(took, [1.0, 0.3, 0.01], 1) == "at most 0:45"
    assert time_left([*took, (0.3, 10.0)], [0.3, 0.01], 1) == "at most 0:20"
    assert time_left([*took, (0.3, 10.0), (0.01, 8.0)], [0.3, 0.01], 1) == "about 0:18"
