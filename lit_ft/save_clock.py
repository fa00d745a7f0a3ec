"""Leaf: how often a run is saved by the clock."""

import time

INTERVAL_SECONDS = 300.0  # the most work that a kill without a signal costs
MOST_SHARE = 0.03  # of the time, spent on saving by the clock: a slow disk saves less often


class SaveClock:
    """Says when the last save is too old; it begins anew with each, and asks for slow ones less often."""

    def __init__(self) -> None:
        self.interval = INTERVAL_SECONDS
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._saved_at >= self.interval

    def saved(self, begun: float) -> None:
        """A save has ended that began then, in seconds of `time.monotonic`."""
        self.restart()
        self.interval = max(INTERVAL_SECONDS, (self._saved_at - begun) / MOST_SHARE)
