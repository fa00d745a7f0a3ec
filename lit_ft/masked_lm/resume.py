"""Reading the checkpoints of an `sft`: which one a run resumes from, and whether it may."""

import contextlib
import json
import os
import re
import zlib
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from safetensors import SafetensorError, safe_open
from transformers.trainer_pt_utils import safe_globals

from lit_ft import runs
from lit_ft.console import say, warn
from lit_ft.errors import UserError, first_line, unusable
from lit_ft.reliability import run_owner
from lit_ft.reliability.checkpoints import lasting, refuse_other_settings

PREFIX = "checkpoint-"  # a checkpoint folder's name before the step
STATE = "trainer_state.json"
# What may change when a run is resumed, besides checkpoints.HARMLESS: none of it affects the weights.
HARMLESS = ("name", "on_full_disk", "on_nonfinite", "probes", "save_total_limit")


@dataclass(frozen=True)
class Start:
    """Where a resumed run starts.

    Attributes:
        checkpoint: The checkpoint folder.
        run: The run folder.
        step: The optimizer steps that were taken.
        total: The optimizer steps of the whole run.
        precision: The run's precision.
        settings: All settings of the run's `config.yaml`.
    """

    checkpoint: Path
    run: Path
    step: int
    total: int
    precision: Literal["32-true", "bf16-mixed"]
    settings: dict[str, Any]


def find_start(name: str, ckpt_path: str | None, resolved: str) -> Start | None:
    """Where `--ckpt_path` says that the run starts; None for a new run.

    A job that SLURM runs again resumes its own run, even without `--ckpt_path`.

    Args:
        name: The run's name.
        ckpt_path: As given.
        resolved: The present settings as YAML.

    Raises:
        UserError: The named folder is not a complete checkpoint of a run.
    """
    if ckpt_path in (None, "last") and run_owner.is_requeued():
        for run in run_owner.runs_of_job(name, fingerprint(resolved)):
            if (newest := newest_checkpoint(run / runs.CHECKPOINTS, tell=True)) is not None:
                return _start_at(newest)
        if ckpt_path is None:
            say(run_owner.nothing_to_resume(name))
    if ckpt_path is None:
        return None
    if ckpt_path != "last":
        path = Path(os.path.expanduser(ckpt_path))
        if reason := fault_of(path):
            raise UserError(f"{path}: {reason}; set --ckpt_path to last or to RUN/checkpoints/checkpoint-N")
        return _start_at(path)
    for run in runs.versions(name):
        if (newest := newest_checkpoint(run / runs.CHECKPOINTS, tell=True)) is not None:
            return _start_at(newest)
    say(f"no checkpoint 'last' in {runs.RUNS / name}: starting fresh")
    return None


def _start_at(checkpoint: Path) -> Start:
    run = runs.run_of(checkpoint)
    if run is None:
        raise UserError(
            "expected a checkpoint in a run folder, RUN/checkpoints/checkpoint-N beside RUN/config.yaml, "
            f"found {checkpoint}; start a new run from its weights with --model.pretrained={checkpoint}"
        )
    step, total = state_of(checkpoint)
    with _config_of(run):
        settings = yaml.safe_load((run / runs.CONFIG).read_text(encoding="utf-8"))
        return Start(checkpoint, run, step, total, settings["precision"], settings)


def _config_of(run: Path) -> contextlib.AbstractContextManager[None]:
    """Around the use of a run's `config.yaml`: one line if it is unusable."""
    return unusable(str(run / runs.CONFIG), "put a sound copy in its place, or start a new run")


def fingerprint(resolved: str) -> str:
    """A hash of the settings that must not change when a run is resumed."""
    settings = {key: value for key, value in yaml.safe_load(resolved).items() if key not in HARMLESS}
    return run_owner.fingerprint(lasting(settings))


def newest_checkpoint(checkpoints: Path, before: int | None = None, tell: bool = False) -> Path | None:
    """The newest complete checkpoint in a run's checkpoint folder.

    Args:
        checkpoints: The run's checkpoint folder.
        before: A step that the checkpoint has to precede.
        tell: Whether to warn of each damaged one that is skipped.
    """
    for path in sorted(checkpoints.glob(f"{PREFIX}*"), key=step_of, reverse=True):
        if before is None or step_of(path) < before:
            if (fault := fault_of(path)) is None:
                return path
            if tell:
                warn(f"{path}: {fault}; it is skipped for the one before")
    return None


