"""Leaf: how much each class counts in the loss."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from lit_ft.errors import UserError


def weights_of(
    setting: Literal["balanced"] | list[float] | None,
    label_names: Sequence[str],
    class_counts: Sequence[int] | None,
) -> torch.Tensor:
    """The weight of each class, (C,): 1 where nothing is set.

    Args:
        setting: `model.class_weights`.
        label_names: Display names, lowest label first, (C,).
        class_counts: Training rows of each class, (C,), for `balanced`.

    Raises:
        UserError: For weights that are not one of 0 or more for each class.
    """
    num_labels = len(label_names)
    if setting == "balanced":
        assert class_counts is not None
        counts = np.maximum(class_counts, 1)  # a class without rows has no loss to weigh
        return torch.tensor(sum(class_counts) / (len(counts) * counts), dtype=torch.float32)
    if not setting:
        return torch.ones(num_labels)
    if len(setting) != num_labels:
        raise UserError(
            f"expected {num_labels} model.class_weights ({', '.join(label_names)}), "
            f"found {len(setting)}: {setting}"
        )
    weights = torch.tensor(setting, dtype=torch.float32)
    if not (weights.isfinite().all() and (weights >= 0).all() and weights.sum() > 0):
        raise UserError(f"expected model.class_weights of 0 or more, found {setting}")
    return weights
