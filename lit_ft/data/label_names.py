"""`data.label_names` matched to the labels of a column: their order, or the names to show for them.

Also finds names that look the same although their characters differ.
"""

import json
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lit_ft.data.label_column import LabelColumn, shown_label, whole_number
from lit_ft.errors import UserError, rows_in_words

MOST_SHOWN = 8  # labels in a message


@dataclass(frozen=True)
class GivenNames:
    """The setting: labels, and the name to show for each, which may be the label itself."""

    labels: tuple[str, ...]
    shown: tuple[str, ...]
    by_label: bool  # whether it maps labels to names

    @classmethod
    def of(cls, names: Sequence[str] | Mapping[Any, str]) -> "GivenNames":
        """Read the setting; raise if two names are the same or one is empty."""
        by_label = isinstance(names, Mapping)
        labels = [str(name).strip() for name in names]  # YAML reads a mapping's keys as numbers
        shown = [str(name).strip() for name in (names.values() if isinstance(names, Mapping) else names)]
        for each in (labels, shown):
            if "" in each or len(set(each)) != len(each):
                raise UserError(
                    f"expected {len(each)} different names, found {', '.join(map(repr, each))}; set "
                    "--data.label_names to a name for each label"
                )
        return cls(tuple(labels), tuple(shown), by_label)


def names_of_numbers(
    column: LabelColumn, given: GivenNames | None, base: int | None, where: str
) -> list[tuple[int, str]]:
    """Classes of whole numbers: those that occur, `base`, and those that have a name."""
    numbers: dict[int, int] = {}  # -> place in the column
    for place, value in enumerate(column.values):
        numbers.setdefault(whole_number(value), place)  # type: ignore[arg-type]
    if given is not None:
        named = [whole_number(label) for label in given.labels]
        if numbers.keys() <= set(named) and None not in named and len(set(named)) == len(named):
            if base is not None and base not in named:
                raise UserError(
                    f"data.label_base={base} is not one of the labels in --data.label_names, "
                    f"{_listed(given.labels)}; remove one of the two"
                )
            return list(zip(named, given.shown, strict=True))  # type: ignore[arg-type]
        if given.by_label or numbers.keys() & set(named):
            raise _refuse_part(list(map(str, sorted(numbers))), list(map(str, named)), given, where)
    _refuse_below(numbers, base, where, column)
    classes = sorted(numbers.keys() | ({base} if base is not None else set()))
    if given is None:
        return [(number, str(number)) for number in classes]
    if len(given.shown) != len(classes):  # some classes have no row here: 5 names are for 1 to 5
        first = base if base is not None else min(classes[0], 1)
        declared = range(first, first + len(given.shown))
        if classes[0] not in declared:
            raise UserError(
                f"expected {len(classes)} different names for the labels {span(classes)} of {where}, found "
                f"{len(given.shown)}: {', '.join(given.shown)}; set --data.label_names to a name for each"
            )
        if outside := [number for number in classes if number not in declared]:
            raise UserError(
                f"expected labels {span(declared)} in {where}, one for each of the {len(declared)} names of "
                f"--data.label_names, found {outside[0]} in row {column.row_of(numbers[outside[0]])}; fix "
                f"the row, or name {len(classes)} classes"
            )
        classes = list(declared)
    return list(zip(classes, given.shown, strict=True))


def _refuse_below(numbers: dict[int, int], base: int | None, where: str, column: LabelColumn) -> None:
    """Refuse labels below the lowest class; -1 often means an unlabelled row."""
    low = min(numbers)
    if low >= (0 if base is None else base):
        return
    rows = column.rows_of([i for i, value in enumerate(column.values) if whole_number(value) == low])
    unlabelled = "; if it means 'not labelled', remove these rows" if low == -1 else ""
    raise UserError(
        f"expected labels from {base or 0} on in {where}, found {low} in {rows_in_words(rows)}; set "
        f"--data.label_base={low} if that is the lowest class{unlabelled}"
    )


def names_of_texts(labels: list[str], given: GivenNames | None, where: str) -> list[tuple[str, str]]:
    """Classes of names: `labels`, in alphabetical order unless another one is given."""
    if given is None:
        return [(label, label) for label in labels]
    if swapped := [
        name for i, name in enumerate(given.shown) if name in given.labels[:i] + given.labels[i + 1 :]
    ]:
        raise UserError(
            f"expected names in --data.label_names that are not the label of another class, found "
            f"{shown_label(swapped[0])}; set another name for it"
        )
    if set(labels) <= set(given.labels):
        return list(zip(given.labels, given.shown, strict=True))
    named = {look(label): i for i, label in enumerate(given.labels)}
    found = {look(label): label for label in labels}
    if found.keys() <= named.keys() and len(found) == len(labels) and len(named) == len(given.labels):
        # `Positive` given for `positive`: sets the order of the classes and how they are shown
        return [(found.get(seen, given.labels[i]), given.shown[i]) for seen, i in named.items()]
    raise _refuse_part(labels, list(given.labels), given, where)


