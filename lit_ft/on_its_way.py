"""Leaf: a tensor on its way from a CUDA GPU to the host, while the GPU goes on."""

import torch


class OnItsWay:
    """A copy that has been asked for, and nobody has to wait for.

    Args:
        tensor: On a CUDA GPU; from other devices it is not copied, and who reads it waits.
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
        """The tensor, once it has arrived."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor
