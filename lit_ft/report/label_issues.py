"""Labels that a person should look at again: the list, its file, and what it is worth in words.

They are those of `confident_learning.py`, and equal texts with different labels, of which one is wrong.

N rows of `out_of_fold.parquet`, M to check.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from lit_ft import runs
from lit_ft.errors import UserError, one_line, shorten
from lit_ft.report.confident_learning import (
    COMMONEST,
    Flagged,
    classes_to_check,
    numbers_to_check,
    tags_to_check,
)
from lit_ft.report.out_of_fold import COLUMNS
from lit_ft.report.pairs import note_of

TO_CHECK = "labels_to_check.csv"
MOST_LISTED = 10_000  # rows of the file: nobody checks more, and they have to fit into memory
MOST_ENTRIES, MOST_LETTERS = 20, 600  # of the page
LINE_LETTERS = 80  # of a text in a line
DIGITS = 6  # of a probability in the file, as in those of `predict`
MODEL, EQUAL_TEXT = "model", "equal text"  # why a row is listed
ADVICE = (
    "Read them from the top, for as long as you find wrong labels. A person decides: nothing was changed, "
    "and a label that the models find odd can be right."
)


@dataclass(frozen=True)
class LabelIssue:
    """A label to check.

    Attributes:
        row: In the source, from 1.
        text: The text, whole.
        pair: The second text; None without pairs.
        label: As it is shown.
        suggestion: What it may be instead: a class; `+billing; -refund`; a number.
        chance: The probability of the suggestion, of several the first; NaN if there is none.
        own: That of the label; of a number the robust z-score of its residual.
        fold: That held it out.
        reason: `model` or `equal text`.
    """

    row: int
    text: str
    pair: str | None
    label: str
    suggestion: str
    chance: float
    own: float
    fold: int
    reason: str


@dataclass(frozen=True)
class LabelIssues:
    """All labels to check, in words too.

    Attributes:
        kind: Of the labels, as in `report.json`.
        of: N.
        count: How many are to check.
        listed: The first of them, at most `MOST_LISTED`.
        estimated: The estimated number of wrong labels; None for numbers.
        words: What the list is and is worth, a sentence or two each.
        weak: The models are not clearly better than always answering the commonest label.
    """

    kind: str
    of: int
    count: int
    listed: list[LabelIssue]
    estimated: float | None
    words: list[str]
    weak: bool = False


# ---- equal texts -------------------------------------------------------------------------------------


def _class_instead(label: str, better: str) -> str:
    return better


def _tags_instead(label: list[str], better: list[str]) -> str:
    more = [f"+{name}" for name in better if name not in label]
    return "; ".join([*more, *(f"-{name}" for name in label if name not in better)])


def contradicted(hashes: np.ndarray, labels: Sequence[Any], fits: np.ndarray) -> dict[int, int]:
    """Rows whose text another row has with another label that fits better: place -> place of the best.

    Args:
        hashes: Of the texts, (N,) uint64.
        labels: (N,) of anything that can be compared.
        fits: The higher, the better the label fits, (N,).
    """
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    groups: dict[int, set[int]] = {}
    for k in same.tolist():
        groups.setdefault(int(hashes[order[k]]), set()).update((int(order[k]), int(order[k + 1])))
    found: dict[int, int] = {}
    for group in groups.values():
        best = min(group, key=lambda place: (-fits[place], place))
        found |= {place: best for place in group if labels[place] != labels[best]}
    return found


@dataclass(frozen=True)
class Checked:
    """How the labels of one kind are checked.

    Attributes:
        flag: The file and its note -> the rows to check.
        instead: A label, and that of an equal text which fits better -> the suggestion; None if equal texts
            may well have different labels.
        shown: A label -> as a person reads it.
        columns: The last ones of the csv, and the attributes of `LabelIssue` in them.
    """

    flag: Callable[[Path, dict[str, Any]], Flagged]
    instead: Callable[[Any, Any], str] | None
    shown: Callable[[Any], str]
    columns: dict[str, str]


def as_given(value: float) -> str:
    """A number as a file has it: `1000000`, not `1e+06`, which would also hide its last digits."""
    return f"{value:.15g}" if abs(value) < 1e15 else str(value)


OF_CLASSES = {"probability": "chance", "probability_of_label": "own", "fold": "fold", "reason": "reason"}
OF_NUMBERS = {"robust_z": "own", "fold": "fold"}
CHECKED = {
    "classifier": Checked(classes_to_check, _class_instead, str, OF_CLASSES),
    "multi_label": Checked(tags_to_check, _tags_instead, lambda tags: "; ".join(tags) or "none", OF_CLASSES),
    "regression": Checked(numbers_to_check, None, as_given, OF_NUMBERS),
}
assert CHECKED.keys() == COLUMNS.keys()


# ---- all of them -------------------------------------------------------------------------------------


def find_label_issues(out_of_fold: Path) -> LabelIssues:
    """The labels to check by what the models said of each text: see `out_of_fold.py`.

    Args:
        out_of_fold: The file that `write_out_of_fold` made.

    Raises:
        UserError: It is not such a file.
    """
    note = note_of(out_of_fold)
    if note.get("kind") not in CHECKED or "seeds" not in note:
        raise UserError(
            f"expected out-of-fold predictions in {out_of_fold}, found none; make them by `repeat --folds=5`"
        )
    how = CHECKED[note["kind"]]
    flagged = how.flag(out_of_fold, note)
    table = pa.parquet.read_table(out_of_fold, columns=["text_hash", "label", "loss"])
    fits = flagged.fits if flagged.fits is not None else -table["loss"].to_numpy().astype(np.float64)
    equal: dict[int, int] = {}
    if how.instead is not None:
        equal = contradicted(table["text_hash"].to_numpy(), _Labels(table["label"]), fits)
    at = {place: k for k, place in enumerate(flagged.places.tolist())}
    by_model = flagged.places[np.argsort(flagged.scores, kind="stable")].tolist()
    first = sorted(equal, key=lambda place: (fits[place], place))
    places = [*first, *(place for place in by_model if place not in equal)]
    columns = _rows_at(out_of_fold, places[:MOST_LISTED])
    listed = []
    for place in places[:MOST_LISTED]:
        label, row, fold, text, pair = columns[place]
        if (best := equal.get(place)) is not None:
            assert how.instead is not None
            suggestion, reason = how.instead(label, table["label"][best].as_py()), EQUAL_TEXT
            both = (fits[best], fits[place]) if flagged.fits is not None else (math.nan, math.nan)
        else:
            k = at[place]
            suggestion, reason = flagged.suggestions[k], MODEL
            both = (flagged.chances[k], flagged.own[k])
        chance, own = map(float, both)
        listed.append(LabelIssue(row, text, pair, how.shown(label), suggestion, chance, own, fold, reason))
    words = list(flagged.words)
    if equal:
        rows, have = ("row", "has") if len(equal) == 1 else ("rows", "have")
        words.insert(
            0,
            f"{len(equal):,} {rows}, listed first, {have} a text that another row has with another label; "
            "the suggestion is the one of these labels that the models find likelier.",
        )
    if len(places) > MOST_LISTED:
        words.append(f"The list ends after the first {MOST_LISTED:,} of {len(places):,}.")
    words.append(ADVICE if places else "That nothing was found does not mean that all labels are right.")
    found = table.num_rows, len(places), listed, flagged.estimated, words
    return LabelIssues(note["kind"], *found, weak=flagged.weak)


class _Labels(Sequence[Any]):
    """A column by its places, without making Python objects of all of it."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, place: Any) -> Any:
        return self.column[place].as_py()


