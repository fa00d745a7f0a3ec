"""Leaf: memory that a step gives back stays with the process, for the next step to take."""

import ctypes
import platform

# glibc's malloc.h; both take an int.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed, up to blocks of 2 GiB; whether that was to be had.

    By default it hands every block above 32 MiB back to the system at once. A training step takes and frees
    hundreds of these, and the system has to find and clear each page anew: page faults then cost more than
    the arithmetic (docs/performance.md). What a process holds at most stays about the same. torch's memory
    on a GPU is none of glibc's.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_THRESHOLD, MOST) and mallopt(M_TRIM_THRESHOLD, MOST))
