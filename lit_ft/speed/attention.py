"""Attention for training on CPUs: a few heads at a time, in buffers that stay in the processor's cache."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lit_ft.console import warn
from lit_ft.machine import cpu_multiplies_bfloat16
from lit_ft.speed import varlen

NAME = "sdpa_in_pieces"  # among transformers' attention implementations
DTYPES = (torch.float32, torch.bfloat16)
native_bfloat16 = cache(cpu_multiplies_bfloat16)


def attend_in_pieces(net: PreTrainedModel) -> bool:
    """Have a model on torch's scaled_dot_product_attention train with `attend`; whether it now does.

    What `attend` does not support, such as evaluation and GPUs, still uses the stock function.
    """
    if net.config._attn_implementation != "sdpa":
        return False
    if softmax_backward is None:
        warn(f"torch {torch.__version__} has no aten._softmax_backward_data: training on CPUs is slower")
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    net.set_attn_implementation(NAME)  # only logs if a model doesn't support it
    return net.config._attn_implementation == NAME


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' `sdpa_attention_forward`: query (B, H, Q, D), others (B, H, K, D) -> (B, Q, H, D)."""
    if kwargs.get("cu_seq_lens_q") is not None:  # one row of many sequences: unpadded.py
        return varlen.attend_sequences(query, key, value, dropout, scaling, kwargs), None
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    states = (query, key, value)
    known = (
        all(x.device.type == "cpu" and x.dtype in DTYPES for x in states)
        and (0 < dropout < 1 or (dropout == 0 and _pays_without_dropout(dtype, *states)))
        and key.shape == value.shape == (*query.shape[:2], *key.shape[2:])
        and not causal
        and (attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.ndim == 4))
        and all(kwargs.get(name) is None for name in ("position_bias", "cache", "softcap"))
    )
    if not known:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Products in bfloat16 only if the processor has instructions for it; the rest in float32.
    inside = dtype if dtype == torch.float32 or native_bfloat16() else torch.float32
    inputs = (x.to(inside) for x in states)
    out = PiecewiseAttention.apply(*inputs, attention_mask, dropout, scale)
    return out.to(dtype).transpose(1, 2).contiguous(), None


def _pays_without_dropout(dtype: torch.dtype, *states: torch.Tensor) -> bool:
    """Whether torch's fused kernel is slower: in bfloat16, with a backward pass, up to 1,024 tokens."""
    query, key, _ = states
    return (
        dtype == torch.bfloat16
        and not torch.compiler.is_compiling()
        and native_bfloat16() is True
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in states)
        and query.shape[2] * key.shape[2] <= PIECE  # beyond, a head does not fit a piece
    )


PIECE = 2**20  # attention weights at a time: 4 MiB
LOWEST = torch.finfo(torch.float32).min
# A private op. Without it `attend_in_pieces` leaves the stock attention in place.
softmax_backward: Any = getattr(getattr(torch.ops.aten, "_softmax_backward_data", None), "out", None)


class PiecewiseAttention(torch.autograd.Function):
    """dropout(softmax(query key' scale)) value, over the keys at which the mask is true."""

    @staticmethod
    def forward(ctx: Any, query, key, value, mask, dropout, scale):  # type: ignore[no-untyped-def]
        q, k, v = (x.flatten(0, 1).contiguous() for x in (query, key, value))  # (N, Q or K, D)
        shape = (len(q), q.shape[1], k.shape[1])
        keep = draw_mask(shape, dropout) if dropout else None
        if mask is not None and not (seeing := mask.any(-1, keepdim=True)).all():
            keep = torch.ones(shape, dtype=torch.uint8) if keep is None else keep
            keep.view(*query.shape[:2], *shape[1:]).mul_(seeing)  # a query that sees no key gets zeros
        out = torch.empty_like(q)
        for part, weights, kept, _, narrow in _pieces(q, k, mask, keep, query.shape[1], scale):
            _drop(weights, kept)
            torch.bmm(_narrowed(weights, narrow), v[part], out=out[part])
        ctx.factor = 1 / kept_share(dropout) if dropout else 1.0
        out.mul_(ctx.factor)
        ctx.save_for_backward(q, k, v, mask, keep)
        ctx.heads, ctx.scale = query.shape[1], scale
        return out.view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        q, k, v, mask, keep = ctx.saved_tensors
        gradient = gradient.flatten(0, 1) * ctx.factor
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        for part, weights, kept, scores, narrow in _pieces(q, k, mask, keep, ctx.heads, ctx.scale):
            _product(gradient[part], v[part].transpose(1, 2), scores, narrow)
            _drop(scores, kept)
            softmax_backward(scores, weights, -1, torch.float32, grad_input=scores)
            scores = _narrowed(scores, narrow)
            torch.bmm(scores, k[part], out=dq[part])
            torch.bmm(scores.transpose(1, 2), q[part], out=dk[part])
            _drop(weights, kept)
            weights = _narrowed(weights, narrow)
            torch.bmm(weights.transpose(1, 2), gradient[part], out=dv[part])
        by_row = [x.unflatten(0, (-1, ctx.heads)) for x in (dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv)]
        return *by_row, None, None, None


# slice of N, weights before dropout, dropout mask, a free buffer, a free buffer in the inputs' dtype
Piece = tuple[slice, torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor | None]


def _pieces(
    q: torch.Tensor,
    k: torch.Tensor,
    mask: torch.Tensor | None,
    keep: torch.Tensor | None,
    heads: int,
    scale: float,
) -> Iterator[Piece]:
    """One piece after the other, each in the same memory."""
    shape = (q.shape[1], k.shape[1])
    most = max(1, PIECE // max(1, math.prod(shape)))
    rows = max(1, most // heads)
    split = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= most)  # heads of a row per piece
    count = 2 if keep is None else 3
    buffers = torch.empty(count, min(rows * split, len(q)), *shape, dtype=torch.float32)
    bias = None
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=torch.float32).masked_fill_(~mask, LOWEST)
        bias = bias.expand(len(q) // heads, heads, -1, -1)
    half = None if q.dtype == torch.float32 else torch.empty_like(buffers[0], dtype=q.dtype)
    for start in range(0, len(q), rows * split):
        part = slice(start, min(start + rows * split, len(q)))
        weights, room, *kept = buffers[:, : part.stop - start]
        narrow = None if half is None else half[: part.stop - start]
        _product(q[part], k[part].transpose(1, 2), weights, narrow)
        if bias is None:
            weights.mul_(scale)
        else:
            row, head = divmod(start, heads)
            by_row = weights.view(-1, split, *shape)
            torch.add(bias[row : row + len(by_row), head : head + split], by_row, alpha=scale, out=by_row)
        torch.softmax(weights, -1, out=weights)
        yield part, weights, None if keep is None else kept[0].copy_(keep[part]), room, narrow


def _drop(weights: torch.Tensor, kept: torch.Tensor | None) -> None:
    if kept is not None:
        weights.mul_(kept)


def _product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, narrow: torch.Tensor | None) -> None:
    """Into float32 `out`, through `narrow` if the inputs are not float32."""
    torch.bmm(left, right, out=out if narrow is None else narrow)
    if narrow is not None:
        out.copy_(narrow)


def _narrowed(wide: torch.Tensor, narrow: torch.Tensor | None) -> torch.Tensor:
    return wide if narrow is None else narrow.copy_(wide)


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
