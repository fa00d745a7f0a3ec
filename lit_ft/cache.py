"""Where lit_ft keeps what it can make again: the sample encoder, token ids."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$LIT_FT_CACHE`, else `$XDG_CACHE_HOME/lit_ft`, else `~/.cache/lit_ft`. Safe to delete."""
    if own := os.environ.get("LIT_FT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lit_ft"
