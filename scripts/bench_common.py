"""What the benchmarks share: recipes in fresh processes, interleaved rounds, medians, a table and JSON."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WARM_UP_STEPS = 5


class Enough(Exception):
    """Ends a run that has been measured for long enough."""


@dataclass
class Clock:
    """Counts what the steps of one run compute, after the first ones.

    Args:
        seconds: To measure.
        steps: To measure at least.
    """

    seconds: float
    steps: int
    done: int = 0
    tokens: int = 0  # real ones
    computed: int = 0  # with padding
    begun: float = 0.0
    ended: float | None = None  # by default when the figures are asked for
    faults: int = 0
    squares: int = 0  # of the texts' lengths

    def step(self, attention_mask: Any) -> None:
        """A step has ended whose batch had this mask (B, T); raises Enough after the last."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.done += 1
        if self.done <= WARM_UP_STEPS:
            self.begun, self.faults = now, resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            return
        lengths = attention_mask.sum(1)
        self.tokens += int(lengths.sum())
        self.squares += int((lengths**2).sum())
        self.computed += attention_mask.numel()
        if now - self.begun >= self.seconds and self.done >= WARM_UP_STEPS + self.steps:
            raise Enough

    def figures(self) -> dict[str, float]:
        """What the parent reads."""
        from lit_ft.machine import peak_memory_gb

        seconds = (self.ended or time.perf_counter()) - self.begun
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - self.faults
        return {
            "tokens_per_second": self.tokens / seconds,
            "real_share": self.tokens / max(self.computed, 1),
            "peak_bytes": peak_memory_gb() * 1e9,
            "page_faults_per_second": faults / seconds,
            "squares_per_second": self.squares / seconds,
            "steps": self.done - WARM_UP_STEPS,
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


def run_child(script: str, recipe: str, args: Sequence[str]) -> dict[str, float]:
    """One recipe in a fresh process; its last line of output is JSON."""
    call = [sys.executable, script, "--child", recipe, *args]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{recipe} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def interleave(
    recipes: Sequence[str], rounds: int, measure: Callable[[str], dict[str, float]]
) -> dict[str, Row]:
    """Measure every recipe once a round, so that a slow spell of the machine meets all of them."""
    found: dict[str, list[dict[str, float]]] = {recipe: [] for recipe in recipes}
    for number in range(rounds):
        for recipe in recipes:
            begun = time.monotonic()
            found[recipe].append(measure(recipe))
            speed = found[recipe][-1]["tokens_per_second"]
            took = time.monotonic() - begun
            sys.stderr.write(
                f"round {number + 1} of {rounds}: {recipe} {speed:,.0f} tokens/s ({took:.0f} s)\n"
            )
    return {recipe: as_row(recipe, figures) for recipe, figures in found.items()}


def as_row(recipe: str, figures: Sequence[dict[str, float]]) -> Row:
    """The medians of one recipe's rounds."""
    keys = ("tokens_per_second", "real_share", "peak_bytes", "page_faults_per_second", "squares_per_second")
    middle = {key: median(one[key] for one in figures) for key in keys}
    return Row(recipe, **middle, rounds=[one["tokens_per_second"] for one in figures])


def table(rows: Sequence[Row], ratios: dict[str, float]) -> str:
    """Rows and ratios as Markdown."""
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
        "| ratio | |",
        "|---|---|",
        *(f"| {name} | {ratio:.2f} |" for name, ratio in ratios.items()),
    ]
    return "\n".join(lines)


def report(rows: Sequence[Row], ratios: dict[str, float], path: str | None, note: str) -> None:
    """Print the table; write the JSON where one is wanted."""
    import torch

    from lit_ft.machine import hardware, versions

    where = hardware() if torch.cuda.is_available() else f"{hardware()}; no GPU here"
    print(f"\n{where}, Python {platform.python_version()}, torch {torch.__version__}. {note}\n")
    print(table(rows, ratios))
    if path:
        values = {"versions": versions(), "hardware": hardware()}
        values |= {"rows": [asdict(row) for row in rows], "ratios": ratios}
        Path(path).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def parser_of(description: str, recipes: Sequence[str]) -> argparse.ArgumentParser:
    """The flags that the benchmarks of recipes share.

    Args:
        description: What the benchmark measures.
        recipes: That a process of its own can be asked for.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data.train_path", dest="train_path")
    parser.add_argument("--model.pretrained", dest="pretrained")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round: indicative only")
    parser.add_argument("--json", help="file to write, too")
    parser.add_argument("--child", choices=recipes, help=argparse.SUPPRESS)
    return parser


def add_window(parser: argparse.ArgumentParser, steps: int) -> None:
    """The flags of how long training is measured."""
    parser.add_argument("--seconds", type=float, default=60, help="to measure a recipe, each round")
    parser.add_argument("--steps", type=int, default=steps, help="to measure at least")


def prepare_environment() -> None:
    """For this process and its children: the repository's own package, and no Hub."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
