"""Dropout on CPUs with masks drawn in bulk."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from lit_ft import machine

LEVELS = 2**16  # values of 16 bits
AT_A_TIME = 2**20  # numbers whose bits stay in the processor's cache


def draw_mask(shape: tuple[int, ...], dropout: float) -> torch.Tensor:
    """A uint8 mask of 1 (kept) and 0; it depends on torch's generator alone.

    Args:
        shape: The mask's shape.
        dropout: The probability of 0, in (0, 1), rounded to a multiple of 1 / 65536.
    """
    seed = int(torch.empty((), dtype=torch.int64).random_())
    generator, least = np.random.SFC64(seed), np.int16(_dropped_levels(dropout) - LEVELS // 2)
    keep = np.empty(math.prod(shape), dtype=bool)
    for start in range(0, len(keep), AT_A_TIME):
        part = keep[start : start + AT_A_TIME]
        bits = generator.random_raw(-(-len(part) // 4)).view(np.int16)[: len(part)]
        np.greater_equal(bits, least, out=part)
    return torch.from_numpy(keep).view(torch.uint8).view(shape)  # bool is cast 4 times slower (torch 2.13)


def kept_share(dropout: float) -> float:
    """The exact probability of 1 in `draw_mask`."""
    return 1 - _dropped_levels(dropout) / LEVELS


def _dropped_levels(dropout: float) -> int:
    return min(max(round(dropout * LEVELS), 1), LEVELS - 1)


def drop_in_bulk(net: nn.Module) -> int:
    """Have the `torch.nn.Dropout` modules of a net on a CPU draw masks in bulk, if it pays; how many do.

    Names and weights stay as they are. Dropout that is called as a function does not change.
    """
    if torch_draws_in_parallel():
        return 0
    modules: list[Any] = [x for x in net.modules() if type(x) is nn.Dropout and not x.inplace]
    for module in modules:
        module.forward = partial(_drop, module)
    return len(modules)


def torch_draws_in_parallel() -> bool:
    """Whether torch's own masks come from MKL: the condition in ATen's DistributionKernels.cpp."""
    return torch.backends.mkl.is_available() and machine.is_intel()


def _drop(module: nn.Dropout, states: torch.Tensor) -> torch.Tensor:
    drops = module.training and 0 < module.p < 1 and states.is_floating_point() and states.numel()
    if drops and states.device.type == "cpu" and not torch.compiler.is_compiling():
        return BulkDropout.apply(states, module.p)
    return nn.functional.dropout(states, module.p, module.training)


class BulkDropout(torch.autograd.Function):
    """States times a mask, divided by the kept share."""

    @staticmethod
    def forward(ctx: Any, states, dropout):  # type: ignore[no-untyped-def]
        keep = draw_mask(tuple(states.shape), dropout)
        ctx.save_for_backward(keep)
        ctx.factor = 1 / kept_share(dropout)
        return (states * ctx.factor).mul_(keep)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        (keep,) = ctx.saved_tensors
        return (gradient * ctx.factor).mul_(keep), None
