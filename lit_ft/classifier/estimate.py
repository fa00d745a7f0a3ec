"""`fit --estimate`: how long a run will take and how much memory it needs, from ten of its steps.

The plan of the batches is known before the run: which texts, padded to which length. So ten optimizer steps
on short, middle and long ones tell what a step and a token cost, and the plan how many of both there are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback

from lit_ft.classifier.optim import limited, num_training_steps
from lit_ft.console import say
from lit_ft.data.batching import GroupedBatchSampler
from lit_ft.errors import UserError
from lit_ft.machine import memory_gb, peak_memory_gb
from lit_ft.reliability.processes import largest

STEPS = 10
# Places of the measured steps in the order of their length, 1 is the longest. The others are the middles of
# eight equal parts, short and long in turn, so that a machine that slows down does not pass for a long batch.
PLACES = (1.0, *(place / 16 for place in (1, 9, 5, 13, 3, 11, 7, 15)))
VALIDATION_PLACES = (1.0, *(place / 8 for place in (1, 5, 3, 7)))  # the same for batches of a validation
# Batches of a measured step: more, as accumulate_grad_batches may ask for, cost as much each, as the
# optimizer's own part of four is small.
MOST_BATCHES = 4
LEAST_MARGIN = 0.1  # of the time: a machine is not equally fast for ten steps and for hours
DRAWING_SECONDS = 2.0  # at most, for a validation's pictures
SLOW_DISK = 100e6  # bytes a second, of the two checkpoints at a validation
ADAM_BYTES = 12  # of a checkpoint for each weight in float32: its value and AdamW's two moments
SLOW_SECONDS = 10.0  # of a step: then it is said how long the others take
END_SECONDS = 5.0  # at most, for model/ and report.html

NOTHING_KEPT: dict[str, Any] = {  # the Trainer's settings with which nothing is written
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "profiler": None,
    "max_time": None,
}


def check(settings: Any) -> None:
    """Refuse flags of `fit` that `--estimate` would ignore.

    Args:
        settings: The parsed settings of `fit`.

    Raises:
        UserError: The flag, and what to leave out.
    """
    if settings.ckpt_path is not None:
        raise UserError("--estimate is for a run from its start; leave out --ckpt_path")
    if settings.trainer.fast_dev_run:
        raise UserError(
            f"--trainer.fast_dev_run={settings.trainer.fast_dev_run} ends after a few batches, and there "
            "is nothing to estimate; leave out one of --estimate and --trainer.fast_dev_run"
        )


def left_out(trainer: Any) -> list[str]:
    """A line on the Trainer's parsed settings that the estimate does without, or none."""
    given = [name for name in ("callbacks", "profiler", "max_time") if trainer[name]]
    given += ["logger"] * (trainer.logger not in (None, True, False))
    named = ", ".join(f"trainer.{name}" for name in given)
    return [f"  without {named}, which may take time or end the run sooner"] if given else []


def chosen_steps(costs: Sequence[tuple[int, int]], size: int) -> list[list[int]]:
    """The batches of ten steps: twice the longest, then eight from short to long.

    The first step is a warm-up, which allocates the memory of the longest batch, or fails at once. The second
    needs the most memory, as the optimizer's state is there by then.

    Args:
        costs: Computed tokens and width of each batch of the plan.
        size: Batches of an optimizer step.

    Returns:
        For each step the places of its batches in the plan, neighbours in length; a short plan is repeated.
    """
    order = sorted(range(len(costs)), key=lambda place: (costs[place], place))
    last = max(len(order) - size, 0)
    starts = [round(place * last) for place in (1.0, *PLACES)]
    return [[order[(start + i) % len(order)] for i in range(size)] for start in starts]


