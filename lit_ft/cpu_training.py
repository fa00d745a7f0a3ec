"""What training on CPUs changes in a process and in a net, and nothing else does.

By default glibc gives every block above 32 MiB, and whatever lies at the heap's end, back to the system at
once, which must clear each page anew for the next step: a tenth of a step's time (docs/performance.md).
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
# Whoever sets one of these has chosen an allocator, or how it keeps memory.
OWN_SETTINGS = (
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "GLIBC_TUNABLES",
    "LD_PRELOAD",
)


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
    """Have glibc keep freed memory for the rest of this process; whether it does.

    A process then holds what its largest step took. Without glibc, with another allocator or with settings of
    one's own nothing is changed.
    """
    if sys.platform != "linux" or any(name in os.environ for name in OWN_SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(name, value) for name, value in KEEP.items()])
