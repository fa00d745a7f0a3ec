"""Attention within sequences that are concatenated in one row, by a fused kernel for GPUs.

N tokens in S sequences, D dimensions of a head.
"""

from typing import Any

import torch


def attend_sequences(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    lengths: dict[str, Any],
) -> torch.Tensor:
    """Query (1, heads, Q, D), key and value (1, heads, N, D) -> (1, Q, heads, D).

    Args:
        query: Queries of all tokens, or of some of each sequence.
        key: Keys of all tokens.
        value: Values of all tokens.
        dropout: The dropout of the attention weights.
        scaling: The factor on the scores; by default D ** -0.5.
        lengths: `cu_seq_lens_q` and `cu_seq_lens_k`, the bounds of the sequences, (S + 1,) int32;
            `max_length_q` and `max_length_k`.
    """
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    bounds_q, bounds_k = lengths["cu_seq_lens_q"], lengths["cu_seq_lens_k"]
    most_q, most_k = lengths["max_length_q"], lengths["max_length_k"]
    return flash(q, k, v, bounds_q, bounds_k, most_q, most_k, dropout, scaling)[None]


def flash(q, k, v, bounds_q, bounds_k, most_q, most_k, dropout, scaling):  # type: ignore[no-untyped-def]
    """The private op that torch.nn.attention.varlen calls, but always without dropout (torch 2.13)."""
    return torch.ops.aten._flash_attention_forward(
        q, k, v, bounds_q, bounds_k, most_q, most_k, dropout, False, False, scale=scaling
    )[0]


def first_tokens(states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """The first token of each sequence, (1, N, H) -> (1, S, H); any token for an empty sequence."""
    return states[:, bounds[:-1].clamp(max=states.shape[1] - 1)]
