"""Attention in training on CPUs, in pieces that stay in the processor's cache.

torch 2.13 has no fused CPU kernel for attention with dropout: its stock path writes some five tensors of
(B, H, Q, K) a layer. Without dropout it has one, whose backward pass is slow in bfloat16. Here
transformers' models get the one of `piecewise_attention.py` instead. Outputs and gradients equal the
stock ones under the same mask, up to rounding (tests/test_attention.py). Written against transformers 5.23.

B rows, H heads, Q queries, K keys, D dimensions a head.
"""

from functools import cache
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from lit_ft import varlen
from lit_ft.console import warn
from lit_ft.machine import cpu_multiplies_bfloat16
from lit_ft.piecewise_attention import PIECE, PiecewiseAttention, softmax_backward

NAME = "sdpa_in_pieces"  # among transformers' attention implementations
DTYPES = (torch.float32, torch.bfloat16)
native_bfloat16 = cache(cpu_multiplies_bfloat16)


def attend_in_pieces(net: PreTrainedModel) -> bool:
    """Have a model on torch's scaled_dot_product_attention train with the attention here; whether it does.

    Whatever `attend` does not know, evaluation and GPUs among it, still goes through the stock function.
    """
    if net.config._attn_implementation != "sdpa":
        return False
    if softmax_backward is None:
        warn(f"torch {torch.__version__} has no aten._softmax_backward_data: training on CPUs is slower")
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
    if kwargs.get("cu_seq_lens_q") is not None:  # one row of many sequences: unpadded.py
        return varlen.attend(query, key, value, dropout, scaling, kwargs), None
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
    # Products in bfloat16 only where the processor multiplies it; all between them in float32.
    inside = dtype if dtype == torch.float32 or native_bfloat16() else torch.float32
    inputs = (x.to(inside) for x in states)
    out = PiecewiseAttention.apply(*inputs, attention_mask, dropout, scale)
    return out.to(dtype).transpose(1, 2).contiguous(), None


def _pays_without_dropout(dtype: torch.dtype, *states: torch.Tensor) -> bool:
    """Whether torch's fused kernel is slower: in bfloat16, before a backward pass, up to 1,024 tokens."""
    query, key, _ = states
    return (
        dtype == torch.bfloat16
        and not torch.compiler.is_compiling()
        and native_bfloat16() is True
        and torch.is_grad_enabled()
        and any(x.requires_grad for x in states)
        and query.shape[2] * key.shape[2] <= PIECE  # beyond, a head does not fit a piece
    )
