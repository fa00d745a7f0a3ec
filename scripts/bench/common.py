"""What the benchmarks share: recipes in fresh processes, interleaved rounds, medians, a table and JSON."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from clock import Clock, Enough

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

EPOCHS = 1_000  # more than any machine gets through before it has been measured
MAX_TOKENS = 512
TOKEN_BUDGET = 4_096


@dataclass
class Row:
    """One recipe: medians over the rounds."""

    recipe: str
    tokens_per_second: float
    real_share: float
    peak_bytes: float
    page_faults_per_second: float
    rounds: list[float] = field(default_factory=list)  # tokens per second of each
    squares_per_second: float = 0.0  # of the texts' lengths
    flop_utilisation: float | None = None  # share of the matrix-product peak; None if not measured


def with_caches(folder: Path | str) -> dict[str, str]:
    """The environment of a process that keeps its caches and temporary files in this folder."""
    caches = {
        "LIT_FT_CACHE": "lit_ft",
        "HF_DATASETS_CACHE": "datasets",
        "TORCHINDUCTOR_CACHE_DIR": "inductor",
    }
    return {**os.environ, **{key: f"{folder}/{name}" for key, name in caches.items()}, "TMPDIR": str(folder)}


def run_child(script: str, recipe: str, args: Sequence[str]) -> dict[str, Any]:
    """One recipe in a fresh process, with a folder and caches of its own; its last line of output is JSON."""
    call = [sys.executable, script, "--child", recipe, *args]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        done = subprocess.run(call, capture_output=True, text=True, cwd=folder, env=with_caches(folder))
    if done.returncode:
        raise SystemExit(f"{recipe} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def set_own_environment() -> None:
    """For a process that runs our code, before torch is imported: the defaults that `python -m lit_ft` sets.

    Never for others: their users have no such defaults.
    """
    from lit_ft.machine import set_environment

    assert "torch" not in sys.modules, "torch has read its environment already"
    set_environment()


def run_ours(args: Sequence[str]) -> None:
    """Our command line in this process; exits with its code if it fails."""
    from lit_ft.__main__ import main

    if code := main(list(args)):
        raise SystemExit(code)


def measure(recipe: Callable[[], None], clock: Clock) -> None:
    """Run a recipe in this process and print its figures as the last line, below a progress bar."""
    try:
        recipe()
    except Enough:
        pass
    print("\n" + json.dumps(clock.figures()))


def interleave(
    recipes: Sequence[str], rounds: int, measure: Callable[[str], dict[str, float]]
) -> dict[str, Row]:
    """Measure every recipe once a round, so that a slow phase of the machine affects all of them."""
    found: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in recipes}
    for number in range(rounds):
        for recipe in recipes:
            place, begun = f"round {number + 1} of {rounds}: {recipe}", time.monotonic()
            sys.stderr.write(f"{place} ...\n")
            found[recipe].append(measure(recipe))
            speed = found[recipe][-1]["tokens_per_second"]
            took = time.monotonic() - begun
            sys.stderr.write(f"{place} {speed:,.0f} tokens/s ({took:.0f} s)\n")
    return {recipe: as_row(recipe, figures) for recipe, figures in found.items()}


def as_row(recipe: str, figures: Sequence[dict[str, float]]) -> Row:
    """The medians of one recipe's rounds."""
    keys = ("tokens_per_second", "real_share", "peak_bytes", "page_faults_per_second", "squares_per_second")
    middle = {key: median(one[key] for one in figures) for key in keys}
    return Row(recipe, **middle, rounds=[one["tokens_per_second"] for one in figures])


def table(rows: Sequence[Row], ratios: dict[str, float], asked: dict[str, str]) -> str:
    """Rows as Markdown, then ratios beside what is asked of them."""
    lines = ["| recipe | real tokens/s | real share | peak GB | page faults/s |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.recipe} | {row.tokens_per_second:,.0f} | {row.real_share:.3f} | "
        f"{row.peak_bytes / 1e9:.1f} | {row.page_faults_per_second:,.0f} |"
        for row in rows
    ]
    if all(row.flop_utilisation is not None for row in rows):
        added = [" FLOP utilisation |", "---|", *(f" {row.flop_utilisation:.2f} |" for row in rows)]
        lines = [line + cell for line, cell in zip(lines, added, strict=True)]
    lines += [
        "",
        "| ratio | measured | asked |",
        "|---|---|---|",
        *(f"| {name} | {ratio:.2f} | {asked[name]} |" for name, ratio in ratios.items()),
    ]
    return "\n".join(lines)


def report(
    rows: Sequence[Row], ratios: dict[str, float], asked: dict[str, str], path: str | None, note: str
) -> None:
    """Print the table; write the JSON if there is a path."""
    import torch

    from lit_ft.machine import hardware, library_versions

    where = hardware() if torch.cuda.is_available() else f"{hardware()}; no GPU here"
    print(f"\n{where}, Python {platform.python_version()}, torch {torch.__version__}. {note}\n")
    print(table(rows, ratios, asked))
    if path:
        values = {"versions": library_versions(), "hardware": hardware()}
        values |= {"rows": [asdict(row) for row in rows], "ratios": ratios, "asked": asked, "note": note}
        Path(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder with our caches and torch's, the package's own path, and no Hub, until it goes."""
    before = dict(os.environ)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        # For this process, too: torch._dynamo makes its folder while it is imported.
        os.environ.update(with_caches(folder))
        try:
            yield Path(folder)
        finally:
            os.environ.clear()
            os.environ.update(before)
