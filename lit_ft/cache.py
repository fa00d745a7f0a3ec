"""Where lit_ft keeps what it can make again: the sample encoder, token ids."""

import os
from pathlib import Path

from lit_ft.errors import UserError


def cache_dir() -> Path:
    """`$LIT_FT_CACHE`, else `$XDG_CACHE_HOME/lit_ft`, else `~/.cache/lit_ft`. Safe to delete."""
    if own := os.environ.get("LIT_FT_CACHE"):
        return Path(os.path.expanduser(own))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lit_ft"


def make_cache(folder: Path) -> None:
    """Make a folder inside `cache_dir`.

    Raises:
        UserError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"expected a cache folder that can be written, found {cache_dir()} ({error}); set the "
            "environment variable LIT_FT_CACHE=FOLDER to another one"
        ) from error