def _rows_at(path: Path, places: Sequence[int]) -> dict[int, tuple[Any, int, int, str, str | None]]:
    """Label, row, fold, text and second text at these places, read from the row groups that hold them."""
    found: dict[int, tuple[Any, int, int, str, str | None]] = {}
    wanted = np.sort(np.array(places, np.int64))
    with pa.parquet.ParquetFile(path) as file:
        pairs = "pair" in file.schema_arrow.names
        names = ["label", "row", "fold", "text", *(["pair"] if pairs else [])]
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            here = wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, end)]
            if len(here):
                rows = file.read_row_group(group, columns=names).take(pa.array(here - start)).select(names)
                columns = [column.to_pylist() for column in rows.columns]
                columns += [] if pairs else [[None] * len(here)]
                found |= dict(zip(here.tolist(), zip(*columns, strict=True), strict=True))
            start = end
    return found


def write_label_issues(issues: LabelIssues, path: Path) -> Path:
    """Write the list as csv, with six digits as `predict` does, and return the path.

    It is for a person, who opens it in a spreadsheet: Excel reads UTF-8 by its mark alone, and computes what
    begins as a formula, which hides the text, or does what its author wanted.
    """
    last = CHECKED[issues.kind].columns
    pairs = any(issue.pair is not None for issue in issues.listed)
    texts = ["text", "pair"] if pairs else ["text"]
    held = io.StringIO(newline="")
    writer = csv.writer(held)
    writer.writerow(["rank", "row", *texts, "label", "suggestion", *last])
    for rank, issue in enumerate(issues.listed, 1):
        values = [_written(getattr(issue, name)) for name in last.values()]
        shown = [issue.text, issue.pair] if pairs else [issue.text]
        cells = [no_formula(cell) for cell in (*shown, issue.label, issue.suggestion)]
        writer.writerow([rank, issue.row, *cells, *values])
    with runs.written_whole(path) as file:
        file.write(held.getvalue().encode("utf-8-sig"))
    return path


