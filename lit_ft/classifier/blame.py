"""Whose error ends a run. One in what the user gave the Trainer, or of Lightning's own checks, is one line.

Our own errors keep their traceback. The innermost frame that belongs to a callback, logger or plugin of the
user's, or to this package, decides. Without one, what Lightning raises is about its settings.
"""

import contextlib
import itertools
import linecache
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
from lightning import Callback
from lightning.fabric.utilities.exceptions import MisconfigurationException

from lit_ft.errors import UserError, chain, unwritable
from lit_ft.reliability.memory import is_out_of_memory

OURS, LIGHTNING = Path(__file__).parents[1], Path(lightning.__file__).parent
# torch 2.13, csrc/autograd/python_anomaly_mode.cpp and aten/src/ATen/Context.cpp
SETTINGS = {
    "trainer.detect_anomaly": re.compile("returned nan values in its"),
    "trainer.deterministic": re.compile("does not have a deterministic|CUBLAS_WORKSPACE_CONFIG"),
}


@contextlib.contextmanager
def told(given: Sequence[Any]) -> Iterator[None]:
    """Around a call of the Trainer: one `UserError` if the error is not ours.

    Args:
        given: The user's callbacks, loggers and plugins.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        line = None if is_out_of_memory(error) or unwritable(error) else blamed(error, given)
        if line is None:
            raise
        raise UserError(line) from error


def blamed(error: BaseException, given: Sequence[Any]) -> str | None:
    """The line for an error out of the Trainer; None if the error is ours, or nobody's."""
    for setting, words in SETTINGS.items():
        if words.search(str(error)):
            return f"{setting} ends the run: {_text(error)}"
    frames = list(itertools.dropwhile(lambda place: not _is_in(LIGHTNING, place[0]), _frames(error)))
    for number, (frame, _) in reversed(list(enumerate(frames))):
        owner = frame.f_locals.get("self")
        if any(owner is thing for thing in given):
            return f"{_name(owner, frames[number:])}: {_text(error)}"
        own_callback = isinstance(owner, Callback) and type(owner).__module__.startswith("lit_ft.")
        if own_callback or _is_in(OURS, frame):
            return None
    return f"trainer settings: {_text(error)}" if is_check(error) else None


def is_check(error: BaseException) -> bool:
    """Whether Lightning raised this on purpose: then the line of code is a `raise`."""
    frame, line = _frames(error)[-1]
    statement = linecache.getline(frame.f_code.co_filename, line).strip()
    return _is_in(LIGHTNING, frame) and statement.startswith("raise")


def of_class(error: BaseException) -> UserError | None:
    """One line if a class that a setting names could not be made; None if the class is ours."""
    *_, first = chain(error, suppressed=True)  # jsonargparse's own message lists all that it tried
    for frame, _ in reversed(_frames(first)):
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "__init__" and owner is not None:
            ours = type(owner).__module__.startswith("lit_ft.")
            return None if ours else UserError(f"trainer settings: {type(owner).__name__}: {_text(first)}")
    return None


def _frames(error: BaseException) -> list[tuple[FrameType, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def _is_in(folder: Path, frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).is_relative_to(folder)


def _name(owner: Any, frames: Sequence[tuple[FrameType, int]]) -> str:
    """The class; for the user's own also the line in its file that raised the error, or led to it."""
    kind = type(owner)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    lines = [line for frame, line in frames if frame.f_code.co_filename == file]
    theirs = file is not None and Path(file).is_relative_to(LIGHTNING)
    return kind.__name__ if theirs or not lines else f"{kind.__name__} ({file}, line {lines[-1]})"


def _text(error: BaseException) -> str:
    """The message; with the class of the error if the message says little, as in a KeyError."""
    text = " ".join(str(error).split())
    plain = isinstance(error, (RuntimeError, ValueError, TypeError, ImportError, MisconfigurationException))
    return text if plain and text else f"{type(error).__name__} {text}".strip()
