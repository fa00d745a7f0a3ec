"""The clock of a benchmark: what a recipe's steps compute, and how long they take, after the first ones."""

import math
import resource
import time
from dataclasses import dataclass
from typing import Any

WARM_UP_STEPS = 5


class Enough(Exception):
    """Ends a run that has been measured for long enough."""


class Moment:
    """A point in time; on a GPU, an event behind the work queued so far, so that the steps need not wait.

    Args:
        wait: Synchronise with the GPU first.
    """

    def __init__(self, wait: bool = False) -> None:
        import torch

        self.event = None
        if torch.cuda.is_available():
            if wait:
                torch.cuda.synchronize()
            self.event = torch.cuda.Event(enable_timing=True)
            self.event.record()
        self.host = time.perf_counter()

    def since(self, other: "Moment") -> float:
        """Seconds."""
        if self.event is None or other.event is None:
            return self.host - other.host
        self.event.synchronize()
        return other.event.elapsed_time(self.event) / 1_000


def page_faults() -> int:
    """Minor page faults of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@dataclass
class Clock:
    """Counts what the steps of one run compute, after the warm-up.

    Args:
        seconds: Length of the measurement; by default until the run ends by itself.
        steps: Least number of steps to measure.
        warm_up: Number of steps before the measurement.
    """

    seconds: float = math.inf
    steps: int = 1
    warm_up: int = WARM_UP_STEPS
    done: int = 0
    tokens: Any = 0  # real ones; on a GPU counted there, as the squares are
    computed: int = 0  # with padding
    faults_before: int = 0  # page faults up to the start
    faults: int = 0  # since then, up to the last step: Lightning brings a model back from the GPU after it
    squares: Any = 0  # of the texts' lengths
    begun: Moment | None = None
    ended: Moment | None = None  # the last step: what a run does after it does not count
    # If every text is padded to the cap, a step costs the same whatever its texts are, and a window holds few
    # of them. So the mean length and mean square over the whole file are counted instead.
    mean_row: tuple[float, float] | None = None

    def start(self) -> None:
        """Begin the measurement."""
        self.begun, self.faults_before = Moment(wait=True), page_faults()

    def step(self, attention_mask: Any, computed: int | None = None) -> None:
        """A step has ended whose batch had this mask (B, T); raises Enough after the last.

        Args:
            attention_mask: 1 for real tokens.
            computed: Tokens that the step computes, if not all of the mask.
        """
        self.done += 1
        if self.done < self.warm_up:
            return
        if self.done == self.warm_up or self.begun is None:
            return self.start()
        self.ended, self.faults = Moment(), page_faults() - self.faults_before
        if self.mean_row:
            tokens, squares = (len(attention_mask) * x for x in self.mean_row)
        else:
            lengths = attention_mask.sum(1)
            tokens, squares = lengths.sum(), (lengths**2).sum()
        self.tokens = self.tokens + tokens
        self.squares = self.squares + squares
        self.computed += computed or attention_mask.numel()
        if self.ended.host - self.begun.host >= self.seconds and self.done >= self.warm_up + self.steps:
            raise Enough

    def figures(self) -> dict[str, float]:
        """The results, as JSON for the parent process."""
        from lit_ft.machine import peak_memory_gb

        if self.begun is None or self.ended is None:
            raise SystemExit(f"the run ended by itself after {self.done} steps, {self.warm_up} to warm up")
        seconds = self.ended.since(self.begun)
        return {
            "tokens_per_second": float(self.tokens) / seconds,
            "real_share": float(self.tokens) / self.computed,
            "peak_bytes": peak_memory_gb() * 1e9,
            "page_faults_per_second": self.faults / seconds,
            "squares_per_second": float(self.squares) / seconds,
            "steps": self.done - self.warm_up,
        }
