"""`check`: examines the data of a run before any training. Takes the settings of `fit`, writes nothing."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lit_ft import hub
from lit_ft.classifier.batch_settings import check_unpadded
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.parser import SHOWN, Parser, add_groups, link_groups
from lit_ft.console import quiet, silence_libraries
from lit_ft.data.duplicates import (
    AuditSplit,
    Conflicts,
    Duplicates,
    Example,
    Leak,
    conflicts,
    duplicates,
    exact_keys,
    leakage,
    normalised_keys,
)
from lit_ft.data.facts import LIMITS, TokenLengths, measure_lengths
from lit_ft.data.holdout import shown_share, stratified_split
from lit_ft.data.label_findings import LabelFinding
from lit_ft.data.labels import LabelMapping
from lit_ft.data.source import SplitName
from lit_ft.data.splits import Texts, read_texts
from lit_ft.data.token_facts import WORTH_A_WORD
from lit_ft.models.checks import check_max_tokens, max_positions
from lit_ft.models.load import Pretrained
from lit_ft.models.names import needs_hub
from lit_ft.report.tables import aligned
from lit_ft.settings.bounds import check_bounds
from lit_ft.settings.flags import OWN_FLAGS, add_run_flags, introduction, run_name, warn_of_sample_encoder


def make_parser() -> Parser:
    """The parser of `fit`'s settings and of `--json` and `--strict`."""
    parser = Parser(prog="python -m lit_ft", **introduction("check", SHOWN["check"]))
    parser.add_argument("-c", "--config", action="config", help="A YAML file; later ones win.")
    for name, text in OWN_FLAGS["check"].items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    add_run_flags(parser)
    add_groups(parser)
    link_groups(parser)
    return parser


def main(command: str, args: list[str]) -> int:
    """Run `check` and return the exit code: 1 with `--strict` if the data has faults."""
    silence_libraries()
    config = make_parser().parse_args(args)
    check_bounds({"seed_everything": config.seed_everything})
    run_name(config.name, args)
    BertClassifier(**config.model.as_dict())  # loads no weights, but makes the checks of fit
    data = YelpDataModule(**config.data.as_dict())
    check_unpadded(data.hparams, config.model.compile)
    warn_of_sample_encoder(config, args, "counting the tokens of")
    with quiet():
        report = inspect(data)
    text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if config.json else table(report)
    sys.stdout.write(text + "\n")
    return 1 if config.strict and not report.sound else 0


SPLITS: tuple[SplitName, ...] = ("train", "validation", "test", "predict")


@dataclass(frozen=True)
class SplitReport:
    """The contents of one split."""

    where: str
    rows: int  # rows with a text
    empty_rows: int  # rows without a text, which are dropped
    classes: dict[str, int] | None  # rows per class, in the order of the classes; None for predict
    exact_duplicates: Duplicates
    normalised_duplicates: Duplicates
    tokens: TokenLengths


@dataclass(frozen=True)
class Report:
    """All that `check` finds."""

    splits: dict[str, SplitReport]
    not_named: list[str]  # splits without data in the settings
    leakage: list[Leak]
    conflicts: Conflicts
    labels: list[LabelFinding]
    pretrained: str
    max_tokens: int

    @property
    def leaks(self) -> list[Leak]:
        """The leaks that inflate a metric; texts shared with predict are not among them."""
        return [leak for leak in self.leakage if leak.normalised_rows and leak.second != "predict"]

    @property
    def sound(self) -> bool:
        """Whether there is no leakage, no conflict and no fault in the labels."""
        wrong = any(finding.unsound for finding in self.labels)
        return not self.leaks and not self.conflicts.normalised_texts and not wrong

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "sound": self.sound}


def inspect(data: YelpDataModule) -> Report:
    """Reads every split that the settings name and looks through it.

    Raises:
        UserError: A mistake at which `fit`, `test` or `predict` would stop.
    """
    settings, source = data.hparams, data.text_source
    named = [split for split in SPLITS if source.origin(split)]
    if needs_hub(settings["tokenizer"]) or any(map(source.asks_hub, named)):
        hub.go_offline_if_unreachable()
    pretrained = Pretrained.of(settings["tokenizer"])
    tokenizer = pretrained.tokenizer()
    check_max_tokens(pretrained.config, settings["max_tokens"], tokenizer)
    most = max_positions(pretrained.config)
    shown = {limit for limit in LIMITS if most is None or limit <= most} | {settings["max_tokens"]}

    read, found, labels = _read(data, named)
    reports: dict[str, SplitReport] = {}
    for split in found:
        own = read.get(split.name)  # None for rows that are held out of train
        reports[split.name] = SplitReport(
            where=own.where if own else _held_out_of(read["train"], split, settings["validation_share"]),
            rows=len(split.exact),
            empty_rows=len(own.table) - len(own.texts) if own else 0,
            classes=_class_counts(split.labels, labels),
            exact_duplicates=duplicates(split.exact),
            normalised_duplicates=duplicates(split.normalised),
            tokens=measure_lengths(
                split.texts,
                split.positions,
                tokenizer,
                settings["max_tokens"],
                sorted(shown),
                padded=settings["padding"] == "max_length",
                description=f"tokenising {split.name}",
            ),
        )
    return Report(
        splits=reports,
        not_named=[split for split in SPLITS if split not in reports],
        leakage=leakage(found, labels.names),
        conflicts=conflicts(found, labels.names),
        labels=read["train"].label_findings,
        pretrained=settings["tokenizer"],
        max_tokens=settings["max_tokens"],
    )


