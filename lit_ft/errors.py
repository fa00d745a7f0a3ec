"""The exception that means "the user can fix this", and errors of the system as one line."""

import contextlib
import errno
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST_LETTERS = 900  # of an error; file names and values can have millions


class UserError(ValueError):
    """A mistake in the user's input, settings or surroundings.

    `__main__` prints its text as one line after `lit_ft: error:` and exits with code 2, without a
    traceback. The text says what was expected, what was found (with the value), and the fix as a flag.
    Any other exception is our bug and keeps its traceback.
    """


class NoRows(UserError):
    """A file without rows, with at most a header; `predict` then writes a header only."""


def chain(error: BaseException | None, suppressed: bool = False) -> Iterator[BaseException]:
    """An error and its causes, each once: an error that is raised again can be its own cause.

    Args:
        error: The outermost error.
        suppressed: Whether to include causes that `raise ... from None` hides.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        hidden = error.__suppress_context__ and not suppressed
        error = error.__cause__ or (None if hidden else error.__context__)


def as_user_error(error: Exception) -> UserError:
    """The Trainer's own complaint about its arguments, as one line."""
    if isinstance(error, UserError):
        return error
    missing = "gpu backend" in str(error) or "accelerator is not available" in str(error)
    advice = "; set --trainer.accelerator=auto, or cpu" if missing else ""
    return UserError(f"trainer settings: {str(error).rstrip('.!') if missing else error}{advice}")


def first_line(error: BaseException) -> str:
    """The first line of a library's message, in at most 160 characters."""
    line = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split()).rstrip(".:")
    return shorten(line, 160)


def one_line(text: str) -> str:
    """A message as one line that any terminal shows as it is.

    File names, values and texts can contain line breaks, escape sequences, marks that reverse the writing
    direction, or half of a surrogate pair: what cannot be printed is escaped, such as `\\x1b`. A very long
    message loses its middle.
    """
    joined = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[: MOST_LETTERS - 305]} ... {shown[-300:]}"


def as_written(value: object) -> str:
    """A setting's value in a message; in quotes if it would not be seen there, as a line break."""
    return repr(value) if isinstance(value, str) and value.strip() != value or value == "" else str(value)


@contextlib.contextmanager
def unusable(what: str, advice: str) -> Iterator[None]:
    """Turns any error of a library about a damaged or foreign file into one `UserError`.

    Use it only around calls that just read that file. Such files fail in so many ways (KeyError, TypeError,
    torch's, safetensors' and tokenizers' own errors) that no list of exceptions covers them.

    Args:
        what: The file and what it should be, such as `the checkpoint last.ckpt`.
        advice: What to do, such as `set --ckpt_path to another one`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, not of the content
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{what} cannot be used ({reason}); {advice}") from error


def exit_code_of(call: Callable[[], int]) -> int:
    """Run a command, and end what the user can mend, and an interruption, in one line and an exit code."""
    try:
        code = call()
        sys.stdout.flush()  # here, where a closed pipe is handled, not while Python exits
        return code
    except UserError as ex:
        return _fail(str(ex))
    except KeyboardInterrupt:
        sys.stderr.write("\nlit_ft: interrupted\n")
        return 130
    except BrokenPipeError:  # `lit_ft ... | head`: nobody reads what Python would flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError as ex:
        return _fail(f"the machine's memory ran out ({ex or 'in Python'}); use less data or a smaller model")
    except Exception as ex:
        problem = unwritable(ex)
        if problem is None:
            raise
        return _fail(problem)


def _fail(message: str) -> int:
    """One line on stderr, and the exit code of a mistake."""
    sys.stderr.write(f"{MISTAKE}{one_line(message)}\n")
    return 2


MISTAKE = "lit_ft: error: "  # how the line of a mistake begins
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
UNWRITABLE |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}

# torch 2.13, caffe2/serialize/inline_container.cc, while writing
CUT_SHORT = ("] . unexpected pos ", "PytorchStreamWriter failed writing")


def unwritable(ex: BaseException | None) -> str | None:
    """One line if the cause of `ex` is a full disk or a forbidden path, else None."""
    was_cut_short = False
    for link in chain(ex):
        if isinstance(link, OSError) and link.errno in UNWRITABLE:
            where = f": {link.filename}" if link.filename else f", working in {Path.cwd()}"
            return f"{link.strerror or os.strerror(link.errno)}{where}"
        if "(os error 28)" in str(link):  # safetensors 0.8 writes in Rust and raises its own error
            return f"No space left on device, working in {Path.cwd()}: {link}"
        # After a short write torch.save complains about the archive's end. Given a file instead of a path, it
        # keeps the system's own error as the cause.
        was_cut_short |= isinstance(link, RuntimeError) and any(words in str(link) for words in CUT_SHORT)
    return f"No space left on device, working in {Path.cwd()}" if was_cut_short else None


def shorten(text: str, most: int = 40) -> str:
    """The text, or its beginning and three dots; no accent, vowel sign or part of an emoji is cut off."""
    if len(text) <= most:
        return text
    end = max(most - 3, 0)
    for last in range(end, max(end - MOST_JOINED, 0), -1):
        if not _joined(text, last):
            return text[:last] + "..."
    return text[:end] + "..."


MOST_JOINED = 12  # characters of one that is seen; more are no writing


def _joined(text: str, place: int) -> bool:
    """Whether the characters before and at this place are seen as one: Thai, Khmer, an emoji of several."""
    before, at = text[place - 1], text[place]
    if before.isascii() and at.isascii():
        return False
    sign = unicodedata.category(at).startswith("M") or at in JOINERS or "\U0001f3fb" <= at <= "\U0001f3ff"
    # After a virama, such as Khmer's coeng, the next letter stands below.
    return sign or before == ZERO_WIDTH_JOINER or unicodedata.combining(before) == 9


ZERO_WIDTH_JOINER = "\u200d"
JOINERS = (ZERO_WIDTH_JOINER, "\u0e33", "\u0eb3")  # Thai and Lao AM, which are letters in Unicode


def quoted(names: Iterable[str], most: int = 12) -> str:
    """The names in quotes, separated by commas, short enough for one line."""
    shown = [f"'{shorten(name)}'" for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def rows_in_words(rows: "Sequence[int] | np.ndarray", most: int = 3) -> str:
    """`row 4`, `rows 4 and 9`, or the first `most` and how many more."""
    shown = [f"{row:,}" for row in rows[:most]]
    if (more := len(rows) - len(shown)) > 0:
        return f"rows {', '.join(shown)} and {more:,} more"
    return f"row {shown[0]}" if len(shown) == 1 else f"rows {', '.join(shown[:-1])} and {shown[-1]}"
