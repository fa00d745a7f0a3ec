"""The labels of a multi-label corpus: 0 to C-1, of which a row may have any number. N rows, C labels."""

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lit_ft.data.label_column import WHOLE, is_stand_in, shown_label
from lit_ft.data.label_findings import MOST_ROWS, MOST_STEPS, SEPARATORS, LabelFinding, parts_of
from lit_ft.data.label_names import GivenNames, look, look_alikes
from lit_ft.data.tag_columns import TAGS, TagForm, escaped
from lit_ft.errors import UserError, one_line, rows_in_words, shorten
from lit_ft.tasks import MULTI_LABEL, Task

MOST_SHOWN = 10  # labels in a line


class TagColumn:
    """The labels of each row.

    Args:
        labels: Lists of names, (N,).
        rows: The rows' numbers for messages, (N,).
        form: How they were written.

    Attributes:
        values: The distinct labels, in order of appearance.
        place: Of each label of each row its place in `values`, (M,).
        of: The row of it, from 0, (M,).
    """

    def __init__(self, labels: Any, rows: Any = None, form: TagForm | None = None) -> None:
        column = labels if isinstance(labels, (pa.Array, pa.ChunkedArray)) else pa.array(labels, TAGS)
        flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        encoded = pc.list_flatten(flat).dictionary_encode()
        self.values: list[str] = encoded.dictionary.to_pylist()
        self.place = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        self.of = pc.list_parent_indices(flat).to_numpy().astype(np.int64)
        self.num_rows = len(flat)
        self.rows = np.arange(1, self.num_rows + 1) if rows is None else np.asarray(rows)
        self.form = form or TagForm("lists", ("label",))

    def row_of(self, place: int) -> int:
        """The first row that has this label."""
        return int(self.rows[self.of[np.argmax(self.place == place)]])

    @property
    def where(self) -> str:
        """The column or columns, for messages."""
        plural = "s" if len(self.form.columns) > 1 else ""
        return f"column{plural} {', '.join(map(repr, self.form.columns[:MOST_SHOWN]))}"


