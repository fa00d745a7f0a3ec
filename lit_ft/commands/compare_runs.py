"""Where two runs differ: weights, optimizer, curves and metrics, bit by bit, except time and memory."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_ft import runs
from lit_ft.masked_lm.resume import STATE, newest_checkpoint, state_of

TAKEN = ("seconds", "_second", "memory_gb")  # suffixes of tags that measure cost, not results
KEPT = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "temperature", "thresholds")


@dataclass
class Comparison:
    """What was compared, and what differs.

    Attributes:
        counts: `weights`, `optimizer states`, `points of curves`, `metrics` -> how many there are.
        differences: One line each; those of the curves come first, by step.
    """

    counts: dict[str, int] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        if not self.differences:
            return "bit-identical: " + ", ".join(f"{count:,} {what}" for what, count in self.counts.items())
        more = f" (and {len(self.differences) - 1} more)" if len(self.differences) > 1 else ""
        return f"they first differ in {self.differences[0]}{more}"


def compare_runs(one: Path, other: Path) -> Comparison:
    """Compare the folders of two finished runs of `fit` or `sft`."""
    found = Comparison()
    for what, read in (
        ("points of curves", _curves),
        ("weights", _weights),
        ("optimizer states", _optimizer),
        ("metrics", _metrics),
    ):
        here, there = dict(read(one)), dict(read(other))
        found.counts[what] = len(here)
        for key in sorted(here.keys() | there.keys(), key=_place):
            if key not in here or key not in there:
                missing = other if key in here else one
                found.differences.append(f"{_named(key)}: not in {missing}")
            elif not _same(here[key], there[key]):
                found.differences.append(f"{_named(key)}: {_told(here[key], there[key])}")
    return found


def num_steps(run: Path) -> int:
    """The number of optimizer steps of a run's last checkpoint."""
    if checkpoint := _checkpoint(run):
        return int(checkpoint["global_step"])
    newest = newest_checkpoint(run / runs.CHECKPOINTS)
    return 0 if newest is None else state_of(newest)[0]


def _place(key: Any) -> tuple[int, str]:
    return (key[0], key[1]) if isinstance(key, tuple) else (0, str(key))


def _named(key: Any) -> str:
    return f"{key[1]} at step {key[0]}" if isinstance(key, tuple) else str(key)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    return repr(a) == repr(b)  # nan is nan


def _told(a: Any, b: Any) -> str:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and a.shape == b.shape:
        return f"by {float((a.double() - b.double()).abs().max()):.3g} at most"
    return f"{a!r} against {b!r}"


def _curves(run: Path) -> Iterator[tuple[tuple[int, str], Any]]:
    """(step, tag) -> value, as TensorBoard shows it; for tags that measure cost only the step."""
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of every point that a resume hides
    events = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            yield (event.step, tag), None if tag.endswith(TAKEN) else event.value


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Nested values -> (path, number or tensor)."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{name}.{i}")
    else:
        yield name, value


def _checkpoint(run: Path) -> dict[str, Any]:
    """The last checkpoint of a fit; {} for an sft."""
    path = run / runs.CHECKPOINTS / "last.ckpt"
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}


def _weights(run: Path) -> Iterator[tuple[str, Any]]:
    weights = _checkpoint(run).get("state_dict") or load_file(run / runs.MODEL / "model.safetensors")
    yield from weights.items()


def _optimizer(run: Path) -> Iterator[tuple[str, Any]]:
    state = {key: value for key, value in _checkpoint(run).items() if key in KEPT and key != "state_dict"}
    newest = newest_checkpoint(run / runs.CHECKPOINTS)
    if not state and newest is not None:
        for name in ("optimizer.pt", "scheduler.pt"):
            state[name] = torch.load(newest / name, map_location="cpu", weights_only=True)
    yield from _flat(state, "optimizer")


def _metrics(run: Path) -> Iterator[tuple[str, Any]]:
    """`metrics.json`, which is rounded, and each evaluation with all digits, from the last checkpoint."""
    for tag, value in (*runs.read_metrics(run).items(), *_flat(_history(run), "history")):
        if not tag.endswith(TAKEN):
            yield tag, value


def _history(run: Path) -> Any:
    """The losses and the evaluations of a run, not rounded, from its last checkpoint."""
    callbacks = _checkpoint(run).get("callbacks", {})
    if kept := [state for name, state in callbacks.items() if name.startswith("LossHistory")]:
        return kept[0]
    newest = newest_checkpoint(run / runs.CHECKPOINTS)
    return [] if newest is None else json.loads((newest / STATE).read_text(encoding="utf-8"))["log_history"]
