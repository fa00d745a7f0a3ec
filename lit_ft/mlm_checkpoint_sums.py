"""Leaf: a checkpoint folder is whole where its files are on the disk, and their checksums, which come last.

transformers 5.23 writes a checkpoint in its place, file by file, and flushes none of them.
"""

import contextlib
import json
import os
import zlib
from pathlib import Path

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
