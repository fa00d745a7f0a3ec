"""`--space default`: what is worth searching for a task and a model, around the config's own values."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lit_ft.classifier.data import YelpDataModule
from lit_ft.commands.search_settings import Start
from lit_ft.console import quiet
from lit_ft.data.splits import read_texts
from lit_ft.settings.space import as_flag
from lit_ft.tasks import TASKS, Task

# Learning rates that fine-tuning papers search (Devlin et al. 2019, A.3: 2e-5 to 5e-5; Liu et al. 2019: 1e-5
# to 3e-5), with room above for small encoders; and what an encoder needs that starts untrained.
PRETRAINED, UNTRAINED = (1e-5, 1e-4), (3e-4, 1e-2)
UNTRAINED_FROM = 3e-4  # a config with such a rate trains an encoder from the start
DECAYS = (0.0, 0.01, 0.1)
LEAST_BATCH = 8


def default_space(start: Start, keys: Sequence[str]) -> str:
    """The space as YAML with the reasons beside it.

    Args:
        start: The settings that the search starts from.
        keys: The keys of `fit`.
    """
    lines = ["# Made by `search --space default`, around the settings that the search started from.", ""]
    for key, values, reason in _rows(start, task_of(start)):
        if key in keys:
            lines += [f"# {reason}", f"{key}: {values}"]
    return "\n".join(lines) + "\n"


def task_of(start: Start) -> Task:
    """The kind of label, which only the rows tell where `data.task` is `auto`."""
    if start.config["data"]["task"] in TASKS:
        return TASKS[start.config["data"]["task"]]
    data = YelpDataModule(**start.config["data"])
    with quiet():
        _, labels = read_texts(data.text_source, "train", None, data.label_rules)
    assert labels is not None
    return labels.task


def _rows(start: Start, task: Task) -> Iterator[tuple[str, str, str]]:
    """Key, values as YAML, and why."""
    rate = start.value("model.learning_rate")
    low, high = UNTRAINED if rate >= UNTRAINED_FROM else PRETRAINED
    yield (
        "model.learning_rate",
        f"{{low: {_scientific(min(low, rate))}, high: {_scientific(max(high, rate))}, log: true}}",
        "Matters most. Each power of ten is as likely as another.",
    )
    epochs, steps = start.value("trainer.max_epochs"), start.value("trainer.max_steps")
    if steps == -1 and isinstance(epochs, int) and epochs > 0:
        found = {max(1, round(epochs * 2 / 3)), epochs, math.ceil(epochs * 5 / 3)}
        yield "trainer.max_epochs", _listed(sorted(found)), "More epochs take longer; small data needs more."
    size = start.value("data.batch_size")
    if start.value("data.token_budget") is None:
        sizes = sorted({max(LEAST_BATCH, size // 2), size, size * 2})
        yield "data.batch_size", _listed(sizes), "A smaller batch means more steps an epoch."
    decay = start.value("model.weight_decay")
    yield "model.weight_decay", _listed(sorted({*DECAYS, decay})), "Keeps weights small; seldom matters much."
    share = start.value("model.warmup_share")
    shares = sorted({0.0, 0.06, 0.1, 0.2, share})
    yield "model.warmup_share", _listed(shares), "A high learning rate needs a longer rise."
    if task.smooths:
        smoothing = sorted({0.0, 0.1, start.value("model.label_smoothing")})
        reason = "Against labels that are sometimes wrong; it costs calibration."
        yield "model.label_smoothing", _listed(smoothing), reason
    weights = start.value("model.class_weights")
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
