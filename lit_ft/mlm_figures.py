"""Leaf: what is said of a model's guesses at masked tokens, and of the speed of its training."""

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


def speed_figures(
    seconds: float, tokens_seen: float, rows: float, tokens: float, computed_tokens: float
) -> dict[str, float]:
    """Speed, and the share of the computed tokens that are real.

    Args:
        seconds: How long the window was.
        tokens_seen: Real tokens of the window, as transformers counts them, over all processes.
        rows: Of the window.
        tokens: Real tokens of its batches.
        computed_tokens: The same with the padding.
    """
    return {
        "tokens_per_second": tokens_seen / seconds,
        "samples_per_second": rows / seconds,
        "real_share": tokens / max(computed_tokens, 1),
    }
