"""Leaf: what the labels of a corpus mean, as classes 0 to C-1, and a split that keeps their shares."""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lit_ft.errors import UserError

MAX_GAP = 10  # classes for each that occurs: stars 1 and 5 are 5 classes, a label 999 is a mistake


@dataclass(frozen=True)
class LabelMapping:
    """The labels of training in the order of their classes, and the names shown for them."""

    values: tuple[int, ...] | tuple[str, ...]
    names: tuple[str, ...]

    @property
    def num_labels(self) -> int:
        return len(self.values)

    @property
    def ordered(self) -> bool:
        """Whether one class is nearer to another than a third is: of whole numbers, not of names."""
        return isinstance(self.values[0], int)

    @classmethod
    def fit(
        cls, labels: Any, *, base: int | None, names: list[str] | None, where: str, rows: Any = None
    ) -> "LabelMapping":
        """Reads the mapping off the labels of training.

        Labels that are all whole numbers (also `'4'` or `4.0`) are the classes from `base` to the largest
        that occurs; those in between that do not occur keep their place. Labels of which none is a number
        are names, in alphabetical order.

        Args:
            labels: a column of a dataset, an arrow or numpy array or a list.
            base: the label of the first class; None takes 0 if a 0 occurs, else 1.
            names: a name to show for each class, in their order; None shows the labels as they are.
            where: the source's name for the errors.
            rows: the labels' row numbers for the errors; None counts from 1.
        """
        distinct, index = _distinct(labels)
        kinds = [_kind(value) for value in distinct]

        def row_of(position: int) -> int:
            found = int(np.argmax(index == position))
            return found + 1 if rows is None else int(rows[found])

        _check_kinds(distinct, kinds, np.bincount(index, minlength=len(distinct)), row_of, where)
        values: tuple[int, ...] | tuple[str, ...]
        if kinds[0] == "number":
            numbers = [_whole(value) for value in distinct]
            low, high = min(numbers), max(numbers)
            start = base if base is not None else (0 if low <= 0 else 1)
            if low < start:
                raise UserError(
                    f"expected labels from {start} on in {where}, found {low} in row "
                    f"{row_of(numbers.index(low))}; set --data.label_base={low} if that is the first class"
                )
            num_labels = high - start + 1
            if num_labels > MAX_GAP * len(set(numbers)):
                raise UserError(
                    f"expected labels without large gaps in {where}, found {high} in row "
                    f"{row_of(numbers.index(high))}, which makes {num_labels} classes of which "
                    f"{len(set(numbers))} occur; mend it, or set --data.label_base or --data.label_column"
                )
            # Names declare the classes, also those that have no row here.
            values = tuple(range(start, max(high + 1, start + len(names or ()))))
            if names is not None and len(values) > len(names):
                outside = min(number for number in numbers if number >= start + len(names))
                raise UserError(
                    f"expected labels {_span(values[: len(names)])} in {where}, one for each of the "
                    f"{len(names)} names of --data.label_names, found {outside} in row "
                    f"{row_of(numbers.index(outside))}; mend the row, or name {len(values)} classes"
                )
            num_found = len(set(numbers))
        else:
            values = tuple(sorted({str(value).strip() for value in distinct}))
            num_found = len(values)
        if num_found < 2:
            raise UserError(
                f"expected at least two classes in {where}, found only the label {_shown(distinct[0])}; give "
                "more rows, or set --data.label_column to another column"
            )
        if names is not None and (len(names) != len(values) or len(set(names)) != len(names)):
            raise UserError(
                f"expected {len(values)} different names for the labels {_span(values)} of {where}, found "
                f"{len(names)}: {', '.join(map(str, names))}; set --data.label_names to a name for each"
            )
        return cls(values, tuple(map(str, values if names is None else names)))

    def encode(self, labels: Any, rows: Any = None, where: str = "the data") -> np.ndarray:
        """The classes of labels, int64 (N,); raises for a label that training did not have.

        Args:
            labels: a column of a dataset, an arrow or numpy array or a list.
            rows: the labels' row numbers for the errors; None counts from 1.
            where: the source's name for the errors.
        """
        distinct, index = _distinct(labels)
        numbers = isinstance(self.values[0], int)
        classes: dict[Any, int] = {value: i for i, value in enumerate(self.values)}
        lookup = np.full(len(distinct), -1, dtype=np.int64)
        for position, value in enumerate(distinct):
            kind = _kind(value)
            key = _whole(value) if numbers and kind == "number" else str(value).strip()
            lookup[position] = classes.get(key, -1) if kind != "missing" else -1
        encoded = lookup[index]
        if len(encoded) and encoded.min() < 0:
            found = int(np.argmax(encoded < 0))
            value, row = distinct[index[found]], found + 1 if rows is None else int(rows[found])
            if _kind(value) == "missing":
                raise _missing(row, where)
            raise UserError(
                f"expected the labels of training, {_span(self.values)}, in {where}, found {_shown(value)} "
                f"in row {row}; mend the row, or train on data that has this label"
            )
        return encoded

    def describe(self) -> str:
        """One line for the console."""
        shown = [
            str(value) if name == str(value) else f"{value} ({name})"
            for value, name in zip(self.values, self.names, strict=True)
        ]
        shown = shown if len(shown) <= 10 else [*shown[:9], "...", shown[-1]]
        return f"labels: {self.num_labels} classes, {', '.join(shown)} -> 0 to {self.num_labels - 1}"

    def as_dict(self) -> dict[str, list[int] | list[str]]:
        """Plain lists, for a checkpoint that is loaded with `weights_only`."""
        return {"values": list(self.values), "names": list(self.names)}  # type: ignore[dict-item]

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "LabelMapping":
        """The mapping that `as_dict` wrote."""
        assert len(plain["values"]) == len(plain["names"]), plain
        return cls(tuple(plain["values"]), tuple(plain["names"]))


