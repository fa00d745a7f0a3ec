"""The labels of a corpus as classes 0 to C-1."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lit_ft.console import say
from lit_ft.data.label_column import (
    LabelColumn,
    LabelType,
    are_numbers,
    shown_label,
    whole_number,
)
from lit_ft.data.label_names import (
    GivenNames,
    look,
    names_of_declared,
    names_of_numbers,
    names_of_texts,
    refuse_undeclared,
    span,
)
from lit_ft.data.label_order import MOST_STEPS, are_ordered
from lit_ft.errors import UserError, one_line, shorten
from lit_ft.tasks import SINGLE_LABEL, Task


@dataclass(frozen=True)
class LabelMapping:
    """The labels of training in the order of their classes, and the names shown for them. C classes.

    N rows.
    """

    task: ClassVar[Task] = SINGLE_LABEL
    values: tuple[int, ...] | tuple[str, ...]  # (C,)
    names: tuple[str, ...]  # (C,)
    ordered: bool  # whether the classes are steps of a scale
    declared: tuple[str, ...] = ()  # (C,): their names in the training column, if it declares any

    @property
    def num_labels(self) -> int:
        return len(self.values)

    @property
    def num_outputs(self) -> int:
        """Outputs of the model."""
        return len(self.values)

    @classmethod
    def fit(
        cls,
        labels: Any,
        *,
        base: int | None,
        names: Sequence[str] | Mapping[Any, str] | None,
        where: str,
        rows: Any = None,
        label_type: LabelType = "auto",
        declared: Sequence[str] | None = None,
        ordered: bool | str = "auto",
    ) -> "LabelMapping":
        """Makes the mapping from the labels of training.

        If all are whole numbers (also `'4'` or `4.0`), the classes are those that occur, in their order.
        Otherwise they are names, in alphabetical order. `names` may set another order and add classes.

        Args:
            labels: a `LabelColumn`, a column of a dataset, an arrow or numpy array or a list.
            base: the lowest whole number that is a class; None refuses those below 0.
            names: the labels in the order of their classes, or a name to show for each, or for each label.
            where: the source's name for the errors.
            rows: the labels' row numbers for the errors; None counts from 1.
            label_type: whether labels are names or numbers; `auto` decides by the values.
            declared: the names that the column itself declares for the labels 0 to C-1.
            ordered: whether they are steps of a scale; `auto`: see `label_order.are_ordered`.
        """
        column = labels if isinstance(labels, LabelColumn) else LabelColumn(labels, rows)
        column.check_complete(where)
        listed = names is not None and not isinstance(names, Mapping)  # in the order of the classes
        given = None if names is None else GivenNames.of(names)
        if declared is not None:
            classes = names_of_declared(column, declared, given, base, where)
            if len(column.values) < 2:
                raise _single(declared[column.values[0]], where)
            own = tuple(declared[i] if i < len(declared) else name for i, name in classes)
            values, shown = zip(*classes, strict=True)
            # The column's numbers only count its names: of the two, the names tell whether there is an order.
            return cls(values, shown, are_ordered(ordered, own, shown, column.name, True), own)
        if are_numbers(column, label_type, where):
            numbers = [whole_number(value) for value in column.values]
            if len(set(numbers)) < 2:
                raise _single(column.values[0], where)
            values, shown = zip(*names_of_numbers(column, given, base, where), strict=True)
            return cls(values, shown, are_ordered(ordered, values, shown, column.name, True))
        if base is not None:
            raise UserError(
                f"data.label_base={base} is the lowest whole number, but the labels of {where} are names, "
                f"such as {shown_label(column.texts[0])} in row {column.row_of(0)}; remove it"
                f"{', or set --data.label_type=numbers' * (None not in map(whole_number, column.values))}"
            )
        if len(column.texts) < 2:
            raise _single(column.values[0], where)
        values, shown = zip(*names_of_texts(sorted(column.texts), given, where), strict=True)
        return cls(values, shown, are_ordered(ordered, values, shown, column.name, listed))

    def encode(
        self,
        labels: Any,
        rows: Any = None,
        where: str = "the data",
        declared: Sequence[str] | None = None,
        trained_on: bool = False,
    ) -> np.ndarray:
        """The classes of labels, int64 (N,); raises for a label that training did not have.

        A label may be written as in training, or be the name that is shown for its class.

        Args:
            labels: a `LabelColumn`, a column of a dataset, an arrow or numpy array or a list.
            rows: the labels' row numbers for the errors; None counts from 1.
            where: the source's name for the errors.
            declared: the names that the column itself declares for the labels 0, 1, ...
            trained_on: whether these are the labels that `fit` saw, which are never shown names.
        """
        column = labels if isinstance(labels, LabelColumn) else LabelColumn(labels, rows)
        if column.values:
            column.check_complete(where)
        if declared is None:
            found = self._classes_of(column, where, trained_on)
        else:
            found = self._classes_of_declared(column, declared, where)
        lookup = np.array([-1 if i is None else i for i in found], dtype=np.int64)
        if (lookup < 0).any():
            first = min(np.flatnonzero(lookup < 0).tolist(), key=column.row_of)
            raise self._unknown(column, first, declared, where)
        return lookup[column.index]

    def _classes_of(self, column: LabelColumn, where: str, trained_on: bool) -> list[int | None]:
        """The class of each distinct label, None if training had no such label."""
        by_value = [self._by_value(value) for value in column.values]
        by_name = [self._by_name.get(text) for text in column.texts]
        if self._is_twofold and not trained_on:  # then the whole column is read in one of the two ways
            if None in by_name:
                return by_value
            if None not in by_value and by_name != by_value:
                say(f"labels of {where}: read as names of the classes, not as their numbers")
            return by_name
        found = [name if value is None else value for value, name in zip(by_value, by_name, strict=True)]
        read = []
        for i, value in enumerate(column.values):
            if found[i] is None and (place := self._loosely(value)) is not None:
                found[i] = place
                read.append(f"{shown_label(column.texts[i])} as {shown_label(str(self.values[place]))}")
        if read:
            say(f"labels of {where}: read {', '.join(read[:8])}{' ...' * (len(read) > 8)}")
        return found

    def _classes_of_declared(
        self, column: LabelColumn, declared: Sequence[str], where: str
    ) -> list[int | None]:
        """As `_classes_of`, for a column that holds the indices of the names it declares."""
        refuse_undeclared(column, declared, where)
        known: list[int | None] = []
        for name in declared:
            place = self._by_name.get(name)
            place = self._by_value(name) if place is None else place
            known.append(self._loosely(name) if place is None else place)
        numbered = set(self.values) == set(range(len(declared)))
        if numbered and all(place is None for place in known):
            known = [self._places[i] for i in range(len(declared))]
            pairs = [f"{name} as {self.names[self._places[i]]}" for i, name in enumerate(declared[:8])]
            say(f"labels of {where}: read by their numbers, {', '.join(pairs)}{' ...' * (len(declared) > 8)}")
        return [known[value] for value in column.values]

    @functools.cached_property
    def _places(self) -> dict[Any, int]:
        return {value: i for i, value in enumerate(self.values)}

    @functools.cached_property
    def _by_name(self) -> dict[str, int]:
        return {name: i for names in (self.declared, self.names) for i, name in enumerate(names)}

    @functools.cached_property
    def _by_look(self) -> dict[str, int]:
        """Classes by the look of their label or name, if no other class looks the same."""
        found: dict[str, int | None] = {}
        for names in (self.values, self.names, self.declared):
            for i, name in enumerate(names):
                seen = look(str(name))
                found[seen] = i if found.get(seen, i) == i else None
        return {seen: i for seen, i in found.items() if i is not None}

    @functools.cached_property
    def _is_twofold(self) -> bool:
        """Whether some name is the number of another class, such as '1' for the class whose label is 0."""
        pairs = zip(self.names, self.values, strict=True)
        return any(isinstance(v, int) and whole_number(n) not in (None, v) for n, v in pairs)

    def _by_value(self, value: Any) -> int | None:
        number = whole_number(value)
        place = self._places.get(str(value))
        return self._places.get(number) if place is None and number is not None else place

    def _loosely(self, value: Any) -> int | None:
        """The class of a label that is written in another way, or None.

        Such as True for true or 1, 1 for 1.0, Positive for positive.
        """
        if (place := self._by_look.get(look(str(value)))) is not None:
            return place
        number, truth = whole_number(value), {"true": 1, "false": 0}.get(str(value).casefold())
        if number in (0, 1) and {"true", "false"} == self._by_look.keys():
            return self._by_look[("false", "true")[number]]
        if truth is not None and isinstance(self.values[0], int):
            return self._places.get(truth)
        return None if number is None else self._by_number.get(number)

    @functools.cached_property
    def _by_number(self) -> dict[int, int]:
        """Classes by the number in their label, if no other class has it: 1 for 1.0 or 01."""
        numbers = [whole_number(value) for value in self.values]
        counts = Counter(numbers)
        return {n: i for i, n in enumerate(numbers) if n is not None and counts[n] == 1}

    def _unknown(
        self, column: LabelColumn, place: int, declared: Sequence[str] | None, where: str
    ) -> UserError:
        value: Any = column.values[place] if declared is None else declared[column.values[place]]
        return UserError(
            f"expected the labels of training, {span(self.values if not self.declared else self.names)}, in "
            f"{where}, found {column.in_words(place, value)}; fix the row, or "
            "train on data that has this label"
        )

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """What a batch holds for classes (N,): the same, int64."""
        return labels

    def strata(self, labels: np.ndarray) -> np.ndarray:
        """The classes, (N,), of which the hold-out takes the same share each."""
        return labels

    def of_kept(self, labels: np.ndarray) -> "LabelMapping":
        """The label object once rows were held out: the same."""
        return self

    def counts(self, labels: np.ndarray) -> np.ndarray:
        """Rows of each class, (C,)."""
        return np.bincount(labels, minlength=self.num_labels)

    def balance(self, labels: np.ndarray) -> dict[str, int]:
        """Name of a class -> its rows, in the order of the classes."""
        return dict(zip(self.names, self.counts(labels).tolist(), strict=True))

    def facts(self, labels: np.ndarray) -> dict[str, Any]:
        """What reports show of the labels of a split, (N,)."""
        return {"class_counts": self.counts(labels).tolist()}

    def named(self, label: int) -> str:
        """The name of a class."""
        return self.names[label]

    def shown(self, labels: np.ndarray) -> pa.Array:
        """The names of classes (N,), for files of texts."""
        return pa.array(self.names, pa.string()).take(pa.array(labels))

    def describe(self) -> str:
        """One line for the console."""
        shown = [
            _cut(name) if name == str(value) else f"{_cut(str(value))} ({_cut(name)})"
            for value, name in zip(self.values, self.names, strict=True)
        ]
        shown = shown if len(shown) <= 10 else [*shown[:9], "...", shown[-1]]
        line = f"labels: {self.num_labels} classes, {', '.join(shown)} -> 0 to {self.num_labels - 1}"
        if self.ordered:
            return f"{line}; a scale"
        numbers = 2 < self.num_labels <= MOST_STEPS and isinstance(self.values[0], int) and not self.declared
        return f"{line}; no scale (else set --data.ordered=true)" if numbers else line

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint that is loaded with `weights_only`."""
        lists = {"values": list(self.values), "names": list(self.names), "declared": list(self.declared)}
        return {"task": self.task.name, **lists, "ordered": self.ordered}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "LabelMapping":
        """The mapping that `as_dict` wrote."""
        assert len(plain["values"]) == len(plain["names"]), plain
        declared = tuple(plain["declared"])
        return cls(tuple(plain["values"]), tuple(plain["names"]), plain["ordered"], declared)


def _cut(name: str) -> str:
    return shorten(one_line(name))  # invisible characters, such as a zero-width space, are escaped


def _single(value: Any, where: str) -> UserError:
    return UserError(
        f"expected at least two classes in {where}, found only the label {shown_label(value)}; give more "
        "rows, or set --data.label_column to another column"
    )
