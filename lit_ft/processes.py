"""Several processes in one run: they share one loss, and where one is gone the others end, too."""

import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from subprocess import Popen
from typing import Any, NoReturn

import torch
from lightning import Callback, Trainer
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from lit_ft.errors import UserError
from lit_ft.launcher import FIRST, global_rank, number_of, started_by

POLL_SECONDS = 0.5
# gloo's words (torch 2.13); NCCL's errors have a class of their own.
LOST = re.compile("Connection (closed|reset|refused)|Broken pipe|pair closure", re.IGNORECASE)
# torch 2.13, torch/csrc/distributed/c10d/TCPStoreLibUvBackend.cpp
TAKEN = re.compile(r"server socket has failed to listen.*?port: (\d+).*?(EADDRINUSE|EACCES)", re.DOTALL)


def mean_over_processes(
    total: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor | None,
    world_size: int = 1,
    step_weight: float | None = None,
) -> torch.Tensor:
    """The mean loss () of all processes' rows; its gradient is this process's part.

    DDP takes the mean of the processes' gradients. One with fewer rows, or rows of lighter classes, would
    count too much if it divided by its own weight: all divide by the mean weight of a process. Likewise
    among batches of different sizes: row i's part of a step's gradient is w_i g_i / c, where c is what the
    step divides by, the same in whichever batch it comes only if c is the same for all batches. With the
    mean batch's weight for c the mean step is as large as ever.

    Args:
        total: The sum of this process's losses, ().
        labels: Of its rows, (B,) int64.
        weights: Of each class, (C,), where the losses are weighted.
        world_size: Number of processes.
        step_weight: What every step divides by, over all processes; by default its own rows' weight.
    """
    total = total.float()  # bfloat16 knows no 301
    weight = total.new_full((), len(labels)) if weights is None else weights[labels].sum().float()
    sums = torch.stack([total.detach(), weight])
    if world_size > 1:
        torch.distributed.all_reduce(sums)  # Lightning's `reduce` would wait for the device
    own = sums[1] + (sums[1] == 0)  # where all rows are of classes of weight 0: a loss of 0, not 0 / 0
    gradient_only = (total - total.detach()) * world_size / (step_weight or own)
    # One value on all processes: what looks at it (is it a number?) then decides the same on all of them.
    return sums[0] / own + gradient_only


def largest(number: int, args: Any) -> int:
    """The largest of all processes' numbers, so that all do the same. All of them call this.

    Args:
        number: This process's; a truth counts 1, and is then true on any of them.
        args: The TrainingArguments of transformers: where it computes, in how many processes.
    """
    if args.world_size == 1:
        return number
    found = torch.tensor(number, device=args.device)
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


@contextlib.contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """Within it, all processes of a run end where one is gone: at once, and with one line.

    Lightning 2.6.6 (launchers/subprocess_script.py) would kill the first process without a word up to 5 s
    later, or leave the traceback of a lost connection; where the first is gone, the others would go on to
    the next exchange of gradients, which NCCL waits for. torchrun and srun end their processes themselves:
    here they only get the line.
    """
    if trainer.world_size == 1:
        yield
        return
    over = threading.Event()
    given = trainer.strategy.launcher  # it starts the others later, in the trainer's `fit`
    launches = given if isinstance(given, _SubprocessScriptLauncher) else None
    trainer.callbacks.insert(0, LostConnection(over))  # type: ignore[attr-defined]
    watch: tuple[Any, ...] = (_watch_first, trainer.world_size, over)
    if launches is not None and global_rank() == 0:
        os.environ[FIRST] = str(os.getpid())
        watch = (_watch_children, launches, trainer.world_size, over)
    threading.Thread(target=watch[0], args=watch[1:], daemon=True).start()
    try:
        yield
    except Exception as error:
        over.set()
        if launches is not None:
            launches.kill(signal.SIGKILL)  # the error is told once, and nobody waits for this process
        refuse_taken_port(error)
        raise
    finally:
        over.set()


def _watch_children(launcher: _SubprocessScriptLauncher, world_size: int, over: threading.Event) -> None:
    """A thread for each: `wait` knows of an end before Lightning's observer, which polls."""
    while len(launcher.procs) < launcher.num_processes - 1:
        if over.wait(POLL_SECONDS):
            return
    for rank, child in enumerate(launcher.procs, 1):
        arguments = (rank, child, launcher, world_size, over)
        threading.Thread(target=_await_child, args=arguments, daemon=True).start()


