"""How far a run is, on standard error: a bar in a terminal, elsewhere a plain line a minute.

A log file, a pipe and a dumb terminal (`TERM=dumb`) cannot redraw a line. Standard library only; tqdm is
imported when the first bar is drawn.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

TERMINAL_SECONDS, LINE_SECONDS = 0.2, 60.0  # between two refreshes of a bar, and between two lines
DELAY_SECONDS = 2.0  # what ends sooner gets no bar


def is_live(stream: TextIO) -> bool:
    """Whether a line that was written to a stream can be redrawn."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def clock(seconds: float) -> str:
    """3725 -> 1:02:05."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells of a table that is printed row by row, flush right."""
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


class Lines:
    """A stream for tqdm that makes a line of each redrawn bar, without the carriage return."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write what a bar shows; nothing if it is being removed."""
        if text := text.strip():
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def bar_settings() -> dict[str, Any]:
    """tqdm's arguments for a bar of the data, such as that of tokenising."""
    if is_live(sys.stderr):
        return {"delay": DELAY_SECONDS, "leave": False, "dynamic_ncols": True}
    # `maxinterval` is for tqdm's monitor thread; 0 columns are the figures without the bar.
    pace = {"mininterval": LINE_SECONDS, "maxinterval": LINE_SECONDS, "delay": LINE_SECONDS}
    return {**pace, "leave": False, "ncols": 0, "file": Lines(sys.stderr)}


class TimeLeft:
    """Estimates how long a run still takes, from its own pace: its steps and its evaluations.

    Args:
        total: Steps of the run.
        done: Steps that were done before, in a resumed run.
        every: Steps between two evaluations; None if there are none.
        guess: What an evaluation takes, in steps, until one was measured.
    """

    def __init__(self, total: int, done: int = 0, every: float | None = None, guess: float = 0.0) -> None:
        self._total, self._done, self._every, self._guess = total, done, every, guess
        self._first: tuple[int, float] | None = None  # the first step: it also warms up, and is not counted
        self._evaluations: list[float] = []  # seconds of each
        self._steps_took = 0.0  # from the first step's end on, without evaluations
        self._since: float | None = None

    def step(self, done: int) -> None:
        """Note that this many steps are done."""
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        elif self._since is not None:
            self._steps_took += now - self._since
        self._done, self._since = done, now

    def evaluated(self, seconds: float) -> None:
        """Note an evaluation that ended now."""
        self._evaluations.append(seconds)
        if self._since is not None:
            self._since += seconds

    def seconds(self) -> float | None:
        """The estimate; None before the second step."""
        if self._first is None or self._done == self._first[0]:
            return None
        pace = self._steps_took / (self._done - self._first[0])
        evaluation = self._guess * pace
        if self._evaluations:
            evaluation = sum(self._evaluations) / len(self._evaluations)
        return max(0, self._total - self._done) * pace + self._evaluations_left() * evaluation

    def _evaluations_left(self) -> int:
        if not self._every:
            return 0
        last, now = self._total / self._every, self._done / self._every
        return max(0, math.ceil(last - 1e-6) - math.floor(now + 1e-6))


class RunProgress:
    """The progress of a whole run, with the time that it still takes.

    Args:
        doing: What it does, such as `training`.
        total: Steps of the run.
        unit: What a step is called.
        done: Steps that were done before, in a resumed run.
        every: Steps between two evaluations; None if there are none.
        guess: What an evaluation takes, in steps, until one was measured.
    """

    def __init__(
        self,
        doing: str,
        total: int,
        unit: str = "step",
        done: int = 0,
        every: float | None = None,
        guess: float = 0.0,
    ) -> None:
        self.doing, self.total, self.unit, self.done = doing, total, unit, done
        self.left = TimeLeft(total, done, every, guess)
        self._bar: Any = None
        self._pace = LINE_SECONDS
        self._shown = time.monotonic()
        self._figures: list[str] = []
        self._evaluation: float | None = None  # when the present one began
        if is_live(sys.stderr):
            from tqdm import tqdm

            self._pace = TERMINAL_SECONDS
            self._bar = tqdm(
                total=total,
                initial=done,
                desc=doing,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
            )

    def step(self, done: int, figures: Callable[[], list[str]] = list, at_most: float | None = None) -> None:
        """Note that this many steps are done; draw if it is time.

        Args:
            done: Steps of the run so far.
            figures: What to show beside, such as `loss 0.81`; asked for only to draw.
            at_most: Seconds after which the run ends in any case.
        """
        if done != self.done:  # else a part of a step, with accumulated gradients
            self.done = done
            self.left.step(done)
        self._draw(figures, self.doing, at_most)

    def evaluating(self, batch: int, of: int) -> None:
        """Note a batch of an evaluation within the run."""
        if self._evaluation is None:
            self._evaluation = time.monotonic()
        self._draw(None, f"validating {batch}/{of}", None)

    def evaluated(self) -> None:
        """Note that the evaluation ended."""
        if self._evaluation is not None:
            self.left.evaluated(time.monotonic() - self._evaluation)
            self._evaluation = None

    def close(self) -> None:
        """Remove the bar, so that what follows starts on an empty line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _draw(self, figures: Callable[[], list[str]] | None, doing: str, at_most: float | None) -> None:
        now = time.monotonic()
        if now - self._shown < self._pace:
            return
        self._shown = now
        if figures is not None:  # of the training, which stay during an evaluation
            self._figures = figures()
        shown, left = list(self._figures), self.left.seconds()
        if left is not None:
            shown.append(f"{clock(left if at_most is None else min(left, at_most))} left")
        if self._bar is not None:
            self._bar.n = self.done
            self._bar.set_description_str(doing, refresh=False)
            self._bar.set_postfix_str(", ".join(shown), refresh=True)
            return
        share = f"{self.done / max(1, self.total):.0%}".replace("%", " %")
        place = f"{self.unit} {self.done:,} of {self.total:,} ({share})"
        print(", ".join([f"{doing}: {place}", *shown]), file=sys.stderr, flush=True)
