"""The labels of a corpus as numbers: read as written, standardised for training.

N rows, K distinct labels.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lit_ft.console import say, warn
from lit_ft.data.label_column import LabelColumn, is_stand_in, shown_label
from lit_ft.errors import UserError, one_line, rows_in_words, shorten
from lit_ft.tasks import REGRESSION, Task

NUMBER = re.compile(r"[+\-\u2212]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
WITH_COMMA = re.compile(r"[+\-\u2212]?[0-9]+,[0-9]+")
MINUS = "\u2212"  # as word processors and web pages write it
# 1,234 is a thousand in one country and 1.234 in another; 0,123 and 12,5 are one thing only.
TWOFOLD = re.compile(r"[+\-\u2212]?[1-9][0-9]{0,2},[0-9]{3}")
LARGEST = 1e30  # float32, in which the model computes, ends at 3e38
SMALLEST = 1e-30  # of a deviation: below 1e-38 float32 loses digits
FAR = 50  # times the middle half's width away from it: a stand-in such as 9999, or a mistake
NARROW = 30  # times less varied than in training: a share of 0 to 1 after a percentage
MOST_STRATA, ROWS_A_STRATUM = 10, 20


@dataclass(frozen=True)
class NumberScale:
    """The numbers of training: what they are called, and how they are standardised.

    Attributes:
        name: Of the column, which names the number everywhere.
        mean: Of the training rows, without those that are held out of them.
        deviation: Their standard deviation.
        low: The lowest of them.
        high: The highest.
        comma: Whether they were written with a decimal comma, as in 3,5.
    """

    task: ClassVar[Task] = REGRESSION
    num_outputs: ClassVar[int] = 1
    ordered: ClassVar[bool] = False
    name: str
    mean: float
    deviation: float
    low: float
    high: float
    comma: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The one name."""
        return (self.name,)

    @classmethod
    def fit(cls, column: LabelColumn, *, where: str, declared: Sequence[str] | None = None) -> "NumberScale":
        """Make the scale from the labels of training.

        Args:
            column: The labels.
            where: The source's name for the errors.
            declared: The names that the column itself declares for the labels 0 to C-1.

        Raises:
            UserError: A label is no number, or all are the same.
        """
        found, comma = _read(column, where, declared, False)
        numbers = found[column.index]
        low, high = float(numbers.min()), float(numbers.max())
        mean, deviation = float(numbers.mean()), float(numbers.std())
        if len(np.unique(found)) < 2:
            raise UserError(
                f"expected at least two different numbers in column '{column.name}' of {where}, found only "
                f"{number_text(low)}; give more rows, or set --data.label_column to another column"
            )
        if deviation < max(SMALLEST, 1e-12 * abs(mean)):
            raise UserError(
                f"expected numbers that differ in column '{column.name}' of {where}, found a standard "
                f"deviation of {deviation:.3g} around {mean:.6g}; subtract their mean, or change their unit"
            )
        if abs(mean) > 1e5 * deviation:
            warn(
                f"the numbers of {where} are {mean:.6g} on average and differ by {deviation:.3g} only: "
                "model/ computes in float32, to 7 digits; subtract a constant from them",
                always=True,
            )
        _warn_of_far(numbers, column, where)
        return cls(one_line(column.name), mean, deviation, low, high, comma)

    def encode(
        self,
        column: LabelColumn,
        rows: Any = None,
        where: str = "the data",
        declared: Sequence[str] | None = None,
        trained_on: bool = False,
    ) -> np.ndarray:
        """The numbers of labels in the user's units, float64 (N,).

        Args:
            column: The labels.
            rows: Not used: the column knows them.
            where: The source's name for the errors.
            declared: The names that the column itself declares for the labels 0, 1, ...
            trained_on: Whether these are the labels that `fit` saw.
        """
        if not column.values:
            return np.zeros(0)
        numbers = _read(column, where, declared, self.comma)[0][column.index]
        if not trained_on:
            self._warn_of_outside(numbers, column, where)
        return numbers

    def _warn_of_outside(self, numbers: np.ndarray, column: LabelColumn, where: str) -> None:
        """Warn of numbers unlike those of training; a little outside is what any other sample has."""
        room = (self.high - self.low) / 2
        low, high, enough = numbers.min(), numbers.max(), len(numbers) >= ROWS_A_STRATUM
        outside = (numbers < self.low) | (numbers > self.high)
        far = np.flatnonzero((numbers < self.low - room) | (numbers > self.high + room))
        theirs, ends = f"those of training, {self.span}", f"{number_text(low)} to {number_text(high)}"
        all_of_them, line = f"{len(numbers):,} numbers of {where}", ""
        if len(numbers) > 1 and low == high and outside.all():
            line = (
                f"all {all_of_them} are {number_text(low)}, outside {theirs}: if it stands for labels that "
                "are kept secret, give the file to predict (--data.predict_path)"
            )
        elif len(far):
            line = (
                f"{len(far):,} of {all_of_them} are far outside {theirs}: they go from {ends} "
                f"({rows_in_words(column.rows[far])}); are they in the same unit?"
            )
        elif enough and outside.mean() > 0.5:
            line = (
                f"{outside.sum():,} of {all_of_them} are outside {theirs}: they go from {ends}; are they "
                "in the same unit?"
            )
        elif enough and low < high and numbers.std() < self.deviation / NARROW:
            line = f"{all_of_them} hardly differ, {ends}, beside {theirs}: are they in the same unit?"
        if line:
            warn(line, always=True)

    @property
    def span(self) -> str:
        """`1 to 5`: of the training rows."""
        return f"{number_text(self.low)} to {number_text(self.high)}"

    def targets(self, numbers: np.ndarray) -> np.ndarray:
        """What a batch holds: numbers (N,) float64 -> standardised (N,) float32."""
        return ((numbers - self.mean) / self.deviation).astype(np.float32)

    def numbers(self, targets: np.ndarray) -> np.ndarray:
        """Standardised (N,) -> in the user's units, (N,) float64."""
        return targets.astype(np.float64) * self.deviation + self.mean

    @staticmethod
    def strata(numbers: np.ndarray) -> np.ndarray:
        """What the hold-out is stratified by: at most ten quantiles of the numbers, (N,) int64."""
        count = int(np.clip(len(numbers) // ROWS_A_STRATUM, 1, MOST_STRATA))
        edges = np.unique(np.quantile(numbers, np.arange(1, count) / count))
        return np.unique(np.searchsorted(edges, numbers, side="right"), return_inverse=True)[1]

    def of_kept(self, numbers: np.ndarray) -> "NumberScale":
        """The same with the mean and deviation of the rows that training keeps, once others were held out."""
        mean, deviation = float(numbers.mean()), float(numbers.std())
        equal = deviation < max(SMALLEST, 1e-12 * abs(mean))  # only a row that is held out differs
        return self if equal else replace(self, mean=mean, deviation=deviation)

    def counts(self, numbers: np.ndarray) -> np.ndarray:
        """All rows, (1,): there are no classes."""
        return np.array([len(numbers)])

    def balance(self, numbers: np.ndarray) -> None:
        """There are no classes whose rows could be counted."""

    def facts(self, numbers: np.ndarray) -> dict[str, Any]:
        """What reports show of the numbers of a split, (N,)."""
        found = {
            "mean": numbers.mean(),
            "deviation": numbers.std(),
            "low": numbers.min(),
            "high": numbers.max(),
        }
        return {"numbers": {name: float(value) for name, value in found.items()}}

    def describe(self) -> str:
        """One line for the console."""
        comma = "; written with a decimal comma" * self.comma
        return (
            f"labels: numbers in '{shorten(self.name)}', {self.span}, mean {_rough(self.mean)}, standard "
            f"deviation {_rough(self.deviation)}; standardised inside, shown in their own unit{comma}"
        )

    @staticmethod
    def named(number: float) -> str:
        """A number for a sentence."""
        return number_text(number)

    @staticmethod
    def shown(numbers: np.ndarray) -> pa.Array:
        """Numbers (N,) for files: doubles."""
        return pa.array(numbers, pa.float64())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint that is loaded with `weights_only`."""
        return {"task": self.task.name, **asdict(self)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "NumberScale":
        """The scale that `as_dict` wrote."""
        return cls(**{key: value for key, value in plain.items() if key != "task"})


def number_text(value: float) -> str:
    """A number for a sentence: six significant digits or all before the point, no exponent up to 1e15."""
    if not 1000 <= abs(value) < 1e15:
        return f"{value + 0.0:.6g}"  # no -0
    digits = max(0, 6 - len(f"{abs(value):.0f}"))
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def _rough(value: float) -> str:
    """A number for a sentence, of four significant digits."""
    return number_text(float(f"{value:.4g}"))


def _read(
    column: LabelColumn, where: str, declared: Sequence[str] | None, comma: bool
) -> tuple[np.ndarray, bool]:
    """The number of each distinct label, (K,), and whether they have decimal commas.

    Args:
        column: The labels.
        where: The source's name for the errors.
        declared: The names that the column declares.
        comma: Whether training had decimal commas, which decides what 1,234 is.
    """
    if declared is not None:
        raise UserError(
            f"expected numbers in column '{column.name}' of {where} (data.task=regression), found the "
            f"classes {', '.join(declared[:5])}{' ...' * (len(declared) > 5)}; remove --data.task to predict "
            "classes, or set --data.label_column to another column"
        )
    if not column.values:
        column.check_complete(where)
    if None in column.values:
        place = column.values.index(None)
        raise UserError(
            f"expected a number in each row of {where}, found none, or NaN, in "
            f"{rows_in_words(column.rows_of([place]))}; fix or remove the row, or set --data.label_column to "
            "another column"
        )
    texts = [value for value in column.values if isinstance(value, str)]
    with_comma = [text for text in texts if WITH_COMMA.fullmatch(text)]
    if with_comma:
        plain = next((t for t in texts if "." in t and NUMBER.fullmatch(t)), None)
        sure = comma or not all(TWOFOLD.fullmatch(text) for text in with_comma)
        if plain is not None or not sure:
            place = column.values.index(with_comma[0])
            beside = f" beside {plain!r}" if plain is not None else ""
            raise UserError(
                f"expected numbers written like 3.5 in column '{column.name}' of {where}, found "
                f"{with_comma[0]!r} in row {column.row_of(place)}{beside}: a decimal comma, or thousands? "
                "write a point, and no commas"
            )
        if not comma:
            say(
                f"numbers of {where}: read with a decimal comma, {with_comma[0]!r} as {_point(with_comma[0])}"
            )
    found = [_number(value, bool(with_comma)) for value in column.values]
    odd = [place for place, value in enumerate(found) if value is None or not abs(value) <= LARGEST]
    if odd:
        raise _refused(column, min(odd, key=column.row_of), where)
    return np.array(found, np.float64), comma or bool(with_comma)


def _number(value: Any, comma: bool) -> float | None:
    if not isinstance(value, str):
        return float(value)
    text = _point(value) if comma else value
    return float(text.replace(MINUS, "-")) if NUMBER.fullmatch(text) else None


def _point(text: str) -> str:
    return text.replace(",", ".") if WITH_COMMA.fullmatch(text) else text


def _refused(column: LabelColumn, place: int, where: str) -> UserError:
    """The error for a label that is no number, or too large a one."""
    value = column.values[place]
    expected = f"expected a number in each row of column '{column.name}' of {where}"
    large = not isinstance(value, str) or NUMBER.fullmatch(value) is not None
    if large and _number(value, False) not in (float("inf"), -float("inf")):
        return UserError(
            f"{expected} between -1e30 and 1e30, found {value} in row {column.row_of(place)}; fix it, or "
            "give all numbers in a larger unit"
        )
    if is_stand_in(value) or column.is_own_name(place):
        return UserError(f"{expected}, found {column.in_words(place, value)}; fix or remove the row")
    infinite = "infinity, " * large
    classes = not large and int(column.counts[place]) > 0.1 * len(column.index)
    advice = ", or remove --data.task" * classes
    if not large and any(sign.isdecimal() for sign in value):
        advice += "; numbers stand alone, like 3.5, without units, currency or thousands separators"
    return UserError(
        f"{expected}, found {infinite}{shown_label(value)} in row {column.row_of(place)}; fix or remove the "
        f"row, or set --data.label_column to another column{advice}"
    )


def _warn_of_far(numbers: np.ndarray, column: LabelColumn, where: str) -> None:
    """Warn of numbers so far from all others that one of them would set the scale."""
    low, high = np.quantile(numbers, [0.25, 0.75])
    room = FAR * (high - low)
    far = np.flatnonzero((numbers < low - room) | (numbers > high + room))
    if not room or not len(far):
        return
    worst = far[np.argmax(np.abs(numbers[far] - (low + high) / 2))]
    warn(
        f"{len(far):,} of {len(numbers):,} numbers of {where} are far from all others, such as "
        f"{number_text(numbers[worst])} in row {column.rows[worst]}; half of them lie between "
        f"{number_text(low)} and {number_text(high)}: if it means 'missing', remove the row",
        always=True,
    )