def _await_child(
    rank: int,
    child: Popen[bytes],
    launcher: _SubprocessScriptLauncher,
    world_size: int,
    over: threading.Event,
) -> None:
    code = child.wait()
    if code in (0, 128 + signal.SIGINT) or over.is_set():  # done; or by a Ctrl-C that all got
        return
    launcher.kill(signal.SIGKILL)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    # A mistake of the user's has been told by the process itself.
    leave(None if code == 2 else f"process {rank} (of 0 to {world_size - 1}) {how}", max(code, 1))


def _watch_first(world_size: int, over: threading.Event) -> None:
    first = os.environ.get(FIRST)
    while first not in (None, str(os.getpid())) and not over.wait(POLL_SECONDS):
        if str(os.getppid()) != first:
            leave(f"process 0 (of 0 to {world_size - 1}) is gone" if global_rank() == 1 else None)


class LostConnection(Callback):
    """Ends this process where another one does not answer any more.

    A callback, because these hear of an error before Lightning gives the signals back: torchrun's SIGTERM to
    those who are left would then come before the line.

    Args:
        over: Set where an error is not of that kind: what ends then, ends by this process.
    """

    def __init__(self, over: threading.Event) -> None:
        self.over = over

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Give the word to the watching thread, which knows who is gone."""
        if is_lost(exception) and TAKEN.search(str(exception)) is None:
            if FIRST in os.environ:
                time.sleep(4 * POLL_SECONDS)
            leave_lost(exception)
        self.over.set()


def refuse_taken_port(error: BaseException) -> None:
    """Turn the error of a port that another program has into one line.

    Raises:
        UserError: It is that error.
    """
    if (found := TAKEN.search(str(error))) is not None:
        raise UserError(
            f"port {found[1]}, by which the processes of a run find each other, is taken by another program "
            f"({found[2]}); set the variable MASTER_PORT to a free one (torchrun: --master_port)"
        ) from error


def refuse_lightnings_nodes(num_nodes: int, plugins: Any) -> None:
    """Refuse several machines that nobody but Lightning would start: node 1 would take itself for node 0."""
    found = started_by()
    if num_nodes > 1 and not plugins and (found is None or found[0] == "Lightning"):
        raise UserError(
            f"expected torchrun or srun to start the processes of --trainer.num_nodes={num_nodes}, found "
            f"neither; run `torchrun --nnodes {num_nodes} --nproc_per_node DEVICES --rdzv_backend c10d "
            "--rdzv_endpoint HOST:29500 -m lit_ft ...` on each machine, or leave out --trainer.num_nodes"
        )


def check_processes(trainer: Trainer) -> None:
    """Refuse a trainer that takes itself for another one of the processes than who started it.

    Each would then train the whole run, or none would write it.
    """
    found = started_by()
    if found is not None and found[0] != "Lightning":
        told = number_of("WORLD_SIZE") if found[1] == "RANK" else trainer.world_size
        if (told, global_rank()) != (trainer.world_size, trainer.global_rank):
            of = f" of WORLD_SIZE={told}" if found[1] == "RANK" else ""
            raise UserError(
                f"expected as many processes as --trainer.num_nodes={trainer.num_nodes} times "
                f"--trainer.devices={trainer.num_devices}, found that {found[0]} started this one as "
                f"{found[1]}={global_rank()}{of}; set the two flags to what was started"
            )
    port = os.environ.get("MASTER_PORT")
    if port is not None and trainer.world_size > 1 and not 0 < number_of("MASTER_PORT") < 65536:
        raise UserError(
            f"expected a port of 1 to 65535 in the variable MASTER_PORT, found {port!r}; set or remove it"
        )
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and trainer.world_size > 1:
        environment.validate_settings(num_devices=trainer.num_devices, num_nodes=trainer.num_nodes)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process of the run does not answer."""
    return isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and LOST.search(str(error)) is not None
    )


def leave_lost(error: BaseException) -> NoReturn:
    """End at once where the connection is lost; of many processes the first two say it: one may be gone."""
    words = " ".join(str(error).split()).split(". ")[0].split("] ", 1)[-1]  # gloo's end in a long advice
    leave(f"another process does not answer any more ({words[:200]})" if global_rank() < 2 else None)


def leave(what: str | None, code: int = 1) -> NoReturn:
    """End this process without tidying up, which would wait for the others."""
    if what is not None:
        advice = "go on with the same command (fit and sft: and --ckpt_path last)"
        below_the_bar = "\n" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{below_the_bar}lit_ft: error: {what}, so that all end; {advice}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
