"""What to know about an `sft` before its model is used: sentences by rules, each with what to do."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lit_ft.masked_lm.settings import SftSettings

UNTRAINED = 0.9  # of ln V; BERT's loss on the texts of any domain is below a half of it
UNSURE = 0.1  # half of the 95 % interval of the loss: 10 % of the perplexity
LAST_PART = 0.75  # of the steps: what falls after them is still falling
STILL_FALLING = 0.01  # of the loss, after `LAST_PART`


def untrained_head(initial_loss: float | None, vocabulary: int, pretrained: str) -> str | None:
    """Speaks if the loss before the first step is about that of guessing among all tokens.

    Args:
        initial_loss: Of the evaluation at step 0; None without one.
        vocabulary: The number of tokens, V.
        pretrained: The name of the model.
    """
    blind = math.log(vocabulary)
    if initial_loss is None or initial_loss < UNTRAINED * blind:
        return None
    return (
        f"The masked-LM head of {pretrained} started untrained: the loss before the first step was "
        f"{initial_loss:.2f}, and guessing blindly among its {vocabulary:,} tokens gives {blind:.2f}. So the "
        "figures from before say nothing about the encoder, and most of the gain is the head's. Start from a "
        "model that was published with its head, such as bert-base-cased, or train for several epochs."
    )


def too_few_texts(texts: int, masked: int, spread: float) -> str | None:
    """Speaks if the validation loss is known to no better than `UNSURE`.

    Args:
        texts: Number of validation texts.
        masked: Number of masked tokens in them.
        spread: Standard deviation of their losses.
    """
    half = 1.96 * spread / math.sqrt(max(masked, 1))
    if half <= UNSURE:
        return None
    return (
        f"There are few validation texts: {texts:,} with {masked:,} masked tokens. The loss is known to "
        f"\u00b1{half:.2f} at best, the perplexity to a factor of {math.exp(half):.2f}: smaller differences "
        "between runs mean nothing. Hold out more with --data.validation_share, or give "
        "--data.validation_path."
    )


def still_falling(evaluations: Sequence[Mapping[str, Any]], settings: SftSettings) -> str | None:
    """Speaks if the last evaluation is the best one, by more than `STILL_FALLING` in the last quarter.

    Args:
        evaluations: `step` and `val/loss` of each, in order.
        settings: The run's.
    """
    points = {int(e["step"]): float(e["val/loss"]) for e in evaluations if e["step"]}
    if not points:
        return None
    last = max(points)
    earlier = [step for step in points if step <= LAST_PART * last]
    if not earlier or points[last] > min(points.values()):
        return None
    then = points[max(earlier)]
    if then - points[last] <= STILL_FALLING * then:
        return None
    flag, now = "--num_train_epochs", settings.num_train_epochs
    if settings.max_steps > 0:
        flag, now = "--max_steps", settings.max_steps
    return (
        f"The validation loss was still falling: {then:.3f} after step {max(earlier):,}, {points[last]:.3f} "
        f"after the last step, {last:,}. More training may help: {flag} {2 * now:g} (it was {now:g})."
    )
