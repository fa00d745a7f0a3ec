"""AdamW's parameter groups, the learning rate schedule, and the number of steps of a run."""

from collections.abc import Callable
from typing import Any

from torch import nn

from lit_ft.errors import UserError

NORM_NAMES = ("norm", "layernorm", "layer_norm", "ln")


def parameter_groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict]:
    """Split the trainable parameters into those with weight decay and those without.

    Biases and normalisation weights only shift and scale. Decaying them pulls the network towards a constant
    without making it simpler, so BERT's authors exclude them (Devlin et al. 2019, appendix A.2 and the
    released optimization.py).

    Args:
        model: The network. Within each group its parameters keep their order.
        weight_decay: AdamW's decoupled weight decay.
        decay_all: Whether to decay every parameter, as `torch.optim.AdamW(model.parameters())` does.

    Returns:
        Parameter groups for a torch optimizer.
    """
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if decay_all:
        return [{"params": [p for _, p in trainable], "weight_decay": weight_decay}]
    norms = {
        f"{name}.weight" if name else "weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm) or type(module).__name__.lower().endswith(NORM_NAMES)
    }
    kept = [p for name, p in trainable if name.endswith("bias") or name in norms]
    decayed = [p for name, p in trainable if not (name.endswith("bias") or name in norms)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def linear_decay(num_training_steps: int, num_warmup_steps: int) -> Callable[[int], float]:
    """The factor on the learning rate: it rises from 0 during warm-up, then falls to 0 at the last step.

    Without warm-up this is `1 - step / num_training_steps`.

    Args:
        num_training_steps: The optimizer steps of the whole run.
        num_warmup_steps: The optimizer steps of the warm-up, fewer than `num_training_steps`.

    Returns:
        A function from the number of optimizer steps so far to a factor in [0, 1], for `LambdaLR`.
    """
    assert 0 <= num_warmup_steps < max(num_training_steps, 1)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / num_warmup_steps
        return max(0.0, (num_training_steps - step) / (num_training_steps - num_warmup_steps))

    return factor


def num_training_steps(trainer: Any) -> int:
    """The optimizer steps of the whole run.

    Not `trainer.estimated_stepping_batches`: it builds the train loader before a checkpoint's loop state is
    read, so the position in the epoch is never restored (Lightning 2.6.6, fit_loop.py, setup_data returns
    early).
    """
    check_end(trainer)
    batches = limited(trainer.datamodule.num_train_batches(), trainer.limit_train_batches)
    steps_an_epoch = -(-batches // trainer.accumulate_grad_batches)  # the last one may be short
    epochs, max_steps = trainer.max_epochs, trainer.max_steps
    if epochs in (None, -1):
        return max_steps
    total = steps_an_epoch * epochs
    return total if max_steps in (None, -1) else min(total, max_steps)


def limited(batches: int, limit: int | float) -> int:
    """The batches that a limit of the Trainer, a number or a share, leaves (Lightning, data_connector.py)."""
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def resumes_exactly(trainer: Any) -> bool:
    """Whether a run resumed from a checkpoint saved in this `on_train_batch_end` equals an uninterrupted one.

    It does not in the middle of an accumulation window, whose gradients no checkpoint holds. Nor does it if
    a validation or the end of the epoch is next: Lightning 2.6.6 (fit_loop.py, `reset`;
    training_epoch_loop.py, `advance`) skips those when it resumes.
    """
    loop = trainer.fit_loop.epoch_loop
    if loop._should_accumulate() or loop._is_training_done:
        return False
    return not loop._should_check_val_fx(trainer.fit_loop._data_fetcher)


def check_end(trainer: Any) -> None:
    """Refuse a run without an end: the learning rate could not fall to 0."""
    if trainer.max_epochs in (None, -1) and trainer.max_steps in (None, -1):
        raise UserError("a linear decay needs an end: set --trainer.max_epochs or --trainer.max_steps")


def check_schedule(trainer: Any, datamodule: Any) -> None:
    """Refuse settings that Lightning would refuse too late, after files were written.

    Args:
        trainer: The trainer, before it starts.
        datamodule: The data module, set up for `fit` and not attached to the trainer yet.
    """
    check_end(trainer)
    for name in ("max_epochs", "max_steps", "accumulate_grad_batches", "limit_train_batches"):
        if getattr(trainer, name) == 0:
            raise UserError(f"expected --trainer.{name} above 0, found 0: there would be nothing to train")
    if getattr(trainer, "_val_check_time_interval", None) is not None:
        raise UserError(
            "expected --trainer.val_check_interval as a number of batches or a share of an epoch, found a "
            "time: a resumed run would validate at other steps; last.ckpt is saved every few minutes anyway"
        )
    num_train_rows = len(datamodule.splits["train"].rows)
    if num_train_rows < trainer.world_size:
        raise UserError(
            f"expected a training row for each of {trainer.world_size} processes, found {num_train_rows}; "
            "lower --trainer.devices"
        )
    batches = _check_limit(trainer, "train", datamodule.num_train_batches(trainer.world_size))
    if trainer.limit_val_batches:
        _check_limit(trainer, "val", datamodule.num_evaluation_batches("validation", trainer.world_size))
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


def check_evaluation(trainer: Any, datamodule: Any, command: str) -> None:
    """Refuse a `validate` or `test` (the `command`) that would measure nothing."""
    kind = "val" if command == "validate" else "test"
    for split in ["validation"] if kind == "val" else datamodule.tested_splits():
        _check_limit(trainer, kind, datamodule.num_evaluation_batches(split, trainer.world_size))


def limit_in_words(trainer: Any, kind: str) -> str:
    """The setting that limits the batches of `train`, `val` or `test`, and its value."""
    limit = getattr(trainer, f"limit_{kind}_batches")
    if trainer.overfit_batches and kind != "test":
        return f"trainer.overfit_batches={limit}"
    if trainer.fast_dev_run:
        return f"trainer.fast_dev_run={trainer.fast_dev_run}"
    return f"trainer.limit_{kind}_batches={limit}"


def _check_limit(trainer: Any, kind: str, batches: int) -> int:
    """The batches of `train`, `val` or `test` (the `kind`) that its limit leaves; refuses a limit to none."""
    limit = getattr(trainer, f"limit_{kind}_batches")
    flag = limit_in_words(trainer, kind).partition("=")[0]
    # Lightning 2.6.6 (trainer/setup.py) does not check this one: 2.0 would be twice an epoch.
    if flag == "trainer.overfit_batches" and isinstance(limit, float) and limit > 1:
        raise UserError(f"expected --{flag} of at most 1.0 as a share, found {limit}; write {limit:.0f}")
    left = limited(batches, limit)
    if left == 0:
        words = {"train": "train on", "val": "validate on", "test": "test on"}[kind]
        raise UserError(
            f"expected --{flag} that leaves a batch, found {limit} of the {batches} to {words}; write a "
            "larger share, or a whole number of batches"
        )
    return left