def _read(
    data: YelpDataModule, named: list[SplitName]
) -> tuple[dict[str, Texts], list[AuditSplit], LabelMapping]:
    """The texts of the named splits, their hashes with validation held out as in `fit`, and the labels."""
    read: dict[str, Texts] = {}
    found: list[AuditSplit] = []
    labels: LabelMapping | None = None
    for name in SPLITS:
        if name != "train" and name not in named:  # reading train tells what to set if it is not named
            continue
        texts, labels = read_texts(data.text_source, name, labels, data.label_rules)
        read[name] = texts
        column = texts.texts.data.column("text")
        split = AuditSplit(
            name,
            exact_keys(column),
            normalised_keys(column, f"hashing {name}"),
            texts.source_rows,
            column,
            np.arange(len(column)),
            texts.labels,
        )
        if name == "train" and "validation" not in named:
            assert texts.labels is not None
            share, seed = data.hparams["validation_share"], data.hparams["split_seed"]
            kept, held_out = stratified_split(texts.labels, share, seed, split.normalised)
            found += [split.take(kept, "train"), split.take(held_out, "validation")]
        else:
            found.append(split)
    assert labels is not None
    return read, found, labels


def _held_out_of(train: Texts, split: AuditSplit, share: float) -> str:
    assert train.labels is not None and split.labels is not None
    return f"held out of {train.where} ({shown_share(train.labels, split.labels, share)})"


def _class_counts(classes: np.ndarray | None, labels: LabelMapping) -> dict[str, int] | None:
    if classes is None:
        return None
    counts = np.bincount(classes, minlength=labels.num_labels)  # (C,)
    return dict(zip(labels.names, counts.tolist(), strict=True))


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
    """The last line: what needs fixing."""
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
            (split.tokens.lost_letters, "letters are dropped by the model's tokenizer"),
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
        "  normalised: equal except for case, punctuation and spacing; includes the exact ones",
    ]
    missing = [f"  not named, skipped: {', '.join(report.not_named)}"] if report.not_named else []
    return ["SPLITS", *aligned(rows, left=(0, 5), indent="  "), *legend, *missing]


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
    more = [f"  and {hidden:,} more classes, shown by --json"] if hidden > 0 else []
    return ["CLASS BALANCE", *aligned(rows, indent="  "), *more]


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
    lines += aligned(rows, left=(0, 1), indent="  ")
    if any(leak.second == "predict" for leak in report.leakage):
        lines.append("  sharing texts with predict is no leakage: nothing is measured on it")
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
    """The meaning of the signs, if `~` is used."""
    normalised = any(not example.exact for example in examples)
    return ["  = equal, ~ equal except for case, punctuation and spacing"] * normalised


def _token_lengths(report: Report) -> list[str]:
    rows = [["split", "texts", "mean", "median", "95 %", "longest", "unknown"]]
    for name, split in report.splits.items():
        found = split.tokens
        unknown = "-" if found.unknown is None else f"{found.unknown:.2%}"
        texts = f"{found.measured:,}{'*' * found.sampled}"
        figures = [f"{found.mean:.0f}", f"{found.median:.0f}", f"{found.p95:.0f}", f"{found.max:,}", unknown]
        rows.append([name, texts, *figures])
    sampled = any(split.tokens.sampled for split in report.splits.values())
    lines = [f"TOKEN LENGTHS with the tokenizer of {report.pretrained}", *aligned(rows, indent="  ")]
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
            name = ""  # shown once
    return [
        "MAX_TOKENS: what each limit would cut, and cost",
        *aligned(rows, left=(0, 1), indent="  "),
        f"  cost: tokens that the model computes, 1.00 with data.max_tokens={report.max_tokens} as set;",
        "  training time is about proportional to it",
    ]
