"""`check`: examines the data of a run before any training. Takes the settings of `fit`, writes nothing."""

import json
import sys

import numpy as np

from lit_ft import hub
from lit_ft.classifier.batch_settings import check_unpadded
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.parser import SHOWN, Parser, add_groups, link_groups
from lit_ft.classifier.slices import check_slices
from lit_ft.commands.check_report import GroupReport, Report, SplitReport, table
from lit_ft.console import quiet, silence_libraries, width
from lit_ft.data.columns import Values
from lit_ft.data.division import divide, divides, part_in_words
from lit_ft.data.duplicates import (
    AuditSplit,
    conflicts,
    duplicates,
    exact_keys,
    leakage,
    normalised_keys,
)
from lit_ft.data.facts import LIMITS, measure_lengths
from lit_ft.data.groups import keys_of_groups, read_groups, shared
from lit_ft.data.source import SplitName
from lit_ft.data.splits import Texts, read_texts
from lit_ft.data.targets import Labels
from lit_ft.data.text_columns import pairs_of
from lit_ft.machine import command_line
from lit_ft.models.checks import check_max_tokens, max_positions
from lit_ft.models.inputs import fit_pairs_to_model
from lit_ft.models.load import Pretrained
from lit_ft.models.names import needs_hub
from lit_ft.settings.arguments import configs_dir, without_flags
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
    model = BertClassifier(**config.model.as_dict())  # loads no weights, but makes the checks of fit
    data = YelpDataModule(**config.data.as_dict())
    check_unpadded(data.hparams, config.model.compile)
    warn_of_sample_encoder(config, args, "counting the tokens of")
    with quiet():
        report = inspect(data, model)
    if config.json:
        text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False)
    else:
        fit = ["fit", *without_flags(args, "--json", "--strict", "--ckpt_path"), "--estimate"]
        text = f"{table(report, width())}\nnext: {command_line(fit, configs_dir())}"
    sys.stdout.write(text + "\n")
    return 1 if config.strict and not report.sound else 0


SPLITS: tuple[SplitName, ...] = ("train", "validation", "test", "predict")
ORDER = ("train", "validation", "fold", "test", "predict")  # a text in an earlier one is a leak into a later


def inspect(data: YelpDataModule, model: BertClassifier) -> Report:
    """Reads every split that the settings name and looks through it; `model` is not built.

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
    if settings["pair_column"] is not None:
        fit_pairs_to_model(tokenizer, pretrained.config, pretrained.name)
    most = max_positions(pretrained.config)
    shown = {limit for limit in LIMITS if most is None or limit <= most} | {settings["max_tokens"]}

    read, found, labels, apart = _read(data, named)
    model.check_settings(labels)
    reports: dict[str, SplitReport] = {}
    for split in found:
        own = read.get(split.name)  # None for rows that are held out of train
        where = own.where if own else f"held out of {read['train'].where}"
        reports[split.name] = SplitReport(
            where=f"{where} ({apart[split.name]})" if split.name in apart else where,
            rows=len(split.exact),
            empty_rows=len(own.table) - len(own.texts) if own else 0,
            classes=None if split.labels is None else labels.balance(split.labels),
            numbers=None if split.labels is None else labels.facts(split.labels).get("numbers"),
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
                pairs=split.pairs,
            ),
        )
    return Report(
        splits=reports,
        not_named=[split for split in SPLITS if split not in reports],
        leakage=leakage(found, labels.named),
        groups=_groups(data, read, found),
        conflicts=conflicts(found, labels.named),
        labels=read["train"].label_findings,
        pretrained=settings["tokenizer"],
        max_tokens=settings["max_tokens"],
    )


def _groups(data: YelpDataModule, read: dict[str, Texts], found: list[AuditSplit]) -> GroupReport | None:
    """The groups of each split, and those that splits share; None if the settings name no column."""
    column = data.hparams["group_column"]
    if column is None:
        return None
    known: list[tuple[str, Values, np.ndarray]] = []
    unknown = []
    for split in found:
        if split.name == "predict":  # nothing is measured on it
            continue
        texts = read.get(split.name, read["train"])
        groups = read_groups(
            texts.table, column, split.source_rows, texts.where, needed=split.name == "train"
        )
        if groups is None:
            unknown.append(split.name)
        else:
            known.append((split.name, groups, split.source_rows))
    train = known[0][1]  # which needs the column
    return GroupReport(
        column=column,
        all_alone=len(np.unique(keys_of_groups(train))) == len(train.codes),
        groups={name: len(np.unique(groups.codes[groups.codes >= 0])) for name, groups, _ in known},
        without={name: int((groups.codes < 0).sum()) for name, groups, _ in known},
        unknown=unknown,
        shared=shared(known),
    )


def _read(
    data: YelpDataModule, named: list[SplitName]
) -> tuple[dict[str, Texts], list[AuditSplit], Labels, dict[SplitName, str]]:
    """The texts of the named splits, their hashes with train divided as in `fit`, and the labels.

    The last is what the parts of train are, in words.
    """
    read: dict[str, Texts] = {}
    apart: dict[SplitName, str] = {}
    found: list[AuditSplit] = []
    labels: Labels | None = None
    holds_out = "validation" not in named
    for name in SPLITS:
        if name != "train" and name not in named:  # reading train tells what to set if it is not named
            continue
        texts, labels = read_texts(data.text_source, name, labels, data.label_rules)
        read[name] = texts
        if name != "predict" and (name != "train" or holds_out or data.hparams["fold"] is not None):
            check_slices(texts, data.slice_columns)
        column, pairs = texts.texts.data.column("text"), pairs_of(texts.texts)
        split = AuditSplit(
            name,
            exact_keys(column, pairs),
            normalised_keys(column, f"hashing {name}", pairs),
            texts.source_rows,
            column,
            np.arange(len(column)),
            texts.labels,
            pairs,
        )
        if name == "train" and (holds_out or divides(data.hparams)):
            assert texts.labels is not None and labels is not None
            column, groups = data.hparams["group_column"], None
            if column is not None:
                groups = read_groups(texts.table, column, texts.source_rows, texts.where)
            strata = labels.strata(texts.labels)
            division = divide(strata, split.normalised, data.hparams, groups, holds_out, texts.where)
            apart = part_in_words(division, data.hparams)
            parts = division.parts().items()
            found += [split.take(rows, part) for part, rows in parts if rows is not None]
        else:
            found.append(split)
    found.sort(key=lambda split: ORDER.index(split.name))
    assert labels is not None
    return read, found, labels, apart
