"""Dropout of hidden states on CPUs, with masks drawn in bulk.

torch 2.13 draws a mask on the CPU one number at a time, and keeps it in the type of the states. Drawn as in
`dropout_mask.py` it takes a tenth of the time, and one byte a number. Under the same mask, outputs and
gradients are those of `torch.nn.Dropout`, but for the probability's rounding to 16 bits
(tests/test_bulk_dropout.py). On Intel's processors torch has MKL draw, in parallel, and nothing is changed.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from lit_ft import machine
from lit_ft.dropout_mask import draw_mask, kept_share


def drop_in_bulk(net: nn.Module) -> int:
    """Have a net's `torch.nn.Dropout` modules draw their masks so, where it pays; how many do.

    Names and weights stay as they are. Dropout that is called as a function is not touched.

    Args:
        net: Any, on a CPU.
    """
    if torch_draws_in_parallel():
        return 0
    modules: list[Any] = [x for x in net.modules() if type(x) is nn.Dropout and not x.inplace]
    for module in modules:
        module.forward = partial(_drop, module)
    return len(modules)


def torch_draws_in_parallel() -> bool:
    """Whether torch's own masks come from MKL (ATen's DistributionKernels.cpp asks the same)."""
    return torch.backends.mkl.is_available() and machine.is_intel()


def _drop(module: nn.Dropout, states: torch.Tensor) -> torch.Tensor:
    drops = module.training and 0 < module.p < 1 and states.is_floating_point() and states.numel()
    if drops and states.device.type == "cpu" and not torch.compiler.is_compiling():
        return BulkDropout.apply(states, module.p)
    return nn.functional.dropout(states, module.p, module.training)


class BulkDropout(torch.autograd.Function):
    """States times a mask, over the share that is kept."""

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
