"""How much of what a machine's matrix products reach the steps of a model use (model FLOP utilisation)."""

import argparse
import json
import time
from pathlib import Path
from typing import Any


def training_flops(config: dict[str, Any], tokens: float, squares: float) -> float:
    """Floating-point operations of forward and backward passes over texts that are not padded.

    Six per weight of the encoder's layers and token, and 12 x layers x hidden size per pair of positions of a
    text (PaLM, arXiv 2204.02311, appendix B). Embeddings, pooler and head are left out, and what a recipe
    saves or computes again does not count: this is the model's work, not the recipe's.

    Args:
        config: The model's, as in its `config.json`.
        tokens: The sum of the texts' lengths.
        squares: The sum of the squares of the texts' lengths.
    """
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    weights = layers * (4 * width * width + 2 * width * config["intermediate_size"])
    return 6 * weights * tokens + 12 * layers * width * squares


def matrix_product_peak() -> dict[str, float]:
    """The most operations a second over square matrices, in the precision that `fit` chooses here."""
    import torch

    from lit_ft.machine import automatic_precision

    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    dtype = torch.bfloat16 if automatic_precision() == "bf16-mixed" else torch.float32
    best = 0.0
    for size in (4096, 8192) if on_gpu else (1024, 2048):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        for _ in range(25):
            begun = time.perf_counter()
            left @ right
            if on_gpu:
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    return {"flops_per_second": best}


def config_of(options: argparse.Namespace) -> dict[str, Any]:
    """The shape of the model that is measured."""
    return json.loads((Path(options.pretrained) / "config.json").read_text(encoding="utf-8"))
