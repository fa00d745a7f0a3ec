"""The slices of an evaluation: whether columns can be slices, their values, and their figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_ft.console import say
from lit_ft.data.columns import SLICES, Values, read_values
from lit_ft.data.splits import Split, Texts
from lit_ft.errors import UserError
from lit_ft.report.slices import MOST_SLICES, Figures, measure_slices


def check_slices(texts: Texts, columns: Sequence[str]) -> None:
    """Refuse columns that a split lacks, or that have a value of their own in every row.

    Args:
        texts: The split, before it is tokenised.
        columns: Their names.
    """
    for column in columns:
        values = read_values(texts.table, column, texts.source_rows, texts.where, SLICES)
        num_rows, num_values = len(values.codes), len(np.unique(values.codes[values.codes >= 0]))
        if num_values == num_rows > MOST_SLICES:
            raise UserError(
                f"expected a column whose values several rows share for {SLICES}, found '{column}' of "
                f"{texts.where} with another value in each of {num_rows:,} rows; set --{SLICES} to a column "
                "such as a language or a channel"
            )
        if num_values < 2 and (values.codes >= 0).all():
            say(f"slices: column '{column}' of {texts.where} has one value, '{values.names[0]}'")
        elif not num_values:
            say(f"slices: column '{column}' of {texts.where} has no value in any row")


def values_of_slices(split: Split, index: np.ndarray) -> list[Values]:
    """The slice of some rows of a split in each of its columns; `index` (M,) are positions in its texts."""
    rows = split.source_rows[np.searchsorted(split.rows.positions, index)]
    return [read_values(split.table, column, rows, "the texts", SLICES) for column in split.slices]


def slices_of(
    split: Split, index: np.ndarray, figures: Figures, good: np.ndarray, measure: str, headline: list[str]
) -> dict[str, Any]:
    """Every figure of each slice with its interval, of any kind of label: see `measure_slices`.

    Args:
        split: Where the rows are from.
        index: The positions of the measured rows in its texts, (M,).
        figures: What the figures of some of these rows are.
        good: How well each is answered, (M,): bool, or a number of which more is better.
        measure: The name of its mean.
        headline: The figures that the report's table shows.
    """
    values = values_of_slices(split, index)
    columns = {each.column: (each.names, each.codes) for each in values}
    return measure_slices(columns, figures, good, measure, headline)
