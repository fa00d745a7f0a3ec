"""How much of what a machine's matrix products reach the steps of a model use (model FLOP utilisation)."""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import Row, run_child

Flops = Callable[[dict[str, Any], float, float], float]  # of a model's config, tokens and squares


def forward_flops(config: dict[str, Any], tokens: float, squares: float) -> float:
    """Floating-point operations of forward passes over texts that are not padded.

    Two per weight of the encoder's layers and token, and 4 x layers x hidden size per pair of positions of a
    text (PaLM, arXiv 2204.02311, appendix B). Embeddings, pooler and head are left out, and what a recipe
    saves or computes again does not count: this is the model's work, not the recipe's.

    Args:
        config: The model's, as in its `config.json`.
        tokens: The sum of the texts' lengths.
        squares: The sum of the squares of the texts' lengths.
    """
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    weights = layers * (4 * width * width + 2 * width * config["intermediate_size"])
    return 2 * weights * tokens + 4 * layers * width * squares


def training_flops(config: dict[str, Any], tokens: float, squares: float) -> float:
    """Forward and backward passes: each product has two in the backward pass."""
    return 3 * forward_flops(config, tokens, squares)


def matrix_product_peak() -> dict[str, Any]:
    """The most operations a second over square matrices, in the precision that `fit` chooses here."""
    import torch

    from lit_ft.machine import automatic_precision

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    precision = automatic_precision()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    best = 0.0
    for size in (4096, 8192) if on_gpu else (1024, 2048):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        for _ in range(25 if on_gpu else 8):
            begun = time.perf_counter()
            left @ right
            if on_gpu:
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    return {"flops_per_second": best, "precision": precision}


def add_utilisation(rows: Iterable[Row], pretrained: str, flops: Flops) -> str:
    """Give every row its share of this machine's peak.

    Args:
        rows: As measured.
        pretrained: The model's folder.
        flops: `forward_flops` or `training_flops`.

    Returns:
        A sentence for the report.
    """
    config = json.loads((Path(pretrained) / "config.json").read_text(encoding="utf-8"))
    found = run_child(__file__, "peak", [])
    peak = found["flops_per_second"]
    for row in rows:
        row.flop_utilisation = flops(config, row.tokens_per_second, row.squares_per_second) / peak
    return (
        f"Matrix products reach {peak / 1e9:,.0f} GFLOP/s in {found['precision']}; FLOP utilisation is the "
        "encoder's share of that."
    )


if __name__ == "__main__":
    print(json.dumps(matrix_product_peak()))