def names_of_declared(
    column: LabelColumn, declared: Sequence[str], given: GivenNames | None, base: int | None, where: str
) -> list[tuple[int, str]]:
    """Classes of a column that holds 0 to C-1 and declares a name for each."""
    if base not in (None, 0):
        raise UserError(
            f"data.label_base={base} is for plain numbers, but column '{column.name}' of {where} declares "
            f"the classes 0 to {len(declared) - 1} ({', '.join(declared[:MOST_SHOWN])}); remove it"
        )
    refuse_undeclared(column, declared, where)
    if given is None:
        return list(enumerate(declared))
    same: Callable[[str], str] = look  # also NEG for neg, unless two names look alike
    if any(len(set(map(look, names))) < len(names) for names in (declared, given.labels)):
        same = str
    places = {same(name): i for i, name in enumerate(declared)}
    named = [places.get(same(label)) for label in given.labels]
    if set(range(len(declared))) <= set(named):
        more = iter(range(len(declared), len(named)))  # classes without a row
        return [(next(more) if i is None else i, name) for i, name in zip(named, given.shown, strict=True)]
    moved = any(i not in (None, place) for place, i in enumerate(named))
    if given.by_label or moved:
        raise _refuse_part(list(declared), list(given.labels), given, where)
    if len(given.shown) != len(declared):
        raise UserError(
            f"expected {len(declared)} different names for the classes {', '.join(declared[:MOST_SHOWN])} of "
            f"{where}, found {len(given.shown)}: {', '.join(given.shown)}; set --data.label_names to a name "
            "for each"
        )
    return list(enumerate(given.shown))


def refuse_undeclared(column: LabelColumn, declared: Sequence[str], where: str) -> None:
    """Refuse numbers that the column declares no name for; -1 means an unlabelled row."""
    for place, value in enumerate(column.values):
        if not 0 <= value < len(declared):
            rows = column.rows_of([place])
            meaning = ", which means 'not labelled'" * (value == -1)
            advice = "remove these rows" if len(rows) < len(column.index) else "use a split that has labels"
            known = f"0 to {len(declared) - 1} ({', '.join(declared[:MOST_SHOWN])})"
            raise UserError(
                f"expected the classes {known} in {where}, found {value} in {rows_in_words(rows)}{meaning}; "
                f"{advice} (--data.predict_path predicts them), or set --data.label_column to "
                "another column"
            )


def _refuse_part(labels: list[str], named: list[str], given: GivenNames, where: str) -> UserError:
    """The error for names that cover only some of the labels, or that cannot be matched to them."""
    missing = [label for label in labels if label not in named]
    some = len(missing) < len(labels)
    found = (
        f"found none for {_listed(missing)}" if some or given.by_label else f"found {_listed(given.shown)}"
    )
    example = {label: "NAME" for label in labels[:3]}
    advice = json.dumps(example, ensure_ascii=False)
    advice = advice if len(labels) <= 3 else advice[:-1] + ", ...}"
    return UserError(
        f"expected --data.label_names to name the labels of {where}, {_listed(labels)}, {found}; give all "
        "of them in the order of the classes, or a name to show for each: --data.label_names "
        f"{shlex.quote(advice)}"
    )


def _listed(names: Sequence[str]) -> str:
    shown = [shown_label(name) for name in names[:4]]
    return ", ".join(shown) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def span(values: Sequence[Any]) -> str:
    """Labels in words: `1 to 5`, or each of them in quotes."""
    if isinstance(values[0], int):
        if all(b - a == 1 for a, b in zip(values, values[1:], strict=False)):
            return f"{values[0]} to {values[-1]}"
        return ", ".join(map(str, values[:MOST_SHOWN])) + " ..." * (len(values) > MOST_SHOWN)
    return ", ".join(f"'{value}'" for value in values[:MOST_SHOWN]) + " ..." * (len(values) > MOST_SHOWN)


# Cyrillic and Greek letters that look like Latin ones, typed with the other keyboard layout.
SAME_SHAPE = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеорсухѕіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "ABESIJKMHOPCTYXaeopcyxsijABEZHIKMNOPTYXo",
)
DASHES_AND_QUOTES = str.maketrans("‐‑‒–—−‘’“”", "------''\"\"")
# Characters that are invisible although Unicode does not say so, and the variants of an emoji.
UNSEEN = {"\u034f", "\u115f", "\u1160", "\u2800", "\u3164", *map(chr, range(0xFE00, 0xFE10))}


def look(name: str) -> str:
    """Equal for names that differ only in case, Unicode form, width or invisible characters."""
    return as_seen(as_seen(name).casefold())  # case folding may change the form


def as_seen(name: str) -> str:
    """As `look`, but case matters."""
    composed = unicodedata.normalize("NFKC", name).translate(DASHES_AND_QUOTES)
    return " ".join("".join(c for c in composed if not _is_unseen(c)).split())


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that look the same, each in the order of the names."""
    names = list(names)
    found: list[list[str]] = []
    # Shapes without case folding: of `нет` and `НЕТ` only the latter could be Latin letters.
    for key in (look, lambda name: as_seen(name).translate(SAME_SHAPE)):
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(key(name), []).append(name)
        found += [group for group in groups.values() if len(group) > 1 and group not in found]
    return found


def spelled(names: list[str]) -> list[str]:
    """Names in quotes, with escapes if they would look the same."""
    visible = len({as_seen(name).translate(SAME_SHAPE) for name in names}) == len(names)
    return [repr(name) if visible else ascii(name) for name in names]


def _is_unseen(character: str) -> bool:
    kind = unicodedata.category(character)  # Cf: zero-width and direction; Cc: control
    return character in UNSEEN or kind == "Cf" or (kind == "Cc" and not character.isspace())
