"""The checkpoints of an `sft`, as they are read again: which one a run resumes from, and whether it may."""

import contextlib
import json
import os
import re
import zlib
from pathlib import Path
from typing import Literal

import torch
import yaml
from safetensors import SafetensorError, safe_open
from transformers.trainer_pt_utils import safe_globals

from lit_ft import runs
from lit_ft.console import say, warn
from lit_ft.errors import UserError, first_line, unusable
from lit_ft.reliability import run_owner
from lit_ft.reliability.checkpoints import lasting, refuse_other_settings

PREFIX = "checkpoint-"  # of a checkpoint folder's name, before its step
STATE = "trainer_state.json"
# What may differ between a run and its resumption, beside checkpoints.HARMLESS: none of it changes a weight.
HARMLESS = ("name", "on_full_disk", "on_nonfinite", "probes", "save_total_limit")


def find_checkpoint(name: str, ckpt_path: str | None, resolved: str) -> Path | None:
    """The checkpoint folder that `--ckpt_path` means; None where the run starts fresh.

    Of a job that SLURM runs again it is one of the job's own run, also if nothing is said.

    Args:
        name: Of the run.
        ckpt_path: As given.
        resolved: The present settings, as YAML.

    Raises:
        UserError: The named folder is no whole checkpoint of a run.
    """
    if ckpt_path in (None, "last") and run_owner.is_requeued():
        for run in run_owner.runs_of_job(name, fingerprint(resolved)):
            if (newest := newest_checkpoint(run / runs.CHECKPOINTS, tell=True)) is not None:
                return newest
        if ckpt_path is None:
            say(run_owner.nothing_to_resume(name))
    if ckpt_path is None:
        return None
    if ckpt_path != "last":
        path = Path(os.path.expanduser(ckpt_path))
        if reason := fault_of(path):
            raise UserError(f"{path}: {reason}; set --ckpt_path to last or to RUN/checkpoints/checkpoint-N")
        if runs.run_of(path) is None:
            raise UserError(
                "expected a checkpoint in a run folder, RUN/checkpoints/checkpoint-N beside RUN/config.yaml, "
                f"found {path}; start a new run from its weights with --model.pretrained={path}"
            )
        return path
    for run in runs.versions(name):
        if (newest := newest_checkpoint(run / runs.CHECKPOINTS, tell=True)) is not None:
            return newest
    say(f"no checkpoint 'last' in {runs.RUNS / name}: starting fresh")
    return None


def fingerprint(resolved: str) -> str:
    """Of the settings that a run and its resumption have in common."""
    settings = {key: value for key, value in yaml.safe_load(resolved).items() if key not in HARMLESS}
    return run_owner.fingerprint(lasting(settings))


def newest_checkpoint(checkpoints: Path, before: int | None = None, tell: bool = False) -> Path | None:
    """The newest whole checkpoint in a run's folder of them.

    Args:
        checkpoints: The folder.
        before: Only of an earlier step than this.
        tell: Name those that are passed over because they are damaged.
    """
    for path in sorted(checkpoints.glob(f"{PREFIX}*"), key=step_of, reverse=True):
        if before is None or step_of(path) < before:
            if (fault := fault_of(path)) is None:
                return path
            if tell:
                warn(f"{path}: {fault}; it is passed over for the one before")
    return None


def step_of(path: Path) -> int:
    """The optimizer step in a checkpoint folder's name, -1 where there is none."""
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else -1


def fault_of(path: Path) -> str | None:
    """Why this folder is no whole checkpoint, None where it is one; what a kill cut off is found.

    One without checksums counts as cut off, by whatever program it was written.
    """
    if not path.is_dir():
        return "there is no such checkpoint folder"
    for name in (STATE, SUMS):
        if not (path / name).is_file():
            return f"no checkpoint, or cut off: it has no {name}"
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
            return f"damaged ({file.name} is missing or its checksums do not hold)"
        if (reason := _more_than_values(file)) is not None:
            return f"{file.name} holds more than numbers, nothing of which was run ({reason})"
    return None


def _more_than_values(file: Path) -> str | None:
    """Why torch's `weights_only` refuses a file, as it will when transformers loads it in the same way."""
    try:
        with safe_globals():  # numpy's arrays, of its random state
            torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler's errors have no common class
        found = re.search(r"Unsupported \w+: [^.]+", str(error))
        return found[0] if found else str(error).splitlines()[0]
    return None


def state_of(path: Path) -> tuple[int, int]:
    """The optimizer step of a checkpoint, and of how many."""
    state = json.loads((path / STATE).read_text(encoding="utf-8"))
    if not all(isinstance(entry, dict) for entry in state["log_history"]):
        raise ValueError(f"expected the history of the run in {STATE}, found {state['log_history']!r:.40}")
    return int(state["global_step"]), int(state["max_steps"])


def precision_of(path: Path) -> Literal["32-true", "bf16-mixed"]:
    """The precision that a checkpoint's run has in its `config.yaml`."""
    run = runs.run_of(path)
    assert run is not None
    with unusable(str(run / runs.CONFIG), "put a sound copy in its place, or start a new run"):
        return yaml.safe_load((run / runs.CONFIG).read_text(encoding="utf-8"))["precision"]


def check_resume(path: Path, resolved: str, num_processes: int) -> None:
    """Refuse to go on under other settings, or on another number of processes, than the run began with.

    Args:
        path: The checkpoint folder.
        resolved: The present settings, as YAML.
        num_processes: Of the present command.
    """
    run = runs.run_of(path)
    assert run is not None
    with unusable(str(run / runs.CONFIG), "put a sound copy in its place, or start a new run"):
        then, now = yaml.safe_load((run / runs.CONFIG).read_text(encoding="utf-8")), yaml.safe_load(resolved)
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
    """File name -> checksum of all files of a folder but the checksums', each flushed to the disk."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != SUMS]
    return {path.name: _sum_of(path, flush=True) for path in files}


def is_sealed(folder: Path) -> bool:
    """Whether a folder was written to its end; what has become of it since is `broken`'s to say."""
    return (folder / SUMS).is_file()


def broken(folder: Path) -> str | None:
    """What of a sealed folder is not as it was written, None where all of it is.

    Raises:
        OSError, ValueError: The checksums cannot be read.
    """
    sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    if not isinstance(sums, dict):
        raise ValueError(f"expected checksums by file in {SUMS}, found {sums!r:.40}")
    for name, expected in sums.items():
        path = folder / Path(name).name
        if not path.is_file() or _sum_of(path) != expected:
            return f"{path.name} is missing or its checksum does not hold"
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
    """Flush a folder's own entries; some file systems know no such thing."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
