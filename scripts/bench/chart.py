"""Draws docs/performance.svg: `fit` beside Hugging Face's Trainer, from bench/performance.md's first table.

python scripts/bench/chart.py [--output docs/performance.svg]
"""

import argparse
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[2]
SECTION = "## Beside others"
WHERE = "MiniLM-L6, Yelp reviews cut at 512 tokens, 2 cores of an AMD EPYC (Zen 4, AVX512-BF16), 2026-11-26"
NAMES = {  # first words of a recipe in the notebook -> its name in the chart
    "the course's loop": "a hand-written loop: batch 2,\npadded to 512, float32",
    "Hugging Face's Trainer as": "Trainer as run_classification.py\nsets it, float32",
    "Hugging Face's Trainer with": "Trainer with its best flags,\nbfloat16",
    "`fit`, the": "lit_ft fit, the same dropouts,\ntoken_budget 4096",
    "`fit` as shipped": "lit_ft fit, yelp_local.yaml:\nno attention dropout",
}
BLUE, GREY = "#2563a8", "#b4b8be"


def read_rows(text: str) -> list[tuple[str, float, float]]:
    """Name, real tokens a second and peak GB of each recipe in the chart."""
    lines = text.partition(SECTION)[2].splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    rows = []
    for start, name in NAMES.items():
        recipe = next(row for row in cells if row[0].startswith(start))
        rows.append((name, float(recipe[1].split()[0].replace(",", "")), float(recipe[3])))
    return rows


def draw(rows: list[tuple[str, float, float]]) -> Figure:
    """Two bars a recipe, each kind on an axis of its own."""
    figure = Figure(figsize=(8.0, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = [name for name, _, _ in rows]
    colors = [BLUE if "lit_ft" in name else GREY for name in names]
    for axes, values, title, form in (
        (left, [speed for _, speed, _ in rows], "real tokens a second (more is better)", "{:,.0f}"),
        (right, [peak for _, _, peak in rows], "peak memory in GB (less is better)", "{:.1f}"),
    ):
        bars = axes.barh(names, values, color=colors, height=0.65)
        axes.bar_label(bars, [form.format(value) for value in values], padding=3, fontsize=9)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlim(0, 1.18 * max(values))
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0, labelsize=9)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
    left.invert_yaxis()
    figure.supxlabel(WHERE, fontsize=7.5, color="#555555")
    return figure


def main() -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=ROOT / "docs/performance.svg", help="file to write")
    output = parser.parse_args().output
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "lit_ft"}  # small, and equal each time
    figure = draw(read_rows((ROOT / "bench/performance.md").read_text(encoding="utf-8")))
    figure.savefig(output, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