@dataclass(frozen=True)
class TagMapping:
    """The labels of training in their order, and the names shown for them."""

    values: tuple[str, ...]  # (C,), as written
    names: tuple[str, ...]  # (C,)
    separator: str = ";"  # of joined labels, here and in what `predict` writes
    threshold: float | None = (
        None  # from which probability on a text gets a label; None: chosen by validation
    )

    task: ClassVar[Task] = MULTI_LABEL
    ordered: ClassVar[bool] = False
    declared: ClassVar[tuple[str, ...]] = ()

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
        column: TagColumn,
        *,
        names: Sequence[str] | Mapping[Any, str] | None,
        where: str,
        threshold: float | None = None,
    ) -> "TagMapping":
        """Makes the mapping from the labels of training.

        In alphabetical order, whole numbers in their own; those of columns of 0 and 1 in that of the columns.
        `names` may set another order and add labels, or give a name to show for each.

        Args:
            column: Of the training rows.
            names: The setting `data.label_names`.
            where: The source's name for the errors.
            threshold: The setting `data.threshold`.

        Raises:
            UserError: There are not two labels, or nothing to tell apart, or they were not read as meant.
        """
        _refuse_vectors(column, where)
        _refuse_unjoined(column, where)
        if not column.values:
            raise UserError(
                f"expected labels in {column.where} of {where}, found none in any of its {column.num_rows:,} "
                "rows; set --data.label_column to another column"
            )
        known = column.form.names or tuple(sorted(column.values, key=_in_order(column.values)))
        given = None if names is None else GivenNames.of(names)
        values, shown = zip(*_named(known, given, column, where), strict=True)
        if len(values) < 2:
            raise UserError(
                f"expected at least two labels in {column.where} of {where}, found only "
                f"{shown_label(values[0])}; to tell texts that have it from others, give two classes in a "
                "column of their own (--data.task=single_label)"
            )
        made = cls(values, shown, column.form.separator, threshold)
        counts = made.encode(column, where).sum(0)
        if not ((counts > 0) & (counts < column.num_rows)).any():
            raise UserError(
                f"expected a label that some rows of {where} have and some have not, found each of "
                f"{_listed(values)} on every row or on none; there is nothing to tell apart: give other rows"
            )
        return made

    def encode(self, column: TagColumn, where: str = "the data") -> np.ndarray:
        """Which labels each row has, (N, C) bool.

        A label may be written as in training, or be the name that is shown for it.

        Raises:
            UserError: A label that training did not have.
        """
        places = [self._place_of(value) for value in column.values]
        if None in places:
            first = min((i for i, place in enumerate(places) if place is None), key=column.row_of)
            raise UserError(
                f"expected the labels of training, {_listed(self.values)}, in {where}, found "
                f"{shown_label(column.values[first])} in row {column.row_of(first)}; fix the row, or train "
                "on data that has this label"
            )
        tags = np.zeros((column.num_rows, len(self.values)), bool)
        tags[column.of, np.array(places, dtype=np.int64)[column.place]] = True
        return tags

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        return {value: i for named in (self.names, self.values) for i, value in enumerate(named)}

    @functools.cached_property
    def _by_look(self) -> dict[str, int]:
        looks = [look(value) for value in self.values]
        return {seen: i for i, seen in enumerate(looks) if looks.count(seen) == 1}

    def _place_of(self, value: str) -> int | None:
        place = self._places.get(value)
        return self._by_look.get(look(value)) if place is None else place

    # ---- what others take of them ------------------------------------------------------------------

    def targets(self, tags: np.ndarray) -> np.ndarray:
        """What a batch holds for labels (N, C): float32, as the loss takes them."""
        return tags.astype(np.float32)

    def strata(self, tags: np.ndarray) -> np.ndarray:
        """The labels, (N, C), of which the hold-out takes the same share each."""
        return tags

    def of_kept(self, tags: np.ndarray) -> "TagMapping":
        """The label object once rows were held out: the same."""
        return self

    def counts(self, tags: np.ndarray) -> np.ndarray:
        """Rows that have each label, (C,)."""
        return tags.sum(0)

    def facts(self, tags: np.ndarray) -> dict[str, Any]:
        """What reports show of the labels of a split, (N, C)."""
        return {"class_counts": self.counts(tags).tolist(), "without_label": int((~tags.any(1)).sum())}

    def balance(self, tags: np.ndarray) -> dict[str, int]:
        """Name of a label -> its rows, in the order of the labels."""
        return dict(zip(self.names, self.counts(tags).tolist(), strict=True))

    def named(self, tags: np.ndarray) -> str:
        """The labels of one row, (C,), for a sentence."""
        return self.separator.join(self.names[c] for c in np.flatnonzero(tags)) or "no label"

    def shown(self, tags: np.ndarray) -> pa.Array:
        """Lists of the names of labels (N, C), for files of texts."""
        offsets = np.concatenate([[0], tags.sum(1).cumsum()])
        names = pa.array(self.names, pa.string()).take(pa.array(np.nonzero(tags)[1], pa.int64()))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names)

    def describe(self) -> str:
        """One line for the console."""
        shown = [shorten(one_line(name)) for name in self.names]
        shown = shown if len(shown) <= MOST_SHOWN else [*shown[: MOST_SHOWN - 1], "...", shown[-1]]
        return f"labels: {len(self.names)}, any number of them a text: {', '.join(shown)}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint that is loaded with `weights_only`."""
        lists = {"values": list(self.values), "names": list(self.names), "declared": []}
        return {"task": self.task.name, **lists, "separator": self.separator, "threshold": self.threshold}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "TagMapping":
        """The mapping that `as_dict` wrote."""
        return cls(tuple(plain["values"]), tuple(plain["names"]), plain["separator"], plain["threshold"])


