"""Leaf: how often a run is saved by the clock."""

INTERVAL_SECONDS = 300.0  # the most work that a kill without a signal costs
MOST_SHARE = 0.03  # of the time, spent on saving by the clock: a slow disk saves less often


def interval_after(save_seconds: float) -> float:
    """Seconds until the next save, where the last one took so long."""
    return max(INTERVAL_SECONDS, save_seconds / MOST_SHARE)
