"""Attention with dropout on CPUs, in pieces that stay in the processor's cache.

torch 2.13 has no fused CPU kernel for attention with dropout: its stock path writes some five tensors of
(B, H, Q, K) a layer. Here a few heads at a time pass through the same small buffers; of that size only the
dropout mask is kept, one byte a weight, and the backward pass computes the rest again. Outputs and gradients
equal the stock ones under the same mask (tests/test_dropped_attention.py). Written against transformers 5.23.

B rows, H heads, Q queries, K keys, D dimensions a head; N = B * H.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lit_ft.dropout_mask import draw_mask, kept_share

NAME = "sdpa_in_pieces"  # among transformers' attention implementations
PIECE = 2**19  # weights at a time: 2 MiB
DTYPES = (torch.float32, torch.bfloat16)
LOWEST = torch.finfo(torch.float32).min


def attend_in_pieces(net: PreTrainedModel) -> bool:
    """Have a model on torch's scaled_dot_product_attention compute dropped weights here; whether it does.

    Whatever `attend` does not know, no dropout and GPUs among it, still goes through the stock function.
    """
    if net.config._attn_implementation != "sdpa":
        return False
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    net.set_attn_implementation(NAME)  # only logs where a model doesn't support it
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
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    known = (
        0 < dropout < 1
        and all(x.device.type == "cpu" and x.dtype in DTYPES for x in (query, key, value))
        and key.shape == value.shape == (*query.shape[:2], *key.shape[2:])
        and not causal
        and (attention_mask is None or (attention_mask.dtype == torch.bool and attention_mask.ndim == 4))
        and all(kwargs.get(name) is None for name in ("position_bias", "cache", "softcap"))
    )
    if not known:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **kwargs
        )
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # In float32 also under bfloat16, as in the stock path with dropout.
    out = _Attention.apply(query.float(), key.float(), value.float(), attention_mask, dropout, scale)
    return out.to(dtype).transpose(1, 2).contiguous(), None


class _Attention(torch.autograd.Function):
    """softmax(query key' scale) where the mask is true, some weights dropped, times value; all in float32."""

    @staticmethod
    def forward(ctx: Any, query, key, value, mask, dropout, scale):  # type: ignore[no-untyped-def]
        q, k, v = (x.flatten(0, 1).contiguous() for x in (query, key, value))  # (N, Q or K, D)
        keep = draw_mask((len(q), q.shape[1], k.shape[1]), dropout)
        bias = None
        if mask is not None:
            bias = (
                torch.zeros(mask.shape, dtype=torch.float32)
                .masked_fill_(~mask, LOWEST)
                .expand(*query.shape[:2], -1, -1)
            )
            if not (seeing := mask.any(-1, keepdim=True)).all():  # a query that sees no key gets zeros
                keep.view(*query.shape[:2], *keep.shape[1:]).mul_(seeing)
        out = torch.empty_like(q)
        for part, weights, kept, _ in _pieces(q, k, bias, keep, query.shape[1], scale):
            torch.bmm(weights.mul_(kept), v[part], out=out[part])
        ctx.factor = 1 / kept_share(dropout)
        out.mul_(ctx.factor)
        ctx.save_for_backward(q, k, v, bias, keep, out)
        ctx.heads, ctx.scale = query.shape[1], scale
        return out.view(query.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):  # type: ignore[no-untyped-def]
        q, k, v, bias, keep, out = ctx.saved_tensors
        gradient = gradient.flatten(0, 1)
        # Softmax's backward subtracts the sum of weights times their gradients: that of outputs times theirs.
        dots = (gradient * out).sum(-1, keepdim=True)
        gradient = gradient * ctx.factor
        dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
        for part, weights, kept, scores in _pieces(q, k, bias, keep, ctx.heads, ctx.scale):
            torch.bmm(gradient[part], v[part].transpose(1, 2), out=scores)
            scores.mul_(kept).sub_(dots[part]).mul_(weights)  # from here on their gradient
            torch.bmm(scores, k[part], out=dq[part])
            torch.bmm(scores.transpose(1, 2), q[part], out=dk[part])
            torch.bmm(weights.mul_(kept).transpose(1, 2), gradient[part], out=dv[part])
        by_row = [x.unflatten(0, (-1, ctx.heads)) for x in (dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv)]
        return *by_row, None, None, None


def _pieces(
    q: torch.Tensor, k: torch.Tensor, bias: torch.Tensor | None, keep: torch.Tensor, heads: int, scale: float
) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(which of N, their weights before dropout, what is kept, room), in the same memory each time."""
    shape = (q.shape[1], k.shape[1])
    most = max(1, PIECE // max(1, math.prod(shape)))
    rows = max(1, most // heads)
    split = max(n for n in range(1, heads + 1) if heads % n == 0 and n <= most)  # heads of a row, or all
    buffers = torch.empty(3, min(rows * split, len(q)), *shape, dtype=torch.float32)
    for start in range(0, len(q), rows * split):
        part = slice(start, min(start + rows * split, len(q)))
        weights, kept, room = buffers[:, : part.stop - start]
        torch.bmm(q[part], k[part].transpose(1, 2), out=weights)
        if bias is None:
            weights.mul_(scale)
        else:
            row, head = divmod(start, heads)
            by_row = weights.view(-1, split, *shape)
            torch.add(bias[row : row + len(by_row), head : head + split], by_row, alpha=scale, out=by_row)
        torch.softmax(weights, -1, out=weights)
        yield part, weights, kept.copy_(keep[part]), room