def tag_findings(column: TagColumn, tags: np.ndarray, mapping: TagMapping) -> list[LabelFinding]:
    """The findings about the labels of training, (N, C)."""
    line = f"{tags.sum(1).mean():.2f} a text on average"
    if without := int((~tags.any(1)).sum()):
        line += f"; {without:,} of {len(tags):,} texts have none"
    found = [_finding("sets", line, warns=False)]
    if tags.sum(1).max() < 2:
        line = "no row has more than one"
        if column.form.form == "joined":
            line += f": set --data.label_separator if anything but {column.form.separator!r} joins them"
        found.append(_finding("joined", line))
    for place in [place for place, value in enumerate(column.values) if is_stand_in(value, column.values)]:
        rows = column.rows[np.unique(column.of[column.place == place])]
        line = f"{column.values[place]!r} in {rows_in_words(rows)} often means no label, but is one here"
        fix = "leave it out of the row if it does"
        found.append(_finding("stand-in", f"{line}; {fix}", rows[:MOST_ROWS].tolist(), unsound=True))
    counts = tags.sum(0)
    for count, what in ((0, "no row"), (len(tags), "every row")):
        if len(places := np.flatnonzero(counts == count)):
            names = _listed([mapping.names[c] for c in places])
            found.append(_finding("constant", f"{what} has {names}: nothing can be learned of it"))
    for group in look_alikes(list(mapping.values))[:MOST_SHOWN]:
        rows = column.rows[tags[:, [mapping.values.index(name) for name in group]].any(1)]
        shown = " and ".join(map(shown_label, group))
        line = (
            f"{shown} look the same but are {len(group)} labels, in {rows_in_words(rows)}; spell them alike"
        )
        found.append(_finding("look-alike", line, rows[:MOST_ROWS].tolist(), unsound=True))
    pairs = np.stack([column.of, column.place])
    if twice := pairs.shape[1] - np.unique(pairs, axis=1).shape[1]:
        line = f"{twice:,} time{'s' * (twice > 1)} a row names a label again; it counts once"
        found.append(_finding("written", line, warns=False))
    if len(mapping.names) > max(MOST_STEPS, len(tags) / 2):
        line = f"{len(mapping.names):,} distinct ones in {len(tags):,} rows: is {column.where} of the labels?"
        found.append(_finding("many", f"{line} (--data.label_column)"))
    return found


def _finding(
    kind: Any, line: str, rows: Sequence[int] = (), unsound: bool = False, warns: bool = True
) -> Any:
    return LabelFinding(kind, f"labels: {line}", list(rows), unsound, warns)


def _in_order(values: Sequence[str]) -> Any:
    """The key by which labels are sorted: as numbers if all are whole ones."""
    return int if all(WHOLE.fullmatch(value) and "." not in value for value in values) else str


def _named(
    known: Sequence[str], given: GivenNames | None, column: TagColumn, where: str
) -> list[tuple[str, str]]:
    """Label and name to show, in order."""
    if given is None:
        return [(value, value) for value in known]
    if not given.by_label and not set(known) & set(given.labels) and len(known) == len(given.shown):
        return list(zip(known, given.shown, strict=True))  # names in the order of the labels
    if missing := [value for value in known if value not in given.labels]:
        at = column.values.index(missing[0]) if missing[0] in column.values else None
        row = "" if at is None else f" in row {column.row_of(at)}"
        raise UserError(
            f"expected the labels of --data.label_names, {_listed(given.labels)}, in {where}, found "
            f"{shown_label(missing[0])}{row}; add it to --data.label_names, or fix the row"
        )
    return list(zip(given.labels, given.shown, strict=True))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(shown_label(name) for name in names[:8])
    return shown + f" and {len(names) - 8} more" * (len(names) > 8)


def _refuse_vectors(column: TagColumn, where: str) -> None:
    """Refuse lists such as [0, 1, 1, 0], which say by their places which labels a row has."""
    if not column.values or not set(column.values) <= {"0", "1"}:
        return
    lengths = np.bincount(column.of, minlength=column.num_rows)
    if lengths.min() == lengths.max() > 1:
        raise UserError(
            f"expected lists of the labels that a row has in {column.where} of {where}, found lists of "
            f"{lengths[0]} zeros and ones in each row, row {column.rows[0]} on; write the names of those "
            "that are 1, or a column of 0 and 1 for each label (--data.label_columns=[...])"
        )


def _refuse_unjoined(column: TagColumn, where: str) -> None:
    """Refuse labels that another separator joins: no row holds the one that was set."""
    form = column.form
    if form.form != "joined" or not column.values or np.bincount(column.of).max() > 1:
        return
    if any(form.separator in value for value in column.values):
        return
    for other in (*SEPARATORS, " "):
        parts = [parts_of(value, other) for value in column.values]
        joined = [i for i, found in enumerate(parts) if len(found) > 1 and all(found)]
        times = [part for i in joined for part in parts[i]] + [p[0] for p in parts if len(p) == 1]
        # Words of one label may occur in another: science fiction, historical fiction.
        most = len(parts) if other == " " else len(times)
        if joined and len(set(times)) < most:
            raise UserError(
                f"expected labels joined by {form.separator!r} in {column.where} of {where}, found it in no "
                f"row but {other!r} in {shown_label(column.values[joined[0]])} in row "
                f"{column.row_of(joined[0])}; set --data.label_separator={shlex.quote(escaped(other))}"
            )
