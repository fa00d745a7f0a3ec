"""Messages of a run to the user: one line each, by process 0 only."""

import contextlib
import functools
import logging
import shutil
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from lit_ft.errors import unwritable
from lit_ft.launcher import global_rank
from lit_ft.progress import bar_settings, is_live


def silence_libraries() -> None:
    """Show our own lines and errors, and nothing else of Lightning's."""
    silence_writer_threads()
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in ("profilers.profiler", "callbacks.model_summary", "callbacks.early_stopping"):
        # These loggers speak only if a setting asks for them by name.
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="lightning.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # torch.utils._pytree, by way of Lightning


def silence_writer_threads() -> None:
    """Keep threads from printing a traceback when the disk is full.

    TensorBoard 2.21 (event_file_writer.py) writes in a thread. It raises the error there and also in the next
    call, which ends the run with one line.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if unwritable(args.exc_value) is None:
            before(args)

    threading.excepthook = hook


_quiet = False


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence `say` and `warn`, for a command whose own output says everything."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def say(text: str) -> None:
    """One line on standard output; in a terminal that is narrower, broken between words."""
    if global_rank() == 0 and not _quiet:
        _print(text, sys.stdout)


def warn(text: str, *, always: bool = False) -> None:
    """One line on standard error, about what the user may want to fix; `always` also within `quiet`."""
    if global_rank() == 0 and (always or not _quiet):
        _print(f"warning: {text}", sys.stderr)


def width() -> int | None:
    """The columns of the terminal that shows standard output; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _print(text: str, stream: TextIO) -> None:
    """Print above the bars that are drawn at present."""
    if stream.isatty():
        columns = shutil.get_terminal_size().columns
        text = "\n".join(_broken(line, columns) for line in text.split("\n"))
    bars = sys.modules.get("tqdm") if is_live(sys.stderr) else None
    with bars.tqdm.external_write_mode(file=stream) if bars else contextlib.nullcontext():
        print(text, file=stream, flush=True)


def _broken(line: str, columns: int) -> str:
    """A line that is too long, broken between words; a path or a command stays whole, to be copied."""
    if len(line) <= columns:
        return line
    return textwrap.fill(
        line,
        columns,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


@contextlib.contextmanager
def quiet_datasets(*, bars: bool = False) -> Iterator[None]:
    """Silence the logs of `datasets`, and its bars, which it shows even for ten rows.

    With `bars` they are shown with `bar_settings`, for which datasets 5.2 has no setting.
    """
    import datasets
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, tqdm

    bar: Any = tqdm
    begin = bar.__init__

    level, disabled = datasets.logging.get_verbosity(), are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if not bars:
        disable_progress_bars()
    bar.__init__ = functools.partialmethod(begin, **bar_settings())
    try:
        yield
    finally:
        bar.__init__ = begin
        datasets.logging.set_verbosity(level)
        if not bars and not disabled:
            enable_progress_bars()
