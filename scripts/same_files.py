"""Did two runs leave the same? All files of two folders, bit by bit: the part `runs` of scripts/same_run.py.

Checkpoints, optimizer states and JSON are compared value by value, TensorBoard's events tag by tag and point
by point, pages by their words, everything else by its bytes. What the clock or the memory says is left out.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from same_code import plain

# Ends of what hangs on the clock and on memory; a checkpoint's `form` is a sum that has the clock in it.
CLOCKS = ("seconds", "_second", "memory_gb", "finished", "/form")
# What a run that was stopped has of its own: the command that went on, and the checkpoint of the signal.
RESUMED = ("/command", "/kth_best_model_path", "README.md", "report.html")
UNCOMPARED = ("training_args.bin", "checksums.json")  # a pickle; sums of files that have the clock in them


def flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Nested values -> (path, tensor or text)."""
    if isinstance(value, (dict, list, tuple)):
        yield name, f"{len(value)} values"
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(inner, f"{name}/{plain(str(key))}")
    else:
        yield name, value if hasattr(value, "untyped_storage") else plain(repr(value))


def contents(file: Path) -> Iterator[tuple[str, Any]]:
    """(place, value) of what is in a file of a run, without what the clock and the memory say."""
    import torch
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from transformers.trainer_pt_utils import safe_globals

    if file.name.startswith("events.out"):
        events = EventAccumulator(str(file.parent), size_guidance={"scalars": 0}).Reload()  # all files there
        for kind, tags in events.Tags().items():
            yield kind, sorted(tags) if isinstance(tags, list) else tags
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                yield f"{tag} at step {event.step}", None if tag.endswith(CLOCKS) else event.value
    elif file.suffix in (".ckpt", ".pt", ".pth"):
        with safe_globals():  # numpy's random state
            yield from flat(torch.load(file, map_location="cpu", weights_only=True), "")
    elif file.suffix == ".json":
        yield from flat(json.loads(file.read_text(encoding="utf-8")), "")
    elif file.name in ("report.html", "README.md"):  # dates, times, pictures of speeds: the words only
        yield "", re.sub(r"base64,[\w+/=]+|[0-9.,:]+", "0", file.read_text(encoding="utf-8"))
    else:
        yield "", file.read_bytes()


def files_of(run: Path) -> dict[str, Path]:
    """The files of a run folder, by their places; of TensorBoard's one stands for all of them."""
    files = (file for file in sorted(run.rglob("*")) if file.is_file())
    return {re.sub(r"(events\.out\.tfevents).*", r"\1", str(file.relative_to(run))): file for file in files}


def compare_folders(old: Path, new: Path, resumed: bool = False) -> tuple[str, list[str]]:
    """How much was compared in two run folders, and a line for each file that differs.

    Args:
        old: The one.
        new: The other.
        resumed: Whether the other was stopped on its way, and went on.
    """
    uncompared = UNCOMPARED + RESUMED * resumed
    here, there = files_of(old), files_of(new)
    found = [f"lost: {name}" for name in sorted(here.keys() - there.keys())]
    added = sorted(there.keys() - here.keys())
    found += [f"added: {name}" for name in added if not (resumed and "/checkpoint-" in name)]
    compared = 0
    for name in sorted(here.keys() & there.keys()):
        if name.endswith(uncompared):
            continue
        one, other = dict(contents(here[name])), dict(contents(there[name]))
        places = sorted(one.keys() | other.keys(), key=_step)
        places = [place for place in places if not place.endswith(uncompared)]
        compared += len(places)
        differ = list(filter(None, (_difference(place, one, other) for place in places)))
        if differ:
            found.append(f"{name}: {len(differ)} of {len(places)} values, the first {differ[0]}")
    return f"{len(here)} files, {compared:,} values", found


def _step(place: str) -> tuple[int, str]:
    found = re.search(r" at step (\d+)$", place)
    return int(found[1]) if found else 0, place


def _difference(place: str, one: dict[str, Any], other: dict[str, Any]) -> str | None:
    import torch

    if place not in one or place not in other:
        return f"{place}: {'lost' if place in one else 'added'}"
    a, b = one[place], other[place]
    if place.endswith(CLOCKS):
        return None
    tensors = isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
    if tensors and (a.dtype, a.shape) == (b.dtype, b.shape):
        if torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8)):
            return None
        return f"{place}: by {float((a.double() - b.double()).abs().max()):.3g} at most"
    return None if repr(a) == repr(b) else f"{place}: {told(a)} -> {told(b)}"  # nan is nan


def told(value: Any) -> str:
    """A value, shortened."""
    text = " ".join(str(value).split()) if not isinstance(value, bytes) else f"{len(value):,} bytes"
    return text if len(text) <= 70 else text[:69] + "…"
