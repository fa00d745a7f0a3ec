"""Leaf: what is said of a model's guesses at masked tokens."""

import math


def masked_figures(nll: float, correct: float, masked: float) -> dict[str, float]:
    """Loss, accuracy and perplexity, from sums over the masked tokens; zeros where none was masked.

    Args:
        nll: Negative log-likelihood.
        correct: Right guesses.
        masked: Masked tokens.
    """
    loss = nll / masked if masked else 0.0
    return {
        "loss": loss,
        "masked_accuracy": correct / masked if masked else 0.0,
        "perplexity": math.exp(min(loss, 700)),
    }
