"""Runs of several processes: numbers that they agree on, and how a process ends when another is lost."""

import os
import re
import sys
from typing import NoReturn

import torch

from lit_ft.errors import UserError
from lit_ft.launcher import global_rank

# gloo's messages (torch 2.13); NCCL's errors have a class of their own.
LOST = re.compile("Connection (closed|reset|refused)|Broken pipe|pair closure", re.IGNORECASE)
# torch 2.13, torch/csrc/distributed/c10d/TCPStoreLibUvBackend.cpp
TAKEN = re.compile(r"server socket has failed to listen.*?port: (\d+).*?(EADDRINUSE|EACCES)", re.DOTALL)


def largest(number: int, device: torch.device, world_size: int) -> int:
    """The largest of all processes' numbers, so that all do the same. All processes call this.

    Args:
        number: This process's number; 0 or 1 for a condition, which then counts if any process has it.
        device: Where this process computes.
        world_size: The number of processes.
    """
    if world_size == 1:
        return number
    found = torch.tensor(number, device=device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


def refuse_taken_port(error: BaseException) -> None:
    """Raise one line if an error means that another program uses the run's port."""
    if (found := TAKEN.search(str(error))) is not None:
        raise UserError(
            f"port {found[1]}, by which the processes of a run find each other, is used by another program "
            f"({found[2]}); set the variable MASTER_PORT to a free one (torchrun: --master_port)"
        ) from error


def is_lost(error: BaseException) -> bool:
    """Whether an error means that another process of the run does not answer."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and LOST.search(str(error)) is not None
    )


def leave_lost(error: BaseException) -> NoReturn:
    """End this process at once; only processes 0 and 1 say so, two because one of them may be gone."""
    words = " ".join(str(error).split()).split(". ")[0].split("] ", 1)[-1]  # gloo adds long advice
    leave(f"another process no longer answers ({words[:200]})" if global_rank() < 2 else None)


def leave(what: str | None, code: int = 1) -> NoReturn:
    """End this process without cleaning up, which would wait for the others."""
    if what is not None:
        advice = "run the same command again (fit and sft: with --ckpt_path last)"
        below_the_bar = "\n" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{below_the_bar}lit_ft: error: {what}, so all processes end; {advice}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
