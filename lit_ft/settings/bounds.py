"""The bounds of numbers that no library checks, or only in the middle of a run."""

import math
import sys
from collections.abc import Mapping
from typing import Any

from lit_ft.errors import UserError

ABOVE_0 = sys.float_info.min
SHARE, FRACTION = (ABOVE_0, 1), (0, 1)
COUNT, FROM_0 = (1, math.inf), (0, math.inf)
Bounds = Mapping[str, tuple[float, float]]  # setting -> least value, and the one that it must stay below
BOUNDS: Bounds = {  # of the settings that fit and sft share
    "seed_everything": (0, 2**32),  # of torch and numpy
    "data.validation_share": SHARE,
    "data.split_seed": FROM_0,
    "data.batch_size": COUNT,
    "data.eval_batch_size": COUNT,
    "data.num_workers": FROM_0,
    "model.learning_rate": FROM_0,
    "model.weight_decay": FROM_0,
    "model.warmup_share": FRACTION,
    "model.hidden_dropout": FRACTION,
    "model.attention_dropout": FRACTION,
}


def check_bounds(values: Mapping[str, Any], bounds: Bounds = BOUNDS, group: str = "") -> None:
    """Refuse numbers outside their bounds; values that are null, or not in the table, pass.

    Args:
        values: Setting -> value.
        bounds: Setting -> bounds.
        group: What stands before a setting in `bounds`, such as `data.`.

    Raises:
        UserError: With the value and what is expected.
    """
    for name, value in values.items():
        key = group + name
        least, below = bounds.get(key, (-math.inf, math.inf))
        if value is None or key not in bounds or least <= value < below:
            continue
        wanted = "above 0" if least == ABOVE_0 else f"of at least {least:g}"
        wanted += f" and below {below:.10g}" if below < math.inf else ""
        wanted += "" if math.isfinite(value) else ", and finite"
        raise UserError(f"expected {key} {wanted}, found {value}; set --{key}")
