"""Whether classes are steps of a scale, as stars are: only then is there a distance between two of them."""

import re
from collections.abc import Sequence
from typing import Any

from lit_ft.errors import UserError

MOST_STEPS = 11  # 0 to 10
NUMBERED = (
    "label",
    "cla",
    "category",
    "cluster",
    "topic",
    "type",
    "group",
)  # without a last s; often just counted
SCALES = (
    "star rating score grade rank level degree point severity priority quality satisfaction nps sentiment age"
).split()


def are_ordered(
    setting: bool | str, values: Sequence[Any], names: Sequence[str], column: str, in_order: bool
) -> bool:
    """Whether the classes have an order.

    Args:
        setting: `data.ordered`: true, false or `auto`, which looks at the names and at the column.
        values: The labels in the order of their classes, (C,): whole numbers or texts.
        names: The names shown for them, (C,).
        column: The name of the column of labels.
        in_order: Whether somebody gave this order, or the labels are numbers. Else it is the alphabet's.

    Raises:
        UserError: `true`, and nobody knows the order.
    """
    if setting is True and not in_order:
        raise UserError(
            "data.ordered=true expects labels in their order, found names, which have the alphabet's; list "
            'them from one end to the other, as in --data.label_names \'["low", "middle", "high"]\', '
            "or set --data.ordered=false"
        )
    if setting != "auto":
        return bool(setting)
    return _count_up(names) or _is_scale(values, column)


def _count_up(names: Sequence[str]) -> bool:
    """Whether the names are one word with consecutive numbers: 1 star, 2 stars, ...; or level 1, level 2."""
    found = [re.fullmatch(r"(\D*?)[\s_-]*([0-9]{1,9})[\s_-]*(\D*)", name) for name in names]
    if not all(found):
        return False
    words = {(m[1] + m[3]).casefold().strip(" _-").rstrip("s") for m in found if m}
    if len(words) != 1 or not re.fullmatch(r"[^\W\d_]{1,20}", word := words.pop()) or word in NUMBERED:
        return False
    return _are_consecutive([int(m[2]) for m in found if m])


def _is_scale(values: Sequence[Any], column: str) -> bool:
    """Whether the labels are consecutive whole numbers in a column whose name says that they are a scale."""
    if len(values) > MOST_STEPS or not all(isinstance(value, int) for value in values):
        return False
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).casefold()
    words = {word.rstrip("s") for word in re.split(r"[^a-z]+", parts)}
    return not words.isdisjoint({word.rstrip("s") for word in SCALES}) and _are_consecutive(values)


def _are_consecutive(numbers: Sequence[int]) -> bool:
    steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
    return steps in ({1}, {-1})