def no_formula(cell: str | None) -> str | None:
    """A cell that no spreadsheet takes for a formula: `'=1+1`; numbers stay as they are.

    OWASP, "CSV Injection": of these beginnings, and with an apostrophe before.
    """
    if not cell or cell[0] not in "=+-@\t\r":
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _written(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.{DIGITS}f}"


def label_issue_facts(issues: LabelIssues, file: str = TO_CHECK) -> dict[str, Any]:
    """Plain values for `repeat.json`: count, of, file, estimated, words, and the first entries.

    Args:
        issues: What was found.
        file: The name of the csv.
    """
    entries = [
        {
            "rank": rank,
            "row": issue.row,
            "text": shorten(issue.text, MOST_LETTERS),
            **({} if issue.pair is None else {"pair": shorten(issue.pair, MOST_LETTERS)}),
            "label": issue.label,
            "suggestion": issue.suggestion,
            **{name: _plain(getattr(issue, of)) for name, of in CHECKED[issues.kind].columns.items()},
        }
        for rank, issue in enumerate(issues.listed[:MOST_ENTRIES], 1)
    ]
    return {
        "count": issues.count,
        "of": issues.of,
        "file": file,
        "estimated": issues.estimated,
        "words": issues.words,
        "entries": entries,
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else runs.rounded(value)


def label_issue_line(issues: LabelIssues, file: str | Path = TO_CHECK) -> str:
    """`labels to check: 214 of 5,000 (labels_to_check.csv), the first: row 17: ...`, for the console.

    Args:
        issues: What was found.
        file: The csv, as a person would type it.
    """
    line = f"labels to check: {issues.count:,} of {issues.of:,}"
    if not issues.listed:
        return line
    if issues.weak:
        return f"{line} ({file}), but the models are hardly better than {COMMONEST}: they cannot judge labels"
    one = issues.listed[0]
    text = shorten(one_line(one.text), LINE_LETTERS)
    label, suggestion = (shorten(one_line(value)) for value in (one.label, one.suggestion))
    return f"{line} ({file}), the first: row {one.row:,}: {text!r}, labelled {label}, perhaps {suggestion}"
