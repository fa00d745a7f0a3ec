"""How many steps of a run may be skipped because their loss or gradient is not finite."""

# Weights that are no numbers any more spoil every step that follows. And where more than one step in a
# hundred is left out, neither the schedule nor the figures are those that were asked for.
MOST_IN_A_ROW = 5
MOST_SHARE, MOST_IN_A_SHORT_RUN = 0.01, 10


class Skips:
    """Counts the steps that are left out.

    Attributes:
        count: In the whole run.
        in_a_row: Since the last step that was sound.
    """

    def __init__(self) -> None:
        self.count = 0
        self.in_a_row = 0

    def add(self, num_training_steps: int) -> bool:
        """Count one more; whether a run of that many steps may go on."""
        self.count += 1
        self.in_a_row += 1
        most = max(MOST_IN_A_SHORT_RUN, int(num_training_steps * MOST_SHARE))
        return self.count <= most and self.in_a_row <= MOST_IN_A_ROW

    def __str__(self) -> str:
        return f"the {self.count} steps so far that were no numbers, {self.in_a_row} in a row, are too many"
