"""SIGTERM, SIGINT and a cluster's own signal: noted, agreed on by all processes, handed back at the end."""

import signal
from types import FrameType
from typing import Any

import torch

from lit_ft.reliability.processes import largest

# What a second signal does.
DEFAULTS: dict[int, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
RESUME = "resume with the same command and --ckpt_path last"


class Signals:
    """Notes the first signal, so that a run can stop after its step; a second one ends the process at once.

    Attributes:
        received: The number of the signal that this process got, 0 before.
        agreed: The number that all processes know, 0 before.
        previous: Signal number -> the handler that `take_over` replaced.
    """

    def __init__(self) -> None:
        self.received = 0
        self.agreed = 0
        self.previous: dict[int, Any] = {}

    def take_over(self, *more: int) -> None:
        """Handle SIGTERM, SIGINT and `more` from now on."""
        self.previous = {number: signal.signal(number, self.receive) for number in (*DEFAULTS, *more)}

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """The handler."""
        self.received = number
        for other, handler in DEFAULTS.items():
            signal.signal(other, handler)

    def agree(self, device: torch.device, world_size: int) -> bool:
        """Whether any process got a signal. All processes call this.

        A signal reaches the processes at different steps. One that stopped alone would leave the others
        waiting for its gradients.
        """
        self.agreed = self.agreed or largest(self.received, device, world_size)
        return self.agreed != 0

    def give_back(self) -> None:
        """Restore the handlers; after a signal the defaults, so that the next one ends the process."""
        for number, handler in self.previous.items():
            signal.signal(number, DEFAULTS.get(number, handler) if self.agreed else handler)

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, such as 143 for SIGTERM and 130 for SIGINT; 0 without a signal."""
        return 128 + self.agreed if self.agreed else 0

    def stopped(self, step: int, saved: str, advice: str = RESUME) -> str:
        """The line of a run that a signal has stopped."""
        return f"stopped by {signal.Signals(self.agreed).name} at step {step}, {saved}; {advice}"


def interrupted(step: int, checkpoint: Any) -> str:
    """The line of a run that a KeyboardInterrupt ends at once, with its newest checkpoint, if any."""
    left = f"resume from {checkpoint} with --ckpt_path last" if checkpoint else "no checkpoint was saved yet"
    return f"interrupted at step {step}; {left}"
