"""`--space default`: what is worth searching for a task and a model, around the config's own values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lit_ft.commands.search_settings import value_of
from lit_ft.settings.space import as_flag
from lit_ft.tasks import Task

# Learning rates that fine-tuning papers search (Devlin et al. 2019, A.3: 2e-5 to 5e-5; Liu et al. 2019: 1e-5
# to 3e-5), with room above for small encoders; and what an encoder needs that starts untrained.
PRETRAINED, UNTRAINED = (1e-5, 1e-4), (3e-4, 1e-2)
UNTRAINED_FROM = 3e-4  # a config with such a rate trains an encoder from the start
DECAYS = (0.0, 0.01, 0.1)
LEAST_BATCH = 8


def default_space(settings: Mapping[str, Any], task: Task) -> str:
    """The space as YAML with the reasons beside it.

    Args:
        settings: Those that the search starts from, as nested plain values.
        task: The kind of label.
    """
    lines = [
        "# Made by `search` around the settings that it started from; edit it for --space.",
        "",
    ]
    for key, values, reason in _rows(settings, task):
        lines += [f"# {reason}", f"{key}: {values}"]
    return "\n".join(lines) + "\n"


def _rows(settings: Mapping[str, Any], task: Task) -> Iterator[tuple[str, str, str]]:
    """Key, values as YAML, and why."""
    rate = value_of(settings, "model.learning_rate")
    low, high = UNTRAINED if rate >= UNTRAINED_FROM else PRETRAINED
    yield (
        "model.learning_rate",
        f"{{low: {_scientific(min(low, rate))}, high: {_scientific(max(high, rate))}, log: true}}",
        "Matters most. Each power of ten is as likely as another.",
    )
    epochs, steps = value_of(settings, "trainer.max_epochs"), value_of(settings, "trainer.max_steps")
    if steps == -1 and isinstance(epochs, int) and epochs > 0:
        found = {max(1, round(epochs * 2 / 3)), epochs, math.ceil(epochs * 5 / 3)}
        yield "trainer.max_epochs", _listed(sorted(found)), "More epochs take longer; small data needs more."
    size = value_of(settings, "data.batch_size")
    if value_of(settings, "data.token_budget") is None:
        sizes = sorted({max(LEAST_BATCH, size // 2), size, size * 2})
        yield "data.batch_size", _listed(sizes), "A smaller batch means more steps an epoch."
    decay = value_of(settings, "model.weight_decay")
    yield "model.weight_decay", _listed(sorted({*DECAYS, decay})), "Keeps weights small; seldom matters much."
    share = value_of(settings, "model.warmup_share")
    shares = sorted({0.0, 0.06, 0.1, 0.2, share})
    yield "model.warmup_share", _listed(shares), "A high learning rate needs a longer rise."
    if task.smooths:
        smoothing = sorted({0.0, 0.1, value_of(settings, "model.label_smoothing")})
        reason = "Against labels that are sometimes wrong; it costs calibration."
        yield "model.label_smoothing", _listed(smoothing), reason
    weights = value_of(settings, "model.class_weights")
    if task.weighted and isinstance(weights, str | None):
        reason = "Rare classes count as much as common ones: for macro F1, seldom for the loss."
        yield "model.class_weights", "[null, balanced]", reason


def _listed(values: Sequence[Any]) -> str:
    return f"[{', '.join(map(as_flag, values))}]"


def _scientific(value: float) -> str:
    """3e-05 as 3.0e-5, which every YAML reads as a number."""
    digits, _, power = f"{value:e}".partition("e")
    return (
        f"{float(digits):g}e{int(power)}"
        if "." in f"{float(digits):g}"
        else f"{float(digits):.1f}e{int(power)}"
    )
