"""The Trainer's settings: those that do not work here are refused before data is read."""

import math
from collections.abc import Sequence
from enum import Enum
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.plugins import FSDPPrecision
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from lit_ft.console import warn
from lit_ft.errors import UserError
from lit_ft.settings.bounds import FROM_0, Bounds, check_bounds

REFUSED: dict[str, tuple[Any, str]] = {  # setting -> the value that works, why others do not
    "barebones": (False, "it forbids checkpoints, logs and callbacks, which every run needs; leave it out"),
    "enable_checkpointing": (
        True,
        "runs are measured, exported and resumed from checkpoints; --trainer.fast_dev_run=true keeps none",
    ),
    "use_distributed_sampler": (
        False,
        "lit_ft already distributes its batches among processes, and Lightning's sampler cannot wrap them; "
        "leave it out",
    ),
    "model_registry": (None, "lit_ft sends nothing anywhere; leave it out, and upload the run's model/"),
}
TRAINER_BOUNDS: Bounds = {  # of numbers that Lightning does not check, or only in the middle of a run
    "trainer.log_every_n_steps": FROM_0,
    "trainer.gradient_clip_val": FROM_0,
    "trainer.reload_dataloaders_every_n_epochs": FROM_0,
    "trainer.num_sanity_val_steps": (-1, math.inf),
}
ABOVE_0 = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
ONE_CLASS = ("callbacks", "logger")  # flags that, given twice, would replace the first value


def check_trainer_settings(trainer: Any, args: Sequence[str], command: str) -> None:
    """Refuse settings that are wrong for any data.

    Args:
        trainer: The parsed settings of the Trainer.
        args: The command line.
        command: The command; some checks concern `fit` alone.

    Raises:
        UserError: The value that was found, and what is expected.
    """
    for name, (value, why) in REFUSED.items():
        if trainer[name] != value and trainer[name] is not None:
            found = str(trainer[name]).lower() if isinstance(trainer[name], bool) else trainer[name]
            raise UserError(f"trainer.{name} {found} does not work here: {why}")
    for name in ONE_CLASS:
        flags = [arg for arg in args if arg.partition("=")[0] == f"--trainer.{name}"]
        if len(flags) > 1:
            raise UserError(
                f"found --trainer.{name} {len(flags)} times; write --trainer.{name}+= to add another"
            )
    if "xla" in str(trainer.profiler).lower():
        raise UserError(
            "trainer.profiler xla is for TPUs; set --trainer.profiler=simple, advanced or pytorch"
        )
    if "cpu" in str(trainer.accelerator).lower() and not _is_cpu_count(trainer.devices):
        raise UserError(
            f"expected --trainer.devices as a number of processes above 0 on CPUs, found {trainer.devices}; "
            "set --trainer.devices=1"
        )
    if command != "fit":
        return
    check_bounds(vars(trainer), TRAINER_BOUNDS, "trainer.")
    for name in ABOVE_0:
        if isinstance(trainer[name], (int, float)) and trainer[name] <= 0:
            hint = "; to skip validation set --trainer.limit_val_batches=0" if "val_" in name else ""
            raise UserError(f"expected --trainer.{name} above 0, found {trainer[name]}{hint}")
    taken = [f"--trainer.limit_{kind}_batches" for kind in ("train", "val")]
    taken = [flag for flag in taken if trainer[flag.removeprefix("--trainer.")] is not None]
    if trainer.overfit_batches and taken:
        raise UserError(
            f"--trainer.overfit_batches={trainer.overfit_batches} limits training and validation; leave it "
            f"out, or {' and '.join(taken)}"
        )
    if trainer.gradient_clip_algorithm is not None and not trainer.gradient_clip_val:
        warn("trainer.gradient_clip_algorithm has no effect without --trainer.gradient_clip_val")
    if trainer.default_root_dir is not None:
        warn("trainer.default_root_dir has no effect: runs are in runs/NAME of the working folder")
    least, most = trainer.min_epochs, trainer.max_epochs
    if least is not None and most not in (None, -1) and least > most:
        raise UserError(
            f"expected --trainer.min_epochs of at most {most} (trainer.max_epochs), found {least}: the run "
            f"would end earlier; set --trainer.max_epochs={least}"
        )


def check_built(trainer: Any, settings: Any) -> None:
    """Refuse, or warn of, what is known only once the Trainer is built from its parsed settings."""
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        found = getattr(settings.strategy, "class_path", settings.strategy)
        raise UserError(
            f"expected a strategy that starts separate processes, found trainer.strategy {found}: "
            "the results of copies of this process would be lost; set --trainer.strategy=ddp"
        )
    clips = bool(settings.gradient_clip_val) and settings.gradient_clip_algorithm != "value"
    if clips and isinstance(trainer.precision_plugin, FSDPPrecision):
        raise UserError(
            "FSDP cannot clip by the norm in Lightning 2.6: leave out --trainer.gradient_clip_val, or set "
            "--trainer.gradient_clip_algorithm=value"
        )
    if settings.precision in ("16", "16-mixed", 16) and trainer.precision == "bf16-mixed":
        warn(f"trainer.precision {settings.precision} is computed as bf16-mixed on a CPU")


def as_plain_values(trainer: Any) -> None:
    """Replace enum members in the settings of classes by their values, which a config can hold.

    A Timer's `interval` is an enum member, which jsonargparse 4.53 cannot write.
    """
    for name in ("callbacks", "logger", "profiler", "plugins"):
        found = trainer[name] if isinstance(trainer[name], list) else [trainer[name]]
        for entry in found:
            settings: Namespace = getattr(entry, "init_args", None) or Namespace()
            for key, value in vars(settings).items():
                if isinstance(value, Enum):
                    settings[key] = value.value


def has_precision_plugin(trainer: Any) -> bool:
    """Whether a plugin sets the precision, which Lightning then takes from nowhere else."""
    plugins = trainer.plugins if isinstance(trainer.plugins, list) else [trainer.plugins]
    return any("Precision" in str(getattr(plugin, "class_path", "")) for plugin in plugins)


def _is_cpu_count(devices: Any) -> bool:
    """Whether `trainer.devices` is `auto` or a number of CPU processes."""
    text = str(devices).strip()
    return text == "auto" or (text.isdigit() and int(text) > 0)
