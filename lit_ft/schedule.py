"""How long a run is, in optimizer steps, and the settings of the Trainer that its length depends on."""

from typing import Any

from lit_ft.errors import UserError


def num_training_steps(trainer: Any) -> int:
    """Optimizer steps of the whole run, on each process.

    Not `trainer.estimated_stepping_batches`: that builds the train loader before a checkpoint's loop
    state is read, and the place in the epoch is then never restored (Lightning 2.6.6, fit_loop.py,
    setup_data returns early).
    """
    check_end(trainer)
    batches = _limited_batches(trainer, trainer.datamodule.num_train_batches())
    steps_an_epoch = -(-batches // trainer.accumulate_grad_batches)  # an epoch's last step may be short
    epochs, max_steps = trainer.max_epochs, trainer.max_steps
    if epochs in (None, -1):
        return max_steps
    total = steps_an_epoch * epochs
    return total if max_steps in (None, -1) else min(total, max_steps)


def _limited_batches(trainer: Any, batches: int) -> int:
    limit = trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def resumes_exactly(trainer: Any) -> bool:
    """Whether a checkpoint saved in this `on_train_batch_end` goes on as if nothing had happened.

    Not in the middle of an accumulation window, whose gradients no checkpoint holds. Nor where a validation
    or the epoch's end follows: Lightning 2.6.6 (fit_loop.py, `reset`; training_epoch_loop.py, `advance`)
    takes those for done when it resumes.
    """
    loop = trainer.fit_loop.epoch_loop
    if loop._should_accumulate() or loop._is_training_done:
        return False
    return not loop._should_check_val_fx(trainer.fit_loop._data_fetcher)


def check_end(trainer: Any) -> None:
    """Refuse a run without an end: its learning rate could not fall to 0 there."""
    if trainer.max_epochs in (None, -1) and trainer.max_steps in (None, -1):
        raise UserError("a linear decay needs an end: set --trainer.max_epochs or --trainer.max_steps")


def check_schedule(trainer: Any, datamodule: Any) -> None:
    """Refuse what Lightning would refuse only in the middle of things, after files were written.

    Args:
        trainer: With its settings.
        datamodule: Set up for a fit; not attached to the trainer yet.
    """
    check_end(trainer)
    for name in ("max_epochs", "max_steps", "accumulate_grad_batches", "limit_train_batches"):
        if getattr(trainer, name) == 0:
            raise UserError(f"expected --trainer.{name} above 0, found 0: there would be nothing to train")
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise UserError(
            "expected --trainer.val_check_interval as a number of batches or a share of an epoch, found a "
            "time: a resumed run would validate at other steps; last.ckpt is saved by the clock anyway"
        )
    num_train_rows = sum(datamodule.class_counts())
    if num_train_rows < trainer.world_size:
        raise UserError(
            f"expected a training row for each of {trainer.world_size} processes, found {num_train_rows}; "
            "lower --trainer.devices"
        )
    batches = _limited_batches(trainer, datamodule.num_train_batches(trainer.world_size))
    if batches == 0:
        raise UserError(
            f"expected --trainer.limit_train_batches that leaves a batch, found "
            f"{trainer.limit_train_batches}; write a share of the epoch or a whole number"
        )
    least, steps = trainer.min_steps, -(-batches // trainer.accumulate_grad_batches)
    most = [n for n in (trainer.max_steps, steps * (trainer.max_epochs or -1)) if n >= 0]
    if least is not None and most and least > min(most) and not trainer.fast_dev_run:
        raise UserError(
            f"expected --trainer.min_steps of at most {min(most)}, the steps of the run, found {least}; "
            "raise --trainer.max_epochs"
        )
    interval = trainer.val_check_interval
    validates = trainer.limit_val_batches and trainer.check_val_every_n_epoch is not None
    if isinstance(interval, int) and interval > batches and validates and not trainer.fast_dev_run:
        raise UserError(
            f"expected --trainer.val_check_interval of at most {batches}, the batches of an epoch, found "
            f"{interval}; to count over epochs set --trainer.check_val_every_n_epoch=null"
        )
