"""The loss of a step: class weights, and one mean over all processes. B rows per batch, C classes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from lit_ft.data.label_column import whole_number
from lit_ft.errors import UserError
from lit_ft.tasks import SINGLE_LABEL, Task


def weights_of(
    setting: Literal["balanced"] | list[float] | Mapping[str, float] | None,
    label_names: Sequence[str],
    class_counts: Sequence[int] | None,
    num_rows: int | None = None,
    task: Task = SINGLE_LABEL,
) -> torch.Tensor:
    """The weight of each class, (C,); all 1 if nothing is set.

    Args:
        setting: `model.class_weights`.
        label_names: The display names of the classes, (C,).
        class_counts: The number of training rows of each class, (C,), for `balanced`.
        num_rows: All training rows; by default the sum of the counts.
        task: It says which weights are balanced.

    Raises:
        UserError: There is not one weight of 0 or more for each class, or nothing would be learned.
    """
    num_labels = len(label_names)
    if setting == "balanced":
        assert class_counts is not None
        found = task.balanced(np.asarray(class_counts), num_rows or sum(class_counts))
        return torch.tensor(found, dtype=torch.float32)
    if setting is None:
        return torch.ones(num_labels)
    if isinstance(setting, Mapping):
        setting = _in_order(setting, label_names)
    if len(setting) != num_labels:
        raise UserError(
            f"expected {num_labels} model.class_weights ({', '.join(label_names)}), "
            f"found {len(setting)}: {setting}"
        )
    weights = torch.tensor(setting, dtype=torch.float32)
    if not (weights.isfinite().all() and (weights >= 0).all() and weights.sum() > 0):
        raise UserError(f"expected model.class_weights of 0 or more, found {setting}")
    if class_counts is not None and not weights[torch.tensor(class_counts) > 0].any():
        raise UserError(
            f"expected a model.class_weights above 0 for a class that has training rows, found {setting} for "
            f"{', '.join(map(str, class_counts))} rows: nothing would be learned"
        )
    return weights


def _in_order(setting: Mapping[Any, float], label_names: Sequence[str]) -> list[float]:
    """Weights by name in the order of the classes. YAML reads a key such as 1 as a number, true as a bool."""
    by_name: dict[str, float] = {}
    places = {whole_number(name): name for name in label_names if whole_number(name) is not None}
    for key, weight in setting.items():
        name = key if key in label_names else places.get(whole_number(key), str(key))
        name = name.lower() if isinstance(key, bool) and name not in label_names else name
        if name not in label_names:
            quotes = "; write it in quotes" if not isinstance(key, str) else ""
            raise UserError(
                f"expected model.class_weights of the classes {_listed(label_names)}, found {key!r}, "
                f"which is none of them{quotes}"
            )
        if name in by_name:
            raise UserError(
                f"expected one weight for each class in model.class_weights, found two for {name!r}"
            )
        by_name[name] = weight
    if missing := [name for name in label_names if name not in by_name]:
        raise UserError(
            f"expected model.class_weights of the classes {_listed(label_names)}, found none of "
            f"{_listed(missing)}; give a weight for each class"
        )
    return [by_name[name] for name in label_names]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + f" and {len(names) - 8} more" * (len(names) > 8)


def mean_over_processes(
    total: torch.Tensor,
    num_rows: int,
    row_weights: torch.Tensor | None,
    world_size: int = 1,
    step_weight: float | None = None,
) -> torch.Tensor:
    """The mean loss () of all processes' rows; its gradient is this process's part.

    DDP averages the gradients of the processes. If each divided by its own weight, a process with fewer rows,
    or rows of lighter classes, would count too much: all divide by the mean weight of a process. The same
    holds for batches of different sizes: every row counts the same only if all batches divide by one
    constant. With the mean batch's weight as that constant, the mean step is as large as without it.

    Args:
        total: The sum of this process's losses, ().
        num_rows: B of this process.
        row_weights: What each of its rows weighs in a mean, (B,); None if all weigh 1.
        world_size: The number of processes.
        step_weight: The constant that every step divides by, over all processes; None divides by the weight
            of the step's own rows.
    """
    total = total.float()  # bfloat16 cannot hold 301
    weight = total.new_full((), num_rows) if row_weights is None else row_weights.sum().float()
    sums = torch.stack([total.detach(), weight])
    if world_size > 1:
        torch.distributed.all_reduce(sums)  # Lightning's `reduce` would synchronise with the device
    own = sums[1] + (sums[1] == 0)  # only rows of weight 0: a loss of 0, not 0 / 0
    gradient_only = (total - total.detach()) * world_size / (step_weight or own)
    # The same value on all processes, so that a check for NaN decides the same on all of them.
    return sums[0] / own + gradient_only
