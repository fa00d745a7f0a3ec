"""Groups of rows that belong together (an author, a thread, a product): held out whole, counted if shared.

N rows of a split, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import datasets
import numpy as np

from lit_ft.console import say, warn
from lit_ft.data.columns import GROUPS, Values, read_values
from lit_ft.data.holdout import components, split_components
from lit_ft.data.iterative import iterative_split
from lit_ft.errors import UserError, one_line, shorten

MAX_EXAMPLES = 100  # groups that two splits share
WORTH_A_WORD = 0.03  # by which the share of a class among the held-out rows is off


@dataclass(frozen=True)
class SharedGroup:
    """A group that has rows in two splits: how many in each, and the first."""

    group: str
    rows: list[int]
    first_rows: list[int]


@dataclass(frozen=True)
class GroupLeak:
    """Rows of the split `second` whose group also has rows in `first`."""

    first: str
    second: str
    groups: int
    rows: int
    share: float  # of the rows of `second`
    examples: list[SharedGroup]  # those with the most rows first, at most MAX_EXAMPLES


def read_groups(
    table: datasets.Dataset, column: str, source_rows: np.ndarray, where: str, needed: bool = True
) -> Values | None:
    """The groups of the rows of a split; says how many rows have none, and if no two share one.

    Args:
        table: As read, with all rows.
        column: Its name there.
        source_rows: The 1-based rows in the table, (N,).
        where: The table's name in messages.
        needed: Whether the column has to be there. If not, a line says that it is missing.
    """
    if not needed and column not in table.column_names:
        say(f"{where} has no column '{column}': whether it shares groups with other splits is not known")
        return None
    groups = read_values(table, column, source_rows, where, GROUPS)
    if without := int((groups.codes < 0).sum()):
        each = "each is a group of its own" if without > 1 else "it is a group of its own"
        what = "rows have" if without > 1 else "row has"
        say(f"{without:,} of {len(source_rows):,} {what} no value in column '{column}' of {where}: {each}")
    if needed and len(np.unique(keys_of_groups(groups))) == len(source_rows) > 1:
        warn(
            f"no two rows of {where} have the same value in column '{column}', so it keeps nothing together; "
            f"set --{GROUPS} to what rows share, such as an author"
        )
    return groups


def keys_of_groups(groups: Values) -> np.ndarray:
    """A number for each row's group, (N,) int64; rows without a value get one each."""
    alone = groups.codes < 0
    return np.where(alone, len(groups.names) + np.arange(len(groups.codes)), groups.codes)


def grouped_split(
    labels: np.ndarray, share: float, seed: int, keys: np.ndarray, groups: Values, where: str
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Hold out whole groups, about the same share of each class; equal texts stay on one side, too.

    Args:
        labels: Classes, (N,) int64, or labels, (N, C) bool.
        share: Share of the rows to hold out.
        seed: The same seed gives the same split.
        keys: Equal for rows with equal texts, (N,).
        groups: The rows' groups.
        where: The data, in messages.

    Returns:
        The indices of training and of validation, both ascending, and what to say of it.

    Raises:
        UserError: No group can be held out whole.
    """
    own = keys_of_groups(groups)
    num_groups, parts = len(np.unique(own)), components(own, keys)
    column, num_parts = groups.column, len(np.unique(parts))
    advice = "set --data.validation_path to texts of other groups, or --data.group_column=null"
    if num_groups < 2:
        name = shorten(one_line(groups.names[groups.codes[0]]))
        raise UserError(
            f"expected at least two groups in column '{column}' of {where}, to hold one out for validation, "
            f"found one, '{name}'; {advice}"
        )
    if num_parts < 2:
        raise UserError(
            f"expected groups in column '{column}' of {where} that share no text, to hold one out for "
            f"validation, found equal texts that join all {num_groups:,}; {advice}"
        )
    several = labels.ndim == 2  # labels a row
    kept, held_out = (iterative_split if several else split_components)(labels, share, seed, parts)
    if not len(held_out):
        raise UserError(
            f"expected groups in column '{column}' of {where} that can be held out for validation, found "
            f"none of {num_groups:,} without which each class keeps a row to train on; {advice}"
        )
    words = [f"{len(np.unique(own[held_out])):,} of {num_groups:,} groups of '{column}'"]
    if joined := num_groups - num_parts:
        words.append(f"{joined:,} joined to another by equal texts")
    return kept, held_out, words if several else words + _class_shares(labels, held_out)


def _class_shares(labels: np.ndarray, held_out: np.ndarray) -> list[str]:
    """How far the shares of the classes are off among the held-out rows; nothing if they hardly are."""
    counts = np.bincount(labels)
    off = np.bincount(labels[held_out], minlength=len(counts)) / len(held_out) - counts / len(labels)
    most = float(np.abs(off).max())
    # a row more or less of a class is no group's doing
    if most <= max(WORTH_A_WORD, 1.5 / len(held_out)):
        return []
    return [f"the share of a class is up to {100 * most:.0f} points off, as groups stay whole"]


def shared(
    splits: Sequence[tuple[str, Values, np.ndarray]],
) -> list[GroupLeak]:
    """The groups that each pair of splits shares, in the order of the splits.

    Args:
        splits: Name, groups and source rows, (N,) each, of the splits whose groups are known.
    """
    return [_shared(first, second) for first, second in combinations(splits, 2)]


def _shared(first: tuple[str, Values, np.ndarray], second: tuple[str, Values, np.ndarray]) -> GroupLeak:
    (one, theirs, their_rows), (other, own, own_rows) = first, second
    place = {name: i for i, name in enumerate(theirs.names)}
    there = np.array([place.get(name, -1) for name in own.names], np.int64)  # code of `own` -> of `theirs`
    counts = [np.bincount(v.codes[v.codes >= 0], minlength=len(v.names)) for v in (theirs, own)]
    # a name can be left over from rows that are in another part of the same table
    both = np.flatnonzero((there >= 0) & (counts[1] > 0))
    both = both[counts[0][there[both]] > 0]
    both = both[np.argsort(-counts[1][both], kind="stable")]
    examples = [
        SharedGroup(
            shorten(one_line(own.names[code]), 60),
            [int(counts[0][there[code]]), int(counts[1][code])],
            [
                int(their_rows[np.argmax(theirs.codes == there[code])]),
                int(own_rows[np.argmax(own.codes == code)]),
            ],
        )
        for code in both[:MAX_EXAMPLES]
    ]
    rows = int(counts[1][both].sum())
    return GroupLeak(one, other, len(both), rows, rows / max(len(own.codes), 1), examples)


def line_of(leak: GroupLeak, column: str) -> str | None:
    """The warning of `fit` and `sft`; None if no group is shared."""
    if not leak.groups:
        return None
    whose = f"{leak.groups:,} groups" if leak.groups > 1 else "a group"
    which = "are of" if leak.rows > 1 else "is of"
    has = "have" if leak.groups > 1 else "has"
    whole = round(leak.rows / leak.share)
    return (
        f"{leak.rows:,} of {whole:,} {leak.second} rows {which} {whose} of '{column}' "
        f"that {has} {leak.first} rows, too, such as '{leak.examples[0].group}'"
    )
