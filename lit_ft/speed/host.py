"""What training on a CPU sets for the process, and copies that the host does not wait for."""

import ctypes
import os
import sys

import torch

# glibc's malloc.h and mallopt(3): parameter -> value.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
KEEP = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}


def prepare(device: torch.device) -> None:
    """Keep freed memory if this process trains on a CPU."""
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the rest of this process; whether it does.

    The process then holds at least what its largest step took. Nothing changes without glibc, or if the
    environment chooses an allocator (`LD_PRELOAD`) or its settings (`MALLOC_...`, `GLIBC_TUNABLES`).
    """
    if sys.platform != "linux" or _has_own_settings():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all([mallopt(name, value) for name, value in KEEP.items()])


def _has_own_settings() -> bool:
    given = os.environ
    tuned = "glibc.malloc" in given.get("GLIBC_TUNABLES", "") or any(x.startswith("MALLOC_") for x in given)
    return tuned or bool(given.get("LD_PRELOAD"))


class OnItsWay:
    """A non-blocking copy from a GPU to the host.

    Args:
        tensor: A tensor on a CUDA GPU. One on another device is not copied, and reading it may block.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor, self._event = tensor, None
        if tensor.is_cuda:
            host = torch.empty_like(tensor, device="cpu", pin_memory=True)
            self._tensor = host.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def is_here(self) -> bool:
        """Whether it has arrived."""
        return self._event is None or self._event.query()

    def wait(self) -> torch.Tensor:
        """Wait for the tensor."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor
