"""The order in which TensorBoard reads the event files of a run."""

import time
from pathlib import Path


def wait_for_turn(folder: Path) -> None:
    """Wait, for a second at most, until a new event file will be read after those that are there.

    TensorBoard reads a folder's files in the order of their names: first the second of their start, then the
    host, the process and a count, all as text (`tensorboard.summary.writer.event_file_writer`). Of two that
    began within one second the file of the resumed run may come first; what it should hide would be shown.
    """
    now = time.time()
    if list(folder.glob(f"events.out.tfevents.{int(now):010d}.*")):
        time.sleep(int(now) + 1 - now)
