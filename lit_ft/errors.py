"""The one exception that means "the user can mend this", and errors of the system as one line."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST_LETTERS = 900  # of an error; file names and values can have millions


class UserError(ValueError):
    """A mistake in the user's input, settings or surroundings.

    `__main__` prints its text as one line after `lit_ft: error:` and exits with code 2, without a
    traceback. The text says what was expected, what was found (with the value), and the fix as a flag.
    Any other exception is a bug of ours and keeps its traceback.
    """


class NoRows(UserError):
    """A file that has a header, at most, and no row: `predict` writes a header then."""


def chain(error: BaseException | None, suppressed: bool = False) -> Iterator[BaseException]:
    """An error and those behind it, each once: one that is raised again may lead back to itself.

    Args:
        error: The outermost.
        suppressed: Whether to follow what `raise ... from None` has hidden.
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
    """What a library's message says first, in at most 160 characters."""
    line = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split()).rstrip(".:")
    return shorten(line, 160)


def one_line(text: str) -> str:
    """A message as one line that any terminal shows as it is.

    File names, values and texts may hold line breaks, escape sequences, marks that turn the writing round, or
    half of a surrogate pair: what cannot be printed is escaped, such as `\\x1b`. Of a very long one the
    middle is left out.
    """
    joined = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[: MOST_LETTERS - 305]} ... {shown[-300:]}"


@contextlib.contextmanager
def unusable(what: str, advice: str) -> Iterator[None]:
    """Turns whatever a library raises over a file that is not as it should be into one `UserError`.

    Only around calls that do nothing but read that file: a damaged or foreign one fails in ways without end
    (KeyError, TypeError, torch's, safetensors' and tokenizers' own), which no list of exceptions covers.

    Args:
        what: The file and what it should be, such as `the checkpoint last.ckpt`.
        advice: How to go on, such as `set --ckpt_path to another one`.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the content
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{what} cannot be used ({reason}); {advice}") from error


UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
UNWRITABLE |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}

# torch 2.13, caffe2/serialize/inline_container.cc, while writing
CUT_SHORT = ("] . unexpected pos ", "PytorchStreamWriter failed writing")


def unwritable(ex: BaseException | None) -> str | None:
    """One line for a full disk or a forbidden path that is behind `ex`, else None."""
    was_cut_short = False
    for link in chain(ex):
        if isinstance(link, OSError) and link.errno in UNWRITABLE:
            where = f": {link.filename}" if link.filename else f", working in {Path.cwd()}"
            return f"{link.strerror or os.strerror(link.errno)}{where}"
        if "(os error 28)" in str(link):  # safetensors 0.8 writes in Rust and raises its own error
            return f"No space left on device, working in {Path.cwd()}: {link}"
        # After a short write torch.save complains of the archive's end; given a file and not a path, it keeps
        # the system's own error behind that.
        was_cut_short |= isinstance(link, RuntimeError) and any(words in str(link) for words in CUT_SHORT)
    return f"No space left on device, working in {Path.cwd()}" if was_cut_short else None


def shorten(text: str, most: int = 40) -> str:
    """The text, or its beginning and three dots."""
    return text if len(text) <= most else text[: most - 3] + "..."


def quoted(names: Iterable[str], most: int = 12) -> str:
    """The names in quotes with commas between, short enough for one line."""
    shown = [f"'{shorten(name)}'" for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def rows_in_words(rows: "Sequence[int] | np.ndarray", most: int = 3) -> str:
    """`row 4`, `rows 4 and 9`, or the first `most` and how many more."""
    shown = [f"{row:,}" for row in rows[:most]]
    if (more := len(rows) - len(shown)) > 0:
        return f"rows {', '.join(shown)} and {more:,} more"
    return f"row {shown[0]}" if len(shown) == 1 else f"rows {', '.join(shown[:-1])} and {shown[-1]}"