def step_of(path: Path) -> int:
    """The optimizer step in a checkpoint folder's name, -1 without one."""
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def fault_of(path: Path) -> str | None:
    """Why this folder is not a complete checkpoint, None if it is; a checkpoint cut off by a kill is found.

    One without checksums counts as cut off, whatever program wrote it.
    """
    if not path.is_dir():
        return "there is no such checkpoint folder"
    for name in (STATE, SUMS):
        if not (path / name).is_file():
            return f"not a checkpoint, or cut off: it has no {name}"
    try:
        if (reason := broken(path)) is not None:
            return f"damaged ({reason})"
        state_of(path)
        with safe_open(path / "model.safetensors", framework="numpy") as weights:
            weights.keys()
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        SafetensorError,
    ) as error:
        return f"damaged ({first_line(error)})"
    for file in [path / "optimizer.pt", path / "scheduler.pt", *path.glob("rng_state*.pth")]:
        if not runs.is_readable(file):
            return f"damaged ({file.name} is missing or its checksums do not match)"
        if (reason := _more_than_values(file)) is not None:
            return f"{file.name} holds more than numbers, nothing of which was run ({reason})"
    return None


def _more_than_values(file: Path) -> str | None:
    """Why torch's `weights_only`, with which transformers loads the file, refuses it; None if it does not."""
    try:
        with safe_globals():  # numpy's arrays, of its random state
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler's errors have no common class
        found = re.search(r"Unsupported \w+: [^.]+", str(error))
        return found[0] if found else str(error).splitlines()[0]
    return None


def state_of(path: Path) -> tuple[int, int]:
    """The optimizer steps that a checkpoint has taken, and those of the whole run."""
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    if not all(isinstance(entry, dict) for entry in state["log_history"]):
        raise ValueError(f"expected the history of the run in {STATE}, found {state['log_history']!r:.40}")
    return int(state["global_step"]), int(state["max_steps"])


def check_resume(start: Start, resolved: str, num_processes: int) -> None:
    """Refuse to resume a run with other settings, or another number of processes, than it began with.

    Args:
        start: Where the run starts.
        resolved: The present settings as YAML.
        num_processes: The present number of processes.
    """
    path = start.checkpoint
    with _config_of(start.run):
        then, now = deepcopy(start.settings), yaml.safe_load(resolved)
        for settings in (then, now):
            for key in HARMLESS:
                settings.pop(key, None)
        for key in {**then["trainer_args"], **now["trainer_args"]}:
            then["trainer_args"].setdefault(key, None)
            now["trainer_args"].setdefault(key, None)
        refuse_other_settings({"settings": then}, now, path)
    began_with = len(list(path.glob("rng_state*.pth")))
    if began_with != num_processes:
        raise UserError(
            f"expected {began_with} processes, with which {path} was saved, found {num_processes}; "
            f"start with `torchrun --nproc_per_node {began_with} -m lit_ft sft ...`"
        )


SUMS = "checksums.json"  # file name -> CRC-32; a folder without it is cut off
BLOCK_BYTES = 1 << 20


def flushed_sums(folder: Path) -> dict[str, str]:
    """File name -> checksum of all files of a folder except `SUMS`, each flushed to disk."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != SUMS]
    return {path.name: _sum_of(path, flush=True) for path in files}


def is_sealed(folder: Path) -> bool:
    """Whether a folder was written completely; `broken` says whether it was damaged since."""
    return (folder / SUMS).is_file()


def broken(folder: Path) -> str | None:
    """What of a sealed folder is no longer as it was written, None if nothing.

    Raises:
        OSError, ValueError: The checksums cannot be read.
    """
    sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    if not isinstance(sums, dict):
        raise ValueError(f"expected checksums by file in {SUMS}, found {sums!r:.40}")
    for name, expected in sums.items():
        path = folder / Path(name).name
        if not path.is_file() or _sum_of(path) != expected:
            return f"{path.name} is missing or its checksum does not match"
    return None


def _sum_of(path: Path, flush: bool = False) -> str:
    total = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            total = zlib.crc32(block, total)
        if flush:
            os.fsync(file.fileno())
    return f"{total:08x}"


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries; some file systems cannot."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
