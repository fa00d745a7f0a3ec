"""Label objects made by hand, for models that are built without data."""

from collections.abc import Sequence

from lit_ft.data.labels import LabelMapping


def classes(names: Sequence[str], ordered: bool = True) -> LabelMapping:
    """Classes called by their labels."""
    return LabelMapping(tuple(names), tuple(names), ordered)
