"""A fit that is asked to stop saves its place first: SIGTERM, Ctrl-C, the signal by which SLURM requeues."""

import contextlib
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint

from lit_ft.console import warn
from lit_ft.run_checkpoints import LastCheckpoint
from lit_ft.schedule import resumes_exactly

SIGNALS = (signal.SIGTERM, signal.SIGINT)
AT_ONCE: dict[int, Any] = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


class Preemption(Checkpoint):
    """On SIGTERM or SIGINT: finish the optimizer step, save `last.ckpt`, end with exit code 143 or 130.

    All processes stop at the same step. Where a validation is due it runs first, and a signal that arrives
    in one waits for its end: a checkpoint saved in between would skip that validation when resumed
    (Lightning 2.6.6, training_epoch_loop.py, `advance`). A second signal ends the process at once.

    Lightning's own handler of SIGTERM would leave with exit code 0 and save nothing. Its handler of SLURM's
    requeue (SIGUSR1) would save in the midst of a step, whose batch the resumed run then passes over, and
    on each process at another one: it is called where the run stops.

    A `Checkpoint`, because those run after all other callbacks: what they noted of the step is saved; give
    it behind the checkpoints, whose files of a validation it names.

    Args:
        last: Saves `last.ckpt`.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self.interrupted = False  # by a KeyboardInterrupt: before the first step, or the second Ctrl-C
        self._received = 0  # the signal's number, here
        self._previous: dict[int, Any] = {}
        self._agreed = 0  # the number that all processes know of
        self._requeue: tuple[int, ...] = ()  # the number of SLURM's signal, under SLURM

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for other, handler in AT_ONCE.items():
            signal.signal(other, handler)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the signals over; Lightning has installed its own handlers just before."""
        if trainer.fast_dev_run:  # keeps no checkpoint
            return
        self._requeue = _requeue_signal(trainer)
        numbers = {*SIGNALS, *self._requeue}
        self._previous = {number: signal.signal(number, self._receive) for number in numbers}
        if trainer.received_sigterm:  # while Lightning's handler stood
            trainer._signal_connector.received_sigterm = False
            self._receive(signal.SIGTERM, None)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Between two optimizer steps nothing is pending: the place to stop at."""
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
        for number, handler in self._previous.items():
            signal.signal(number, AT_ONCE.get(number, handler) if self._agreed else handler)

    def stop_after_end(self, trainer: Any) -> None:
        """Stop where training has ended, but its results are still to be made."""
        if self._agreed:
            self._stop(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Say what a Ctrl-C that stops at once leaves; Lightning itself ends without a word."""
        if isinstance(exception, KeyboardInterrupt):
            self.interrupted = True
            saved = self.last.best_model_path
            what = f"go on from {saved} with --ckpt_path last" if saved else "no checkpoint was saved yet"
            warn(f"interrupted at step {trainer.global_step}; {what}")

    def _agree(self, trainer: Any) -> bool:
        """Whether any process has a signal: one that stopped alone would leave the others waiting."""
        if not self._agreed:
            number = self._received  # read once: the handler may run between two lines
            if trainer.world_size == 1:
                self._agreed = number
            elif trainer.strategy.reduce_boolean_decision(number != 0, all=False):
                for asked in (signal.SIGINT, *self._requeue, signal.SIGTERM):
                    if trainer.strategy.reduce_boolean_decision(number == asked, all=False):
                        self._agreed = asked
                        break
        return self._agreed != 0

    def _stop(self, trainer: Any) -> None:
        by = f"stopped by {signal.Signals(self._agreed).name} at step {trainer.global_step}"
        again = "go on with the same command and --ckpt_path last"
        if self._agreed in self._requeue:
            again = "SLURM is asked to run the job again, which then goes on"
        warn(f"{by}, saved in {self.last.path}; {again}")
        if self._agreed in self._requeue:
            spare = trainer._checkpoint_connector.hpc_save_path(trainer.default_root_dir)
            self._previous[self._agreed](self._agreed, None)  # saves once more, then `scontrol requeue`
            if trainer.is_global_zero:
                with contextlib.suppress(OSError):
                    Path(spare).unlink()  # a later fit of this folder would begin with it, unasked
        # Lightning's launcher ends the first process when another one fails, before that one is done.
        raise SystemExit(128 + self._agreed if trainer.is_global_zero else 0)


def _requeue_signal(trainer: Any) -> tuple[int, ...]:
    environment = trainer._accelerator_connector.cluster_environment
    requeues = isinstance(environment, SLURMEnvironment) and environment.auto_requeue
    return (environment.requeue_signal,) if requeues else ()
