"""How a fit ends early: by a signal, out of memory, or because another process is gone."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

from lightning import Callback, Trainer
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from lit_ft.classifier.checkpoints import LastCheckpoint
from lit_ft.classifier.optim import resumes_exactly
from lit_ft.console import warn
from lit_ft.errors import UserError
from lit_ft.launcher import FIRST, global_rank, number_of, started_by
from lit_ft.reliability.memory import BUDGET_FLAG, EVALUATION_FLAG, TRAINING_FLAG, LastBatch
from lit_ft.reliability.processes import TAKEN, is_lost, leave, leave_lost, refuse_taken_port
from lit_ft.reliability.signals import Signals, interrupted


class Preemption(Checkpoint):
    """On SIGTERM or SIGINT: finish the optimizer step, save `last.ckpt`, end with exit code 143 or 130.

    All processes stop at the same step. A validation that is due runs first, and a signal during a validation
    takes effect when it ends: a checkpoint saved before would skip that validation when resumed
    (Lightning 2.6.6, training_epoch_loop.py, `advance`). A second signal ends the process at once.

    Lightning's own handler of SIGTERM would leave with exit code 0 and save nothing. Its handler of SLURM's
    requeue signal (SIGUSR1) would save in the middle of a step, whose batch the resumed run then skips, and
    on each process at a different one. So it is called once the run has stopped.

    A `Checkpoint`, because these run after all other callbacks: what those noted of the step is saved. Give
    it after the checkpoints, whose files it names.

    Args:
        last: Saves `last.ckpt`.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self.signals = Signals()
        self.interrupted = False  # by a KeyboardInterrupt: before the first step, or the second Ctrl-C
        self._requeue: tuple[int, ...] = ()  # the number of SLURM's signal, under SLURM

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the signals over; Lightning has installed its own handlers just before."""
        if trainer.fast_dev_run:  # keeps no checkpoint
            return
        self._requeue = _requeue_signal(trainer)
        self.signals.take_over(*self._requeue)
        if trainer.received_sigterm:  # while Lightning's handler was active
            trainer._signal_connector.received_sigterm = False
            self.signals.receive(signal.SIGTERM)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop between two optimizer steps, when nothing is pending."""
        if not trainer.fit_loop._should_accumulate() and self._agree(trainer) and resumes_exactly(trainer):
            self.last.save(trainer)
            # Lightning would hand the step's figures to the loggers after this hook.
            trainer._logger_connector.on_batch_end()
            trainer._logger_connector.update_train_step_metrics()
            self._stop(trainer)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop after a validation, whose checkpoints have just been saved; not inside an accumulation."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or trainer.fit_loop._should_accumulate():
            return
        if self._agree(trainer) and trainer.global_step != trainer.max_steps:  # then see Tracking.save_last
            self._stop(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the signals back; one that came in the last step is for `stop_after_end`."""
        self._agree(trainer)
        self.signals.give_back()

    def stop_after_end(self, trainer: Any) -> None:
        """Stop when training has ended but its results are still to be made."""
        if self.signals.agreed:
            self._stop(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Say what a Ctrl-C that stops at once leaves; Lightning itself ends without a word."""
        if isinstance(exception, KeyboardInterrupt):
            self.interrupted = True
            warn(interrupted(trainer.global_step, self.last.best_model_path))

    def _agree(self, trainer: Any) -> bool:
        return self.signals.agree(trainer.strategy.root_device, trainer.world_size)

    def _stop(self, trainer: Any) -> None:
        number, saved = self.signals.agreed, f"saved in {self.last.path}"
        if number in self._requeue:
            advice = "SLURM is asked to run the job again, which then resumes"
            warn(self.signals.stopped(trainer.global_step, saved, advice))
            spare = trainer._checkpoint_connector.hpc_save_path(trainer.default_root_dir)
            self.signals.previous[number](number, None)  # saves once more, then `scontrol requeue`
            if trainer.is_global_zero:
                with contextlib.suppress(OSError):
                    Path(spare).unlink()  # a later fit of this folder would start from it, unasked
        else:
            warn(self.signals.stopped(trainer.global_step, saved))
        # Lightning's launcher ends the first process when another one fails, before that one is done.
        raise SystemExit(self.signals.exit_code if trainer.is_global_zero else 0)


def _requeue_signal(trainer: Any) -> tuple[int, ...]:
    environment = trainer._accelerator_connector.cluster_environment
    requeues = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
    return (environment.requeue_signal,) if requeues else ()


class MemoryGuard(Callback, LastBatch):
    """Notes the shape of each batch of a Trainer."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Note a training batch."""
        self.note(batch, _flag(trainer, TRAINING_FLAG), getattr(pl_module, "step_tokens", None))

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Note an evaluation batch."""
        self.note(batch, _flag(trainer, EVALUATION_FLAG))

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start


def _flag(trainer: Any, without_budget: str) -> str:
    return BUDGET_FLAG if trainer.datamodule.hparams.get("token_budget") else without_budget


POLL_SECONDS = 0.5


@contextlib.contextmanager
def ending_together(trainer: Trainer) -> Iterator[None]:
    """Within it, all processes of a run end at once, and with one line, if one of them dies.

    Lightning 2.6.6 (launchers/subprocess_script.py) would kill process 0 without a message up to 5 s later,
    or leave the traceback of a lost connection. If process 0 died, the others would continue to the next
    exchange of gradients, where NCCL waits for it. torchrun and srun end their processes themselves: here
    they only get the line.
    """
    if trainer.world_size == 1:
        yield
        return
    over = threading.Event()
    given = trainer.strategy.launcher  # starts the others later, in the trainer's `fit`
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
            launches.kill(signal.SIGKILL)  # the error is printed once, and nobody waits for this process
        refuse_taken_port(error)
        raise
    finally:
        over.set()


def _watch_children(launcher: _SubprocessScriptLauncher, world_size: int, over: threading.Event) -> None:
    """Start a thread for each child: `wait` returns before Lightning's observer, which polls, notices."""
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
    if code in (0, 128 + signal.SIGINT) or over.is_set():  # finished; or a Ctrl-C that all got
        return
    launcher.kill(signal.SIGKILL)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    # With exit code 2 the process itself has printed the user's mistake.
    leave(None if code == 2 else f"process {rank} (of 0 to {world_size - 1}) {how}", max(code, 1))


def _watch_first(world_size: int, over: threading.Event) -> None:
    first = os.environ.get(FIRST)
    while first not in (None, str(os.getpid())) and not over.wait(POLL_SECONDS):
        if str(os.getppid()) != first:
            leave(f"process 0 (of 0 to {world_size - 1}) is gone" if global_rank() == 1 else None)


class LostConnection(Callback):
    """Ends this process if another one no longer answers.

    A callback sees the error before Lightning restores the signal handlers; later, torchrun's SIGTERM would
    end this process before its message.

    Args:
        over: Set at any other error: then this process ends the run by itself.
    """

    def __init__(self, over: threading.Event) -> None:
        self.over = over

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """First give the watching thread time to say which process is gone."""
        if is_lost(exception) and TAKEN.search(str(exception)) is None:
            if FIRST in os.environ:
                time.sleep(4 * POLL_SECONDS)
            leave_lost(exception)
        self.over.set()


def refuse_lightnings_nodes(num_nodes: int, plugins: Any) -> None:
    """Refuse several machines started by nothing but Lightning: node 1 would take itself for node 0."""
    found = started_by()
    if num_nodes > 1 and not plugins and (found is None or found[0] == "Lightning"):
        raise UserError(
            f"expected torchrun or srun to start the processes of --trainer.num_nodes={num_nodes}, found "
            f"neither; run `torchrun --nnodes {num_nodes} --nproc_per_node DEVICES --rdzv_backend c10d "
            "--rdzv_endpoint HOST:29500 -m lit_ft ...` on each machine, or leave out --trainer.num_nodes"
        )


def check_processes(trainer: Trainer) -> None:
    """Refuse a trainer whose rank or number of processes differs from that of whatever started them.

    Each process would then train the whole run, or none would write it.
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
