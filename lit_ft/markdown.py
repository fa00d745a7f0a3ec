"""Leaf: Markdown tables of values that are not ours, for TensorBoard's text tab and model cards."""

import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table whose cells show as they were typed."""
    lines = [heads, ["---"] * len(heads), *([cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as Markdown that is neither markup nor HTML, whatever it holds; one line."""
    if isinstance(value, (int, float)):
        value = f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
    text = " ".join(str(value).split())
    return re.sub(r"[^\w\s.,:;?%/'\"()-]|_", lambda found: f"&#{ord(found[0])};", text)
