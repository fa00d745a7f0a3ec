"""Attention with dropout on CPUs, in pieces that stay in the processor's cache.

torch 2.13 has no fused CPU kernel for attention with dropout: its stock path writes some five tensors of
(B, H, Q, K) a layer. Here a few heads at a time pass through the same small buffers, and what the backward
pass needs is computed again from queries and keys. Outputs and gradients equal the stock ones under the same
mask (tests/test_dropped_attention.py). Written against transformers 5.23.

B rows, H heads, Q queries, K keys, D dimensions a head; N = B * H.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lit_ft.dropout_mask import draw_mask, kept_share

NAME = "sdpa_in_pieces"  # among transformers' attention implementations
PIECE = 2**19  # weights at a time: 2 MiB


def attend_in_pieces(net: PreTrainedModel) -> bool:
    """Have a model on torch's scaled_dot_product_attention compute dropped weights here; whether it does.

    Whatever `attend` does not know, no dropout and GPUs among it, still goes through the stock function.
    """
    if net.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    net.set_attn_implementation(NAME)
    return True


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
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    known = (
        dropout > 0
        and query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and key.shape == value.shape == (*query.shape[:2], *key.shape[2:])
        and not causal
        and (attention_mask is None or not attention_mask.requires_grad)
        and all(kwargs.get(name) is None for name in ("position_bias", "cache", "softcap"))
    )
    if not known:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        lowest = torch.finfo(torch.float32).min
        if attention_mask.stride(-2) == 0:  # one mask for all queries: of padding
            attention_mask = attention_mask[..., :1, :]
        attention_mask = torch.zeros(attention_mask.shape, dtype=torch.float32).masked_fill_(
            ~attention_mask, lowest
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = _Attention.apply(query, key, value, attention_mask, dropout, scale)
    return out.transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    """softmax(query key' scale + bias), some weights dropped, times value."""

    @staticmethod
    def forward(ctx: Any, query, key, value, bias, dropout, scale):  # type: ignore[no-untyped-def]
        q, k, v = (x.flatten(0, 1).contiguous() for x in (query, key, value))  # (N, Q or K, D)
        if bias is not None:
            bias = bias.expand(*query.shape[:2], -1, -1)
        keep = draw_mask((len(q), q.shape[1], k.shape[1]), dropout)
        out = torch.empty_like(q)
        for part, weights, mask in _pieces(q, k, bias, keep, query.shape[1], scale):
            torch.bmm(weights.mul_(mask).to(v.dtype), v[part], out=out[part])
        ctx.factor = 1 / kept_share(dropout)
        out.mul_(ctx.factor)
        ctx.save_for_backward(q, k, v, bias, keep, out)
        ctx.heads, ctx.scale = query.shape[1], scale
        return out.view(query.shape)

    @staticmethod
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        q, k, v, bias, keep, out = ctx.saved_tensors
        gradient = gradient.flatten(0, 1)
        # Softmax's backward subtracts the sum of weights times their gradients: that of outputs times theirs.
        dots = (gradient.float() * out.float()).sum(-1, keepdim=True)
        gradient = gradient * ctx.factor
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        other: torch.Tensor | None = None
        for part, weights, mask in _pieces(q, k, bias, keep, ctx.heads, ctx.scale):
            other = torch.empty_like(weights) if other is None else other
            scores = _multiply(gradient[part], v[part].transpose(1, 2), other[: len(weights)])
            scores = scores.mul_(mask).sub_(dots[part]).mul_(weights).to(q.dtype)  # their gradient
            torch.bmm(scores, k[part], out=dq[part])
            torch.bmm(scores.transpose(1, 2), q[part], out=dk[part])
            dropped = weights.mul_(mask).to(v.dtype)
            torch.bmm(dropped.transpose(1, 2), gradient[part], out=dv[part])
        by_row = [x.unflatten(0, (-1, ctx.heads)) for x in (dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv)]
        return *by_row, None, None, None


def _pieces(
    q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None, keep: torch.Tensor, heads: int, scale: float
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    """(which of N, their weights before dropout, their mask as float32); always in the same memory."""
    shape = (q.shape[1], k.shape[1])
    most = max(1, PIECE // math.prod(shape))
    rows = max(1, most // heads)
    most = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= most)  # heads of a row, or all
    buffers = torch.empty(2, min(rows * most, len(q)), *shape, dtype=torch.float32)
    for start in range(0, len(q), rows * most):
        part = slice(start, min(start + rows * most, len(q)))
        weights, mask = buffers[:, : part.stop - start]
        _multiply(q[part], k[part].transpose(1, 2), weights)
        if bias is None:
            weights.mul_(scale)
        else:
            row, head = divmod(start, heads)
            split = weights.view(-1, most, *shape)
            torch.add(bias[row : row + len(split), head : head + most], split, alpha=scale, out=split)
        torch.softmax(weights, -1, out=weights)
        yield part, weights, mask.copy_(keep[part])


def _multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """a @ b into a float32 tensor."""
    return torch.bmm(a, b, out=out) if a.dtype == out.dtype else out.copy_(torch.bmm(a, b))
