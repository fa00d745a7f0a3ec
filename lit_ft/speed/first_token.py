"""The last layer of a BERT or RoBERTa classifier for the first token alone, which is all that the head reads.

Keys and values still come from every token. The queries and the feed-forward block of the other tokens are
unused in the last layer: with L layers, skipping them saves about 0.83 / L of the time. Outputs and gradients
equal the stock forward's (tests/speed/test_first_token.py). Written against transformers 5.23.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bert.modeling_bert import eager_attention_forward

from lit_ft.speed.attention import NAME as IN_PIECES
from lit_ft.speed.varlen import first_tokens

# Model class -> the name of its encoder; the heads read `hidden_states[:, 0]`.
ENCODERS = {"BertForSequenceClassification": "bert", "RobertaForSequenceClassification": "roberta"}

# Other implementations take a mask of another shape, which `_attend_from_first` cannot slice.
MASKS_ARE_4D = ("sdpa", "eager", IN_PIECES)


def compute_first_token_only(net: PreTrainedModel) -> bool:
    """Have the last layer compute what the head reads; whether this architecture is supported.

    Other architectures, and decoders, keep the stock forward. The weights, their names and what
    `save_pretrained` writes stay as they are.
    """
    name = ENCODERS.get(type(net).__name__)
    config = net.config
    if name is None or config.is_decoder or config.add_cross_attention or config.chunk_size_feed_forward:
        return False
    if config._attn_implementation not in MASKS_ARE_4D:
        return False
    attention = getattr(net, name).encoder.layer[-1].attention
    attention.forward = partial(_attend_from_first, attention)
    return True


def _attend_from_first(
    attention: Any, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
) -> tuple[torch.Tensor, Any]:
    """BertAttention.forward with the first token's query alone: states (B, T, H) -> (B, 1, H).

    For S sequences in one row (unpadded.py), with the queries of their first tokens: (1, N, H) -> (1, S, H).
    """
    own: Any = attention.self
    if (bounds := kwargs.get("cu_seq_lens_q")) is None:
        first = hidden_states[:, :1]
    else:
        first = first_tokens(hidden_states, bounds)
        one_each = torch.arange(len(bounds), device=bounds.device, dtype=bounds.dtype)
        kwargs |= {"cu_seq_lens_q": one_each, "max_length_q": 1}

    def by_head(linear: nn.Linear, states: torch.Tensor) -> torch.Tensor:  # (B, heads, T or 1, H / heads)
        return linear(states).view(*states.shape[:2], -1, own.attention_head_size).transpose(1, 2)

    attend = ALL_ATTENTION_FUNCTIONS.get_interface(own.config._attn_implementation, eager_attention_forward)
    kwargs.pop("past_key_values", None)
    states, weights = attend(
        own,
        by_head(own.query, first),
        by_head(own.key, hidden_states),
        by_head(own.value, hidden_states),
        None if attention_mask is None else attention_mask[:, :, :1],
        dropout=own.dropout.p if own.training else 0.0,
        scaling=own.scaling,
        **kwargs,
    )
    return attention.output(states.reshape(first.shape), first), weights