@dataclass(frozen=True)
class Cost:
    """Seconds of steps, as a straight line over their tokens.

    Attributes:
        fixed: Seconds of each step.
        per_token: Seconds of each computed token.
        error: Standard error of the mean step, as a share of it.
    """

    fixed: float
    per_token: float
    error: float

    @classmethod
    def fitted(cls, tokens: Sequence[float], seconds: Sequence[float]) -> "Cost":
        """Least squares over steps; no part of the cost is below 0."""
        x, y = np.array(tokens, float), np.array(seconds, float)  # (K,)
        spread = x - x.mean()
        slope = float(spread @ y / (spread @ spread)) if spread.any() else 0.0
        slope = max(slope, 0.0)
        fixed = float(y.mean() - slope * x.mean())
        if fixed < 0:
            fixed, slope = 0.0, float(x @ y / (x @ x))
        residual = y - fixed - slope * x
        error = float(np.sqrt(residual @ residual / max(len(y) - 2, 1) / len(y)) / max(y.mean(), 1e-9))
        return cls(fixed, slope, error)

    def of(self, steps: float, tokens: float) -> float:
        """Seconds of this many steps with this many tokens in all."""
        return steps * self.fixed + tokens * self.per_token


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        steps: Its optimizer steps.
        training: Their seconds.
        validations: How many validations there are.
        validation: Seconds of all of them.
        start: Seconds until the first step, and what the first one takes more than others.
        error: Standard error of the time of a step, as a share of it.
        weights: Weights of the model.
        memory: Peak memory of the process that needs most, in 10^9 bytes.
        of_memory: The memory of the device.
        processes: The processes that share the run.
    """

    steps: int
    training: float
    validations: int
    validation: float
    start: float
    error: float
    weights: int
    memory: float
    of_memory: float
    processes: int

    @property
    def seconds(self) -> tuple[float, float]:
        """The least and the most seconds to be expected of the run."""
        middle = self.training + self.validation + self.start
        margin = max(LEAST_MARGIN, 2 * self.error)
        saved = DRAWING_SECONDS + 2 * ADAM_BYTES * self.weights / SLOW_DISK
        return middle * max(1 - margin, 0.5), middle * (1 + margin) + self.validations * saved + END_SECONDS

    def lines(self) -> list[str]:
        """The estimate in words."""
        each = f", each of {self.processes} processes" * (self.processes > 1)
        a_step = self.training / self.steps
        parts = [f"training {about(self.training)} ({self.steps:,} steps of {a_step:.2g} s)"]
        if self.validations:
            plural = "s" * (self.validations > 1)
            parts.append(f"{self.validations:,} validation{plural} {about(self.validation)}")
        return [
            f"estimate: {span(*self.seconds)}; memory: {self.memory:.1f} of {self.of_memory:.1f} GB{each}",
            f"  {', '.join([*parts, f'start {about(self.start)}'])}",
        ]


UNITS = ((1, "s", 100), (60, "min", 100), (3600, "h", np.inf))  # seconds of each, and how many are named


def span(low: float, high: float) -> str:
    """A range of seconds in words, rounded outwards: 11 to 14 min."""
    unit, name = next((unit, name) for unit, name, most in UNITS if high < most * unit)
    digits = 0 if low >= 10 * unit else 1
    ends = np.floor(low / unit * 10**digits), np.ceil(high / unit * 10**digits)
    return " to ".join(f"{end / 10**digits:.{digits}f}" for end in ends) + f" {name}"


def about(seconds: float) -> str:
    """Seconds in words with two digits: 11 min."""
    unit, name = next((unit, name) for unit, name, most in UNITS if seconds < most * unit)
    return f"{seconds / unit:.{0 if seconds >= 10 * unit else 1}f} {name}"


class Rehearsal(Callback):
    """Has a Trainer train ten steps of its run and validate a few batches, and measures both.

    As Lightning's own tuners do, it sets the limits of a Trainer that has the run's settings otherwise. Give
    it last, so that the other callbacks belong to the time of a step.

    Args:
        begun: `time.monotonic()` when the command began.
    """

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self._train: list[float] = []  # seconds of each step
        self._validation: list[float] = []  # of each batch, and at last of what follows them
        self._since: float | None = None
        self._ready = 0.0
        self._memory = 0.0

    # ---- what is run ---------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Choose the batches, while the Trainer has the limits of the run; then limit it to them."""
        datamodule = trainer.datamodule
        train = cast(GroupedBatchSampler, datamodule.train_dataloader().batch_sampler)
        used = limited(len(train), trainer.limit_train_batches)
        plan = train.plan(0)[:used]
        size = min(trainer.accumulate_grad_batches, used, MOST_BATCHES)
        costs = [(train.computed_tokens(batch), train.width(batch)) for batch in plan]
        steps = chosen_steps(costs, size)
        self._num_steps = num_training_steps(trainer)
        epochs = self._num_steps / -(-used // trainer.accumulate_grad_batches)
        self._num_like = used * epochs / size  # steps of the run, if all were like those that are measured
        self._num_tokens = sum(tokens for tokens, _ in costs) * epochs
        self._step_tokens = [sum(costs[place][0] for place in step) for step in steps]
        self._num_validations = num_validations(trainer, used, self._num_steps)
        share = trainer.limit_val_batches
        fit_loop = trainer.fit_loop
        trainer.limit_train_batches = trainer.val_check_interval = 1.0
        trainer.limit_val_batches = 1.0 if self._num_validations else 0
        trainer.overfit_batches, trainer.check_val_every_n_epoch = 0.0, 1
        trainer.accumulate_grad_batches, trainer.num_sanity_val_steps = size, 0
        fit_loop.max_epochs, fit_loop.min_epochs = 1, None
        fit_loop.epoch_loop.max_steps, fit_loop.epoch_loop.min_steps = -1, None
        datamodule.chosen["train"] = [plan[place] for step in steps for place in step]
        if self._num_validations:
            self._choose_validation(datamodule, share)
        rows = [len(plan[step[0]]) // trainer.world_size for step in steps]
        widths = sorted((costs[step[0]][1], count) for step, count in zip(steps, rows, strict=True))
        shown = " to ".join(f"{count} x {width}" for width, count in (widths[0], widths[-1]))
        say(f"estimate: {STEPS} steps on batches of {shown} tokens; nothing is kept")

    def _choose_validation(self, datamodule: Any, limit: int | float) -> None:
        sampler = cast(GroupedBatchSampler, datamodule.val_dataloader().batch_sampler)
        plan = sampler.plan(0)
        costs = [(sampler.computed_tokens(batch), sampler.width(batch)) for batch in plan]
        order = sorted(range(len(plan)), key=costs.__getitem__)
        places = [round(share * (len(plan) - 1)) for share in VALIDATION_PLACES]
        chosen = [order[place] for place in dict.fromkeys(places)]
        datamodule.chosen["validation"] = [plan[place] for place in chosen]
        self._val_tokens = [costs[place][0] for place in chosen]
        self._num_val_batches = limited(len(plan), limit)
        whole = sum(tokens for tokens, _ in costs)
        self._num_val_tokens = whole * self._num_val_batches / len(plan)

    # ---- the clock -----------------------------------------------------------------------------------

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        if self._since is None:
            self._since, self._ready = time.perf_counter(), time.monotonic() - self.begun

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the time of a step, from the end of the one before: it includes fetching its batches."""
        if not trainer.fit_loop._should_accumulate():
            self._train.append(self._lap(trainer))
            if len(self._train) == 1 and self._train[0] > SLOW_SECONDS:
                first, left = about(self._train[0]), about((STEPS - 1) * self._train[0])
                say(f"the first step, of the longest texts, took {first}: at most {left} to go")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Restart the clock."""
        self._lap(trainer)

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        """Note the time of a batch."""
        self._validation.append(self._lap(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the time of the metrics."""
        self._validation.append(self._lap(trainer))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Note the memory of the process that needs most."""
        device = trainer.strategy.root_device
        peak = int(peak_memory_gb(device.type) * 1e6)
        self._memory = largest(peak, device, trainer.world_size) / 1e6

    def _lap(self, trainer: Any) -> float:
        """Seconds since the last call; on a GPU when all its work is done."""
        device = trainer.strategy.root_device
        if device.type != "cpu":
            torch.accelerator.synchronize()
        now = time.perf_counter()
        took, self._since = now - (self._since or now), now
        return took

    # ---- what it tells -------------------------------------------------------------------------------

    def estimate(self, trainer: Any, pl_module: Any) -> Estimate:
        """The estimate, once the trainer has run."""
        assert len(self._train) == STEPS
        cost = Cost.fitted(self._step_tokens[1:], self._train[1:])
        warm_up = max(self._train[0] - cost.of(1, self._step_tokens[0]), 0.0)
        validation = 0.0
        if self._num_validations:
            *batches, metrics = self._validation
            of_batches = Cost.fitted(self._val_tokens, batches)
            validation = of_batches.of(self._num_val_batches, self._num_val_tokens) + metrics
        device = trainer.strategy.root_device.type
        return Estimate(
            steps=self._num_steps,
            training=cost.of(self._num_like, self._num_tokens),
            validations=self._num_validations,
            validation=self._num_validations * validation,
            start=self._ready + warm_up,
            error=cost.error,
            weights=sum(weight.numel() for weight in pl_module.parameters()),
            memory=self._memory,
            of_memory=memory_gb(device),
            processes=trainer.world_size,
        )


def num_validations(trainer: Any, batches: int, steps: int) -> int:
    """Validations of a run, as Lightning counts them (training_epoch_loop.py, `_should_check_val_fx`).

    Args:
        trainer: A trainer with the settings of the run.
        batches: Training batches of an epoch and process.
        steps: Optimizer steps of the run.
    """
    if not trainer.limit_val_batches:
        return 0
    steps_an_epoch = -(-batches // trainer.accumulate_grad_batches)
    epochs, rest = divmod(steps, steps_an_epoch)
    rest *= trainer.accumulate_grad_batches  # batches of an epoch that max_steps cuts off
    interval, every = trainer.val_check_interval, trainer.check_val_every_n_epoch
    if every is None:
        return (epochs * batches + rest) // interval
    interval = interval if isinstance(interval, int) else max(1, int(batches * interval))
    cut = rest // interval if (epochs + 1) % every == 0 else 0
    return epochs // every * (batches // interval) + cut
