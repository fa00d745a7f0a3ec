"""What a run says to the person who started it: on the first process only, one line a message."""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator

from lit_ft.__main__ import unwritable


def global_rank() -> int:
    """This process among all of the run, as torchrun, SLURM or Lightning's launcher say."""
    for variable in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if value := os.environ.get(variable):
            return int(value)
    return 0


def silence_libraries() -> None:
    """Leave our own lines, errors, and nothing of Lightning's chatter."""
    silence_writer_threads()
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch.utils._pytree, by way of Lightning


def silence_writer_threads() -> None:
    """Keep a full disk that a thread meets from printing a traceback there.

    TensorBoard 2.21 (event_file_writer.py) writes in a thread, keeps its error for the next call, and raises
    it in the thread, too. The call ends the run with one line.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if unwritable(args.exc_value) is None:
            before(args)

    threading.excepthook = hook


_quiet = False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what `say` and `warn` print, for a command whose own output says it all."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def say(text: str) -> None:
    """One line on standard output."""
    if global_rank() == 0 and not _quiet:
        print(text, flush=True)


def warn(text: str) -> None:
    """One line on standard error, for what the user may want to mend."""
    if global_rank() == 0 and not _quiet:
        print(f"warning: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet_datasets(*, bars: bool = False) -> Iterator[None]:
    """Without the library's log lines, and without its bars, which it shows for ten rows as for a million."""
    import datasets
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    level, disabled = datasets.logging.get_verbosity(), are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not bars:
        disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if not bars and not disabled:
            enable_progress_bars()
