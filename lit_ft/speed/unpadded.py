"""Training without padding on a GPU: each batch is one row of equally many tokens, in one compiled graph.

Padded batches come in dozens of shapes, and torch.compile builds a graph for each. A row of N tokens in S
sequences has one shape for all batches; filler sequences, which nothing reads, take what the texts leave.
Positions restart with each sequence, and attention stays within it: flash attention's `cu_seq_lens`, under
transformers' names. Logits and gradients equal those of the padded batch (tests/speed/test_unpadded.py).
Written against transformers 5.23 and torch 2.11 to 2.13.

B texts of at most T tokens, H hidden size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from lit_ft.console import say
from lit_ft.errors import UserError
from lit_ft.speed.attention import NAME
from lit_ft.speed.varlen import first_tokens

ARCHITECTURE = "BertForSequenceClassification"
KERNEL = "_flash_attention_forward"  # varlen.py; a private name
AMPERE = (8, 0)  # flash attention's kernels
HALF = ("bf16-mixed", "bf16-true", "16-mixed", "16-true")  # flash attention has no float32
# Lightning's strategies under which each process has only a part of the weights
SHARDED = {"FSDPStrategy", "ModelParallelStrategy"}
ALIGNED = 128  # tokens: tiles of the matrix products
Logits = Callable[[dict[str, torch.Tensor]], torch.Tensor]


def check_compile(compiled: bool, net: Any, trainer: Any) -> None:
    """Refuse a machine or model that `model.compile`, if set, does not support.

    Args:
        compiled: `model.compile`.
        net: The classifier.
        trainer: The trainer, which knows device, strategy and precision.
    """
    if not compiled:
        return
    kind, implementation = type(net).__name__, net.config._attn_implementation
    device, precision = trainer.strategy.root_device, trainer.precision
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    size = getattr(net.config, "hidden_size", 0) // getattr(net.config, "num_attention_heads", 1)
    strategy = type(trainer.strategy).__name__
    kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
    for found, known, asked in (
        (device.type, device.type == "cuda", "a CUDA GPU"),
        ("one of {}.{}".format(*capability), capability >= AMPERE, "a GPU of compute capability 8.0 or more"),
        (strategy, SHARDED.isdisjoint(kinds), "the whole model on each GPU, such as ddp"),
        (kind, kind == ARCHITECTURE and not net.config.is_decoder, ARCHITECTURE),
        (f"heads of {size} dimensions", size % 8 == 0 and size <= 256, "heads of 8, 16, ... 256 dimensions"),
        (f"torch {torch.__version__}", hasattr(torch.ops.aten, KERNEL), f"a torch that has aten.{KERNEL}"),
        (f"attention by {implementation}", implementation == NAME, "torch's own attention"),
        (f"trainer.precision {precision}", precision in HALF, f"a trainer.precision of {', '.join(HALF)}"),
    ):
        if not known:
            raise UserError(
                f"model.compile expects {asked}, found {found}; "
                "set --model.compile=false and --data.padding=longest"
            )


def compiled_logits(net: PreTrainedModel, num_tokens: int, most_rows: int, most_tokens: int) -> Logits:
    """A function from a padded training batch to its logits, (B, C).

    Args:
        net: The classifier on its device; see `check_compile`.
        num_tokens: The tokens that each step computes: at least those of the fullest batch.
        most_rows: The most texts of a batch.
        most_tokens: The most tokens of a text.
    """
    say("model.compile: the first step builds its graph, which takes about 20 s")
    run = torch.compile(partial(_logits, net, most_tokens), dynamic=False)
    num_sequences = most_rows + -(-num_tokens // most_tokens) + 1

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        ids, mask = batch["input_ids"], batch["attention_mask"]
        return run(*as_one_row(ids, mask, num_tokens, num_sequences, most_tokens))[: len(ids)]

    return logits


def as_one_row(
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_tokens: int,
    num_sequences: int,
    most_tokens: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A padded batch, (B, T) -> token ids (1, N), positions (1, N), bounds of the sequences (S + 1,).

    Nothing here waits for the device. The texts come first, then the filler.
    """
    places = torch.nonzero_static(attention_mask, size=num_tokens, fill_value=-1)  # (N, 2)
    ends = attention_mask.sum(1).cumsum(0)  # (B,)
    filling = torch.arange(1, num_sequences - len(ends) + 1, device=ends.device) * most_tokens
    bounds = torch.cat([ends.new_zeros(1), ends, (ends[-1] + filling).clamp(max=num_tokens)])
    return (
        input_ids[places[:, 0], places[:, 1]][None],
        places[:, 1].clamp(min=0)[None],
        bounds.to(torch.int32),
    )


def _logits(
    net: Any, most_tokens: int, input_ids: torch.Tensor, position_ids: torch.Tensor, bounds: torch.Tensor
) -> torch.Tensor:
    """BertForSequenceClassification.forward for S sequences in one row: (S, C)."""
    encoder = net.bert
    states = encoder.embeddings(input_ids=input_ids, position_ids=position_ids)  # (1, N, H)
    lengths: dict[str, Any] = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds}
    lengths |= {"max_length_q": most_tokens, "max_length_k": most_tokens}
    states = encoder.encoder(states, use_cache=False, **lengths).last_hidden_state
    if states.shape[1] == input_ids.shape[1]:  # otherwise the last layer computed the first tokens alone
        states = first_tokens(states, bounds)
    return net.classifier(net.dropout(encoder.pooler(states.transpose(0, 1))))