def stratified_split(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Holds a part of training out for validation, of each class about the same share.

    A class with at least two rows has at least one in either part; a class with one row stays in training.

    Args:
        labels: classes, int64 (N,).
        share: of the rows, for validation.
        seed: the same seed gives the same split.

    Returns:
        The indices of training and of validation, each ascending.
    """
    if not 0 < share < 1:
        raise UserError(f"expected a share between 0 and 1, found {share}; set --data.validation_share=0.05")
    counts = np.bincount(labels)
    if not (counts >= 2).any():
        raise UserError(
            f"expected two rows or more of some class to hold one out for validation, found {len(labels)} "
            "rows with at most one of each; give more rows or set --data.validation_path"
        )
    most = np.maximum(counts - 1, 0)
    quota = np.clip(np.floor(counts * share).astype(np.int64), np.minimum(1, most), most)
    # the rows still missing to the whole share go to the classes that lost most by rounding down
    short = round(len(labels) * share) - int(quota.sum())
    if short > 0:
        lost = np.where(quota < most, counts * share - quota, -np.inf)
        best = np.argsort(-lost, kind="stable")[:short]
        quota[best[lost[best] > 0]] += 1
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    grouped = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    held_out = rank < quota[labels[grouped]]
    return np.sort(grouped[~held_out]), np.sort(grouped[held_out])


def _distinct(labels: Any) -> tuple[list[Any], np.ndarray]:
    """The different labels, and for each row which of them it has. Only this looks at every row."""
    if not isinstance(labels, (pa.Array, pa.ChunkedArray)):
        labels = labels if isinstance(labels, np.ndarray) else labels[:]  # [:] reads a dataset's lazy column
        try:
            labels = pa.array(labels)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # a list of numbers and names
            labels = pa.array([None if label is None else str(label) for label in labels])
    chunked = labels if isinstance(labels, pa.ChunkedArray) else pa.chunked_array([labels])
    encoded = chunked.combine_chunks().dictionary_encode(null_encoding="encode")
    encoded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)


def _kind(value: Any) -> str:
    """`number` for a whole one, `fraction`, `name` or `missing`."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value).strip() == "":
        return "missing"
    if isinstance(value, bool):
        return "name"
    try:
        number = float(value)
    except ValueError:
        return "name"
    return "number" if number.is_integer() else "name" if math.isnan(number) else "fraction"


def _whole(value: Any) -> int:
    return int(value) if re.fullmatch(r"\s*[+-]?\d+\s*", str(value)) else int(float(value))


def _check_kinds(distinct: list[Any], kinds: list[str], counts: np.ndarray, row_of: Any, where: str) -> None:
    if not distinct:
        raise UserError(f"expected labels in {where}, found no rows; give a file with at least one")
    if "missing" in kinds:
        raise _missing(row_of(kinds.index("missing")), where)
    is_name = np.array([kind == "name" for kind in kinds])
    if is_name.any() and not is_name.all():
        odd = is_name if counts[is_name].sum() <= counts[~is_name].sum() else ~is_name
        position = int(np.flatnonzero(odd)[0])
        expected = "whole numbers" if is_name[position] else "names"
        raise UserError(
            f"expected labels that are all whole numbers or all names in {where}, found {expected} but "
            f"{_shown(distinct[position])} in row {row_of(position)}; mend it, or set --data.label_column"
        )
    if "fraction" in kinds:
        position = kinds.index("fraction")
        raise UserError(
            f"expected whole numbers as labels in {where}, found {_shown(distinct[position])} in row "
            f"{row_of(position)}; round them, or set --data.label_column to another column"
        )


def _missing(row: int, where: str) -> UserError:
    return UserError(
        f"expected a label in each row of {where}, found none in row {row}; mend or remove the row, or set "
        "--data.label_column to another column"
    )


def _span(values: tuple[int, ...] | tuple[str, ...]) -> str:
    if isinstance(values[0], int):
        return f"{values[0]} to {values[-1]}"
    return ", ".join(f"'{value}'" for value in values[:8]) + (" ..." if len(values) > 8 else "")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."
