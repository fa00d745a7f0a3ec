"""What `check` finds in the data of a run, and the text that shows it."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lit_ft.data.duplicates import Conflicts, Duplicates, Example, Leak
from lit_ft.data.facts import TokenLengths
from lit_ft.data.groups import GroupLeak
from lit_ft.data.label_findings import LabelFinding
from lit_ft.data.token_facts import WORTH_A_WORD, WORTH_IN_LETTERS
from lit_ft.report.tables import NUMBER_FACTS, aligned

FEW_TEXTS = 10  # of a class: fewer are hardly learned, and its own figures mean nothing


@dataclass(frozen=True)
class SplitReport:
    """The contents of one split."""

    where: str
    rows: int  # rows with a text
    empty_rows: int  # rows without a text, which are dropped
    classes: dict[str, int] | None  # rows per class, in the order of the classes; None for predict, numbers
    numbers: dict[str, float] | None  # mean, standard deviation and range of numbers; None of classes
    exact_duplicates: Duplicates
    normalised_duplicates: Duplicates
    tokens: TokenLengths


@dataclass(frozen=True)
class GroupReport:
    """The groups of each split."""

    column: str
    all_alone: bool  # whether no two rows of train share a value
    groups: dict[str, int]  # of each split that has the column
    without: dict[str, int]  # rows without a value, each a group of its own
    unknown: list[str]  # splits without the column
    shared: list[GroupLeak]


@dataclass(frozen=True)
class Report:
    """All that `check` finds."""

    splits: dict[str, SplitReport]
    not_named: list[str]  # splits without data in the settings
    leakage: list[Leak]
    groups: GroupReport | None  # if the settings name a column of groups
    conflicts: Conflicts
    labels: list[LabelFinding]
    pretrained: str
    max_tokens: int

    @property
    def leaks(self) -> list[Leak]:
        """The leaks that inflate a metric; texts shared with predict, or of a fold in test, are not."""
        shared = [leak for leak in self.leakage if leak.normalised_rows and leak.second != "predict"]
        return [leak for leak in shared if leak.first != "fold"]

    @property
    def shared_groups(self) -> list[GroupLeak]:
        """The pairs of splits that share groups; a fold is not trained on."""
        shared = self.groups.shared if self.groups else []
        return [leak for leak in shared if leak.groups and leak.first != "fold"]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.splits["train"].classes or ())

    @property
    def few(self) -> int:
        """The number of classes with fewer than `FEW_TEXTS` training texts."""
        return sum(count < FEW_TEXTS for count in (self.splits["train"].classes or {}).values())

    @property
    def sound(self) -> bool:
        """Whether there is no leakage, no conflict and no fault in the labels."""
        wrong = any(finding.unsound for finding in self.labels) or bool(self.shared_groups)
        return not self.leaks and not self.conflicts.normalised_texts and not wrong

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "sound": self.sound}


SHOWN_EXAMPLES = 3  # of each kind; --json has more
SHOWN_CLASSES = 20
SMALLEST_CLASSES = 5


def table(report: Report, columns: int | None = None) -> str:
    """The whole report as aligned plain text.

    Args:
        report: What was found.
        columns: The width to keep; None cuts and breaks nothing.
    """
    parts = [
        _splits(report, columns),
        *([_class_balance(report, columns)] if report.num_classes else []),
        *([_numbers(report, columns)] if report.splits["train"].numbers else []),
        *([_smallest_classes(report, columns)] if report.num_classes > SMALLEST_CLASSES else []),
        *([_labels(report)] if report.labels else []),
        _leakage(report, columns),
        *([_groups(report.groups, columns)] if report.groups else []),
        _conflicts(report),
        _token_lengths(report, columns),
        _limits(report, columns),
    ]
    parts = [[piece for line in part for piece in _broken(line, columns)] for part in parts]
    return "\n\n".join("\n".join(part) for part in [*parts, _broken(verdict(report), columns)])


def _broken(line: str, columns: int | None) -> list[str]:
    """A line of words in lines that fit."""
    if columns is None or len(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.wrap(line, max(columns, 30), subsequent_indent=indent, break_on_hyphens=False)


def verdict(report: Report) -> str:
    """The last line: what needs fixing."""
    found = [
        f"{_count(leak.normalised_rows, f'{leak.second} row')} also in {leak.first}" for leak in report.leaks
    ]
    found += [
        f"{_count(leak.rows, f'{leak.second} row')} of groups also in {leak.first}"
        for leak in report.shared_groups
    ]
    if texts := report.conflicts.normalised_texts:
        found.append(f"{_count(texts, 'text')} with different labels")
    if wrong := sum(finding.unsound for finding in report.labels):
        found.append(f"{_count(wrong, 'fault')} in the labels")
    for name, split in report.splits.items():
        if split.empty_rows:
            found.append(f"{_count(split.empty_rows, f'{name} row')} without a text")
    if report.few:
        found.append(f"{_few(report)} fewer than {FEW_TEXTS} training texts")
    for name, split in report.splits.items():
        unknown, letters = split.tokens.unknown or 0, split.tokens.unknown_letters
        in_letters = letters >= max(WORTH_IN_LETTERS, 2 * unknown)
        for share, what in (
            (letters if in_letters else 0, "letters are in tokens unknown to the model's tokenizer"),
            (0 if in_letters else unknown, "tokens are unknown to the model's tokenizer"),
            (split.tokens.lost_letters, "letters are dropped by the model's tokenizer"),
        ):
            if share >= WORTH_A_WORD:
                found.append(f"{share:.1%} of the {name} {what} (set another --model.pretrained)")
    return f"verdict: {', '.join(found)}" if found else "verdict: no leakage, no conflicting labels"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _few(report: Report) -> str:
    return f"{report.few:,} of {report.num_classes:,} classes {'has' if report.few == 1 else 'have'}"


def _splits(report: Report, columns: int | None) -> list[str]:
    rows = [["split", "rows", "empty", "duplicates", "normalised", "from"]]
    for name, split in report.splits.items():
        counts = [_repeated(split.exact_duplicates), _repeated(split.normalised_duplicates)]
        rows.append([name, f"{split.rows:,}", f"{split.empty_rows:,}", *counts, split.where])
    shown, places = aligned(rows, left=(0, 5), indent="  "), []
    if columns is not None and max(map(len, shown)) > columns:
        shown = aligned([row[:5] for row in rows], indent="  ", columns=columns)
        places = [f"  {name}: {split.where}" for name, split in report.splits.items()]
    legend = [
        "  duplicates: rows beyond the first of each text (number of such texts), within the split",
        "  normalised: the same if case, punctuation and spacing do not count",
    ]
    flags = ", ".join(f"{name} (--data.{name}_path)" for name in report.not_named)
    missing = [f"  not checked, as not set: {flags}"] * bool(flags)
    return ["SPLITS", *shown, *places, *legend, *missing]


def _repeated(found: Duplicates) -> str:
    return f"{found.surplus_rows:,} ({_count(found.texts, 'text')})" if found.texts else "0"


def _class_balance(report: Report, columns: int | None) -> list[str]:
    labelled = {name: split.classes for name, split in report.splits.items() if split.classes is not None}
    rows = [["class", *labelled]]
    names, train = list(labelled["train"]), labelled["train"]
    hidden, title = len(names) - SHOWN_CLASSES, "CLASS BALANCE: texts of each class, and their share"
    if hidden > 0:  # their order would show any 20
        names = sorted(names, key=lambda name: -train[name])
        title = (
            f"CLASS BALANCE: texts of the {SHOWN_CLASSES} commonest of {len(names):,} classes, their share"
        )
    for label in names[:SHOWN_CLASSES]:
        whole = {name: max(report.splits[name].rows, 1) for name in labelled}  # a text may have several
        shares = [(counts[label], counts[label] / whole[name]) for name, counts in labelled.items()]
        rows.append([label, *(f"{count:,}  {share:6.1%}" for count, share in shares)])
    more = [f"  and {hidden:,} more, shown by --json"] * (hidden > 0)
    note = _few_note(report) if len(names) <= SMALLEST_CLASSES else []
    return [title, *aligned(rows, indent="  ", columns=columns), *more, *note]


def _numbers(report: Report, columns: int | None) -> list[str]:
    labelled = {name: split.numbers for name, split in report.splits.items() if split.numbers is not None}
    rows = [["", *labelled]]
    for key, what in NUMBER_FACTS.items():
        rows.append([what, *(f"{of[key]:.6g}" for of in labelled.values())])
    return ["NUMBERS of each split", *aligned(rows, indent="  ", columns=columns)]


def _few_note(report: Report) -> list[str]:
    note = f"  {_few(report)} fewer than {FEW_TEXTS} texts in train: too few to learn or to measure"
    return [note] if report.few else []


def _smallest_classes(report: Report, columns: int | None) -> list[str]:
    counts = report.splits["train"].classes or {}
    whole = max(report.splits["train"].rows, 1)
    rows = [["class", "texts", "share"]]
    for name in sorted(counts, key=lambda name: counts[name])[:SMALLEST_CLASSES]:
        rows.append([name, f"{counts[name]:,}", f"{counts[name] / whole:.1%}"])
    return ["SMALLEST CLASSES of train", *aligned(rows, indent="  ", columns=columns), *_few_note(report)]


def _labels(report: Report) -> list[str]:
    lines = [
        f"  {'* ' * finding.unsound}{finding.line.removeprefix('labels: ')}" for finding in report.labels
    ]
    return ["LABELS: * makes the classes wrong", *lines]


def _leakage(report: Report, columns: int | None) -> list[str]:
    lines = ["LEAKAGE: rows whose text is also in another split"]
    rows = [["split", "also in", "exact", "normalised", "share"]]
    for leak in report.leakage:
        counts = [f"{leak.exact_rows:,}", f"{leak.normalised_rows:,}", f"{leak.share:.2%}"]
        rows.append([leak.second, leak.first, *counts])
    lines += aligned(rows, (0, 1), "  ", columns, keys=2)
    if any(leak.second == "predict" for leak in report.leakage):
        lines.append("  sharing texts with predict is no leakage: nothing is measured on it")
    for leak in report.leakage:
        lines += _examples(leak.examples)
    return lines + _legend([example for leak in report.leakage for example in leak.examples])


def _groups(found: GroupReport, columns: int | None) -> list[str]:
    lines = [f"GROUPS: rows whose group (column '{found.column}') is also in another split"]
    for name, count in found.groups.items():
        alone = f" and {_count(found.without[name], 'row')} without one" if found.without[name] else ""
        lines.append(f"  {name}: {_count(count, 'group')}{alone}")
    if found.all_alone:
        lines.append("  no two train rows have the same value, so the column keeps nothing together")
    for name in found.unknown:
        lines.append(f"  {name} has no such column: what it shares is not known")
    rows = [["split", "also in", "groups", "rows", "share"]]
    for leak in found.shared:
        rows.append([leak.second, leak.first, f"{leak.groups:,}", f"{leak.rows:,}", f"{leak.share:.2%}"])
    lines += aligned(rows, (0, 1), "  ", columns, keys=2) if found.shared else []
    for leak in found.shared:
        for example in leak.examples[:SHOWN_EXAMPLES]:
            places = [
                f"{_count(count, f'{name} row')} (the first is row {first:,})"
                for name, count, first in zip(
                    (leak.first, leak.second), example.rows, example.first_rows, strict=True
                )
            ]
            lines.append(f"  '{example.group}': {', '.join(places)}")
        if (more := leak.groups - SHOWN_EXAMPLES) > 0:
            lines.append(f"  and {_count(more, 'group')} more of {leak.second}, with --json")
    return lines


def _conflicts(report: Report) -> list[str]:
    found = report.conflicts
    if not found.normalised_texts:
        return ["CONFLICTS: equal texts with different labels", "  none"]
    within = [f"{count:,} within {name}" for name, count in found.within.items() if count]
    within += [f"{found.across:,} only between splits"] * (found.across > 0)
    texts, rows = _count(found.normalised_texts, "text"), _count(found.rows, "row")
    counts = f"{texts} in {rows} ({found.exact_texts:,} exactly equal)"
    return [
        "CONFLICTS: equal texts with different labels",
        f"  {counts}: {', '.join(within)}",
        *_examples(found.examples),
        *_legend(found.examples),
    ]


def _examples(examples: Sequence[Example]) -> list[str]:
    exact = [example for example in examples if example.exact]
    other = [example for example in examples if not example.exact]
    chosen = [*exact[:SHOWN_EXAMPLES], *other[:SHOWN_EXAMPLES]]
    lines = []
    for example in chosen:
        places = []
        for place in example.occurrences:
            label = "" if place.label is None else f" (label {place.label})"
            places.append(f"{place.split} row {place.row:,}{label}")
        sign = " = " if example.exact else " ~ "
        lines.append(f'  {sign.join(places)}: "{example.text}"')
    if more := len(examples) - len(chosen):
        lines.append(f"  and {_count(more, 'example')} more with --json")
    return lines


def _legend(examples: Sequence[Example]) -> list[str]:
    """The meaning of the signs, if `~` is used."""
    normalised = any(not example.exact for example in examples)
    return ["  = equal, ~ equal except for case, punctuation and spacing"] * normalised


def _token_lengths(report: Report, columns: int | None) -> list[str]:
    rows = [["split", "texts", "mean", "median", "95 %", "longest", "unknown"]]
    for name, split in report.splits.items():
        found = split.tokens
        unknown = "-" if found.unknown is None else f"{found.unknown:.2%}"
        texts = f"{found.measured:,}{'*' * found.sampled}"
        figures = [f"{found.mean:.0f}", f"{found.median:.0f}", f"{found.p95:.0f}", f"{found.max:,}", unknown]
        rows.append([name, texts, *figures])
    sampled = any(split.tokens.sampled for split in report.splits.values())
    lines = [
        f"TOKEN LENGTHS with the tokenizer of {report.pretrained}",
        *aligned(rows, indent="  ", columns=columns),
    ]
    for name, split in report.splits.items():
        found = split.tokens
        for count, what in (
            (found.special_texts, "special tokens of the tokenizer, which are read as such"),
            (found.empty_texts, "no token: the model sees nothing of them"),
        ):
            if count:
                lines.append(f"  {_count(count, 'text')} of {name} with {what}")
    if any(split.tokens.unknown for split in report.splits.values()):
        lines.append("  unknown: share of the tokens that the model has no word for")
    return lines + ["  * a random sample of the split"] * sampled


def _limits(report: Report, columns: int | None) -> list[str]:
    title = "MAX_TOKENS: what each limit would cut, and cost"
    limits = [limit for split in report.splits.values() for limit in split.tokens.limits]
    if all(not limit.cut_texts and limit.cost == 1 for limit in limits):
        return [title, f"  nothing is cut: no text is longer than {min(x.max_tokens for x in limits)} tokens"]
    rows = [["split", "max_tokens", "texts cut", "tokens lost", "cost"]]
    for name, split in report.splits.items():
        for found in split.tokens.limits:
            limit = f"{found.max_tokens}{' (set)' * (found.max_tokens == report.max_tokens)}"
            rows.append(
                [name, limit, f"{found.cut_texts:.1%}", f"{found.lost_tokens:.1%}", f"{found.cost:.2f}"]
            )
            name = ""  # shown once
    return [
        title,
        *aligned(rows, (0, 1), "  ", columns, keys=2),
        f"  cost: tokens that the model computes, 1.00 with data.max_tokens={report.max_tokens} as set;",
        "  training time is about proportional to it",
    ]
