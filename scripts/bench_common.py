"""What the benchmarks share: recipes in fresh processes, interleaved rounds, medians, a table and JSON."""

import json
import math
import os
import platform
import resource
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WARM_UP_STEPS = 5
EPOCHS = 1_000  # more than any machine gets through before it has been measured
MAX_TOKENS = 512
TOKEN_BUDGET = 4_096
MOST_TEXTS = 32  # in a step, of short ones


class Enough(Exception):
    """Ends a run that has been measured for long enough."""


@dataclass
class Clock:
    """Counts what the steps of one run compute, after the first ones.

    Args:
        seconds: To measure; without them, until the run ends by itself.
        steps: To measure at least.
        warm_up: Steps that come before.
    """

    seconds: float = math.inf
    steps: int = 1
    warm_up: int = WARM_UP_STEPS
    done: int = 0
    tokens: float = 0  # real ones
    computed: int = 0  # with padding
    begun: float = 0.0
    ended: float = 0.0  # the last step: what a run does after it does not count
    faults: int = 0
    squares: float = 0  # of the texts' lengths
    # Where every text is padded to the cap a step costs the same whatever its texts are, and a window holds
    # few of them: their mean length and mean square over the whole file count instead.
    mean_row: tuple[float, float] | None = None

    def start(self) -> None:
        """Here the measured time begins."""
        self.begun, self.faults = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def step(self, attention_mask: Any) -> None:
        """A step has ended whose batch had this mask (B, T); raises Enough after the last."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.done += 1
        if self.done <= self.warm_up:
            self.start()
            return
        self.ended = now
        lengths = attention_mask.sum(1)
        sums = int(lengths.sum()), int((lengths**2).sum())
        tokens, squares = (len(lengths) * x for x in self.mean_row) if self.mean_row else sums
        self.tokens += tokens
        self.squares += squares
        self.computed += attention_mask.numel()
        if now - self.begun >= self.seconds and self.done >= self.warm_up + self.steps:
            raise Enough

    def figures(self) -> dict[str, float]:
        """What the parent reads."""
        from lit_ft.machine import peak_memory_gb

        if self.done <= self.warm_up:
            raise SystemExit(f"the run ended by itself after {self.done} steps, {self.warm_up} to warm up")
        seconds = self.ended - self.begun
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - self.faults
        return {
            "tokens_per_second": self.tokens / seconds,
            "real_share": self.tokens / self.computed,
            "peak_bytes": peak_memory_gb() * 1e9,
            "page_faults_per_second": faults / seconds,
            "squares_per_second": self.squares / seconds,
            "steps": self.done - self.warm_up,
        }


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
    flop_utilisation: float | None = None  # share of the matrix-product peak; None where not measured


def with_caches(folder: Path | str) -> dict[str, str]:
    """The environment of a process that keeps its caches and temporary files in this folder."""
    caches = {"LIT_FT_CACHE": f"{folder}/lit_ft", "HF_DATASETS_CACHE": f"{folder}/datasets"}
    return {**os.environ, **caches, "TMPDIR": str(folder)}


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
    from lit_ft.__main__ import ENVIRONMENT

    assert "torch" not in sys.modules, "torch has read its environment already"
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def run_ours(args: Sequence[str]) -> None:
    """Our command line in this process; where it fails, so does the process."""
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
    """Measure every recipe once a round, so that a slow spell of the machine meets all of them."""
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
    """Print the table; write the JSON where one is wanted."""
    import torch

    from lit_ft.machine import hardware, versions

    where = hardware() if torch.cuda.is_available() else f"{hardware()}; no GPU here"
    print(f"\n{where}, Python {platform.python_version()}, torch {torch.__version__}. {note}\n")
    print(table(rows, ratios, asked))
    if path:
        values = {"versions": versions(), "hardware": hardware()}
        values |= {"rows": [asdict(row) for row in rows], "ratios": ratios, "asked": asked, "note": note}
        Path(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


@contextmanager
def workplace() -> Iterator[Path]:
    """A temporary folder; and for the processes started here the repository's own package, and no Hub."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)
