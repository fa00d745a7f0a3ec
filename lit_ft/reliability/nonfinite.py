"""Optimizer steps with a non-finite loss or gradient: skipped within bounds, or the run ends in one line."""

from typing import Any

from lit_ft.console import warn
from lit_ft.errors import UserError

# Once weights are NaN, every later step is, too. And if more than 1 % of the steps are skipped, neither the
# schedule nor the figures are those that were asked for.
MOST_IN_A_ROW = 5
MOST_SHARE, MOST_IN_A_SHORT_RUN = 0.01, 10


class NonFiniteSteps:
    """Decides what a run does about a non-finite step, and counts those that it skipped.

    Args:
        policy: `stop`, or `skip` for as many steps as the bounds above allow.

    Attributes:
        count: Skipped steps of the whole run.
        in_a_row: Skipped steps since the last finite one.
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.count = 0
        self.in_a_row = 0

    def may_skip(self, step: int, what: str, where: str, num_training_steps: int) -> bool:
        """Count a step and say in one line that it is skipped; false if the run has to end instead.

        Args:
            step: The optimizer steps before it.
            what: What is not finite, with its value.
            where: The step's rows, in words.
            num_training_steps: The steps of the whole run.
        """
        if self.policy == "stop":
            return False
        self.count += 1
        self.in_a_row += 1
        most = max(MOST_IN_A_SHORT_RUN, int(num_training_steps * MOST_SHARE))
        if self.count > most or self.in_a_row > MOST_IN_A_ROW:
            return False
        warn(f"step {step} is skipped: {what} in {where}")
        return True

    def error(self, what: str, checkpoint: Any, advice: str, where: str = "") -> UserError:
        """The line that a run ends with.

        Args:
            what: What is not finite, with its value and its place in the run.
            checkpoint: The newest one from before it, if any.
            advice: What to change.
            where: The step's rows, in words; empty for a validation, which nothing skips.
        """
        parts = [f"{what}, in {where}" if where else what]
        if where and self.in_a_row:
            many = f"{self.count} non-finite steps so far, {self.in_a_row} in a row"
            parts.append(f"{many}, are too many to skip")
        saved = "no earlier checkpoint was saved"
        if checkpoint:
            saved = f"the last good checkpoint is {checkpoint}"
        hint = ", or skip such steps with --on_nonfinite=skip" if where and self.policy == "stop" else ""
        return UserError("; ".join([*parts, saved, advice + hint]))
