"""The tables that `check` prints."""

from collections.abc import Sequence

from lit_ft.audit import Duplicates, Example
from lit_ft.check_report import Report
from lit_ft.token_facts import WORTH_A_WORD

SHOWN_EXAMPLES = 3  # of each kind; --json has more
SHOWN_CLASSES = 20


def table(report: Report) -> str:
    """The whole report as aligned plain text."""
    parts = [
        _splits(report),
        _class_balance(report),
        *([_labels(report)] if report.labels else []),
        _leakage(report),
        _conflicts(report),
        _token_lengths(report),
        _limits(report),
    ]
    return "\n\n".join("\n".join(part) for part in [*parts, [verdict(report)]])


def verdict(report: Report) -> str:
    """The last line: what there is to mend."""
    found = [
        f"{_count(leak.normalised_rows, f'{leak.second} row')} also in {leak.first}" for leak in report.leaks
    ]
    if texts := report.conflicts.normalised_texts:
        found.append(f"{_count(texts, 'text')} with different labels")
    if wrong := sum(finding.unsound for finding in report.labels):
        found.append(f"{_count(wrong, 'fault')} in the labels")
    for name, split in report.splits.items():
        for share, what in (
            (split.tokens.unknown or 0, "tokens are unknown to the model's tokenizer"),
            (split.tokens.lost_letters, "letters are left out by the model's tokenizer"),
        ):
            if share >= WORTH_A_WORD:
                found.append(f"{share:.1%} of the {name} {what} (set another --model.pretrained)")
    return f"verdict: {', '.join(found)}" if found else "verdict: no leakage, no conflicting labels"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _splits(report: Report) -> list[str]:
    rows = [["split", "rows", "empty", "exact duplicates", "normalised duplicates", "from"]]
    for name, split in report.splits.items():
        counts = [_repeated(split.exact_duplicates), _repeated(split.normalised_duplicates)]
        rows.append([name, f"{split.rows:,}", f"{split.empty_rows:,}", *counts, split.where])
    legend = [
        "  duplicates: rows beyond the first of each text (number of such texts), within the split;",
        "  normalised: equal but for case, punctuation and spacing, the exact ones included",
    ]
    missing = [f"  not named, left out: {', '.join(report.not_named)}"] if report.not_named else []
    return ["SPLITS", *_aligned(rows, left=(0, 5)), *legend, *missing]


def _repeated(found: Duplicates) -> str:
    return f"{found.surplus_rows:,} ({_count(found.texts, 'text')})" if found.texts else "0"


def _class_balance(report: Report) -> list[str]:
    labelled = {name: split.classes for name, split in report.splits.items() if split.classes is not None}
    rows = [["class", *labelled]]
    names = list(labelled["train"])
    for label in names[:SHOWN_CLASSES]:
        shares = [(counts[label], counts[label] / sum(counts.values())) for counts in labelled.values()]
        rows.append([label, *(f"{count:,}  {share:6.1%}" for count, share in shares)])
    hidden = len(names) - SHOWN_CLASSES
    more = [f"  and {hidden:,} classes more, shown by --json"] if hidden > 0 else []
    return ["CLASS BALANCE", *_aligned(rows), *more]


def _labels(report: Report) -> list[str]:
    lines = [
        f"  {'* ' * finding.unsound}{finding.line.removeprefix('labels: ')}" for finding in report.labels
    ]
    return ["LABELS: * makes the classes wrong", *lines]


def _leakage(report: Report) -> list[str]:
    lines = ["LEAKAGE: rows whose text is also in another split"]
    rows = [["split", "also in", "exact", "normalised", "share"]]
    for leak in report.leakage:
        counts = [f"{leak.exact_rows:,}", f"{leak.normalised_rows:,}", f"{leak.share:.2%}"]
        rows.append([leak.second, leak.first, *counts])
    lines += _aligned(rows, left=(0, 1))
    if any(leak.second == "predict" for leak in report.leakage):
        lines.append("  what predict shares is shown, but is no leakage: nothing is measured on it")
    for leak in report.leakage:
        lines += _examples(leak.examples)
    return lines + _legend([example for leak in report.leakage for example in leak.examples])


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
    """What the sign means, where it is used."""
    normalised = any(not example.exact for example in examples)
    return ["  = equal, ~ equal but for case, punctuation and spacing"] * normalised


def _token_lengths(report: Report) -> list[str]:
    rows = [["split", "texts", "mean", "median", "95 %", "longest", "unknown"]]
    for name, split in report.splits.items():
        found = split.tokens
        unknown = "-" if found.unknown is None else f"{found.unknown:.2%}"
        texts = f"{found.measured:,}{'*' * found.sampled}"
        figures = [f"{found.mean:.0f}", f"{found.median:.0f}", f"{found.p95:.0f}", f"{found.max:,}", unknown]
        rows.append([name, texts, *figures])
    sampled = any(split.tokens.sampled for split in report.splits.values())
    lines = [f"TOKEN LENGTHS with the tokenizer of {report.pretrained}", *_aligned(rows)]
    for name, split in report.splits.items():
        found = split.tokens
        for count, what in (
            (found.special_texts, "special tokens of the tokenizer, which are read as such"),
            (found.empty_texts, "no token: the model sees nothing of them"),
        ):
            if count:
                lines.append(f"  {_count(count, 'text')} of {name} with {what}")
    return lines + ["  * a random sample of the split"] * sampled


def _limits(report: Report) -> list[str]:
    rows = [["split", "max_tokens", "texts cut", "tokens lost", "cost"]]
    for name, split in report.splits.items():
        for found in split.tokens.limits:
            limit = f"{found.max_tokens}{' (set)' * (found.max_tokens == report.max_tokens)}"
            rows.append(
                [name, limit, f"{found.cut_texts:.1%}", f"{found.lost_tokens:.1%}", f"{found.cost:.2f}"]
            )
            name = ""  # said once
    return [
        "MAX_TOKENS: what each would cut, and cost",
        *_aligned(rows, left=(0, 1)),
        f"  cost: tokens that the model computes, 1.00 with data.max_tokens={report.max_tokens} as set;",
        "  the time of training is about proportional to it",
    ]


def _aligned(rows: list[list[str]], left: tuple[int, ...] = (0,)) -> list[str]:
    """Rows of cells as lines; the first is the header, columns but `left` end at the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines
