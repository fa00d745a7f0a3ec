"""Fuzzing: what is wrong with how a command ended, what it said and what it left."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from safetensors import safe_open

from lit_ft import runs

LONGEST_LINE = 1000  # characters of an error that can still be read
SENTINEL = "sentinel"  # the file that code smuggled into a checkpoint or config would make
UNFINISHED = re.compile(r"^tmp|^\.|\.incomplete|\.part|\.\d+$")  # names of files that were to get another one


def fault_of_words(code: Any, error: str) -> str | None:
    """What is wrong with a command's exit code and standard error."""
    if "Traceback (most recent call last)" in error or "panicked at" in error:
        return f"a traceback on stderr: {error[-2000:]}"
    if code == 0:
        return None
    if code != 2:
        return f"exit code {code}: {error[-500:]}"
    lines = [
        line
        for line in error.split("\n")
        if line
        and not line.startswith(("warning: ", "lit_ft: no --config"))
        and not line.endswith(": loading libraries ...")
    ]
    if len(lines) != 1 or not lines[0].startswith("lit_ft: error: "):
        return f"expected one line of error, found {len(lines)}: {error[:1500]}"
    if len(lines[0]) > LONGEST_LINE:
        return f"an error of {len(lines[0])} characters: {error[:300]} ..."
    if unprintable := [character for character in lines[0] if not character.isprintable()]:
        return f"unprintable characters {unprintable[:5]} in the error {lines[0]!r}"
    return None


def fault_of_files(folder: Path, before: dict[Path, bytes], caches: list[Path] = ()) -> str | None:
    """What is wrong with the files of a case's folder: half-written, changed, or made by smuggled code."""
    if (folder / SENTINEL).exists():
        return "code in the case's files was run"
    inputs = [path for path in before if "runs" not in path.parts]
    if changed := [path for path in inputs if not path.is_file() or path.read_bytes() != before[path]]:
        return f"changed {changed[0].name}, which it was given"
    for path in [*folder.rglob("*"), *caches]:
        if not path.is_file() or (path in before and path.read_bytes() == before[path]):
            continue
        if UNFINISHED.search(path.name) and path.suffix != ".lock" and "tfevents" not in path.name:
            return f"left the unfinished file {path}"
        try:
            _open_whole(path)
        except Exception as error:
            return f"left {path}, which cannot be read: {type(error).__name__}: {error}"
    return None


def _open_whole(path: Path) -> None:
    match path.suffix:
        case ".ckpt" | ".pt" | ".pth":
            assert runs.is_readable(path), "damaged"
        case ".json":
            json.loads(path.read_text(encoding="utf-8"))
        case ".yaml":
            assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict), "no mapping"
        case ".arrow":
            with pa.memory_map(str(path)) as file:
                pa.ipc.open_stream(file).read_all()
        case ".safetensors":
            with safe_open(path, framework="numpy") as weights:
                weights.keys()
        case ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>"), "cut off"


def temporary_left(folder: Path) -> str | None:
    left = list(folder.iterdir())
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return (
        f"left {', '.join(path.name for path in left[:5])} in the folder for temporary files"
        if left
        else None
    )
