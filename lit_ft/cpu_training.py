"""What a net gets, and the process, where a run trains on CPUs.

By default glibc gives large blocks, and what grows too large at the heap's end, back to the system when they
are freed, which must clear each page anew for the next step: a tenth of a step's time (docs/performance.md).
"""

import ctypes
import os
import sys

import torch
from torch import nn

from lit_ft.bulk_dropout import drop_in_bulk

# glibc's malloc.h and mallopt(3): parameter -> value.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
KEEP = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}


def prepare(net: nn.Module, device: torch.device) -> None:
    """Keep freed memory, and draw dropout masks in bulk, for a net that trains on a CPU.

    Args:
        net: Any.
        device: That it trains on; but for a CPU nothing is changed.
    """
    if device.type == "cpu":
        drop_in_bulk(net)
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the rest of this process; whether it was told so.

    A process then holds at least what its largest step took. Nothing is changed without glibc, nor where the
    environment chooses an allocator (`LD_PRELOAD`) or how it keeps memory (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    if sys.platform != "linux" or _has_own_settings():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(name, value) for name, value in KEEP.items()])


def _has_own_settings() -> bool:
    given = os.environ
    tuned = "glibc.malloc" in given.get("GLIBC_TUNABLES", "") or any(x.startswith("MALLOC_") for x in given)
    return tuned or bool(given.get("LD_PRELOAD"))
