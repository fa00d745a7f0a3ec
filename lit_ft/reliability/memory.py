"""Out of memory: one line with the batch's shape and the flag to lower."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from lit_ft.errors import UserError, chain

# torch 2.13, c10/core/impl/alloc_cpu.cpp: a RuntimeError.
CPU_ALLOCATOR = "DefaultCPUAllocator: can't allocate memory"

TRAINING_FLAG, EVALUATION_FLAG = "--data.batch_size", "--data.eval_batch_size"
BUDGET_FLAG = "--data.token_budget"


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a failed allocation caused this error: on a GPU, in torch on the CPU, or in Python."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    return any(isinstance(link, kinds) or CPU_ALLOCATOR in str(link) for link in chain(error))


class LastBatch:
    """Remembers the shape of the batch that is being computed.

    Attributes:
        shape: (B, T), None before the first batch.
        tokens: The computed tokens, if they are not B x T.
        flag: The flag that makes such batches smaller.
    """

    def __init__(self) -> None:
        self.shape: tuple[int, int] | None = None
        self.tokens: int | None = None
        self.flag = TRAINING_FLAG

    def note(self, batch: dict[str, Any], flag: str, tokens: int | None = None) -> None:
        """Remember this batch of `input_ids` (B, T), and its number of tokens if it runs without padding."""
        rows, width = batch["input_ids"].shape
        self.shape, self.flag, self.tokens = (rows, width), flag, tokens

    @contextlib.contextmanager
    def named(self, accumulation: str) -> Iterator[None]:
        """Turns a failed allocation into one `UserError` with the last batch's shape.

        Args:
            accumulation: The flag that accumulates the gradients of several batches.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            whose = "GPU" if isinstance(error, torch.OutOfMemoryError) else "machine"
            if self.shape is None:
                what, mend = "while data and model were read", "use less data or a smaller model"
            else:
                rows, width = self.shape
                what = f"in a batch of {rows} texts of {width} tokens"
                if self.tokens:
                    what = f"in a batch of {rows} texts and {self.tokens} tokens"
                below = self.tokens or rows * width
                least = f"below {below}" if self.flag == BUDGET_FLAG else f"from {rows}"
                mend = f"lower {self.flag} {least}, or --data.max_tokens"
                if self.flag != EVALUATION_FLAG:
                    mend += f"; {accumulation} keeps the optimizer step as large"
            raise UserError(f"the {whose}'s memory ran out {what}; {mend}") from error
