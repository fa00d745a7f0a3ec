"""What `check` finds in the data of a run: read as `fit` reads it, and looked through.

N rows of a split, C classes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lit_ft import hub
from lit_ft.audit import AuditSplit, Conflicts, Duplicates, Leak, conflicts, duplicates, leakage
from lit_ft.holdout import shown_share, stratified_split
from lit_ft.label_findings import LabelFinding
from lit_ft.labels import LabelMapping
from lit_ft.model_checks import check_max_tokens, max_positions
from lit_ft.model_names import needs_hub
from lit_ft.pretrained import load_config, load_tokenizer
from lit_ft.splits import SplitName, Texts, asks_hub, origin, read_texts
from lit_ft.text_keys import exact_keys, normalised_keys
from lit_ft.token_lengths import LIMITS, TokenLengths, measure_lengths

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test", "predict")


@dataclass(frozen=True)
class SplitReport:
    """What is in one split."""

    where: str
    rows: int  # that have a text
    empty_rows: int  # that have none and are left out
    classes: dict[str, int] | None  # rows of each class, in the order of the classes; None for predict
    exact_duplicates: Duplicates
    normalised_duplicates: Duplicates
    tokens: TokenLengths


@dataclass(frozen=True)
class Report:
    """All that `check` finds."""

    splits: dict[str, SplitReport]
    not_named: list[str]  # splits that the settings name no data for
    leakage: list[Leak]
    conflicts: Conflicts
    labels: list[LabelFinding]
    pretrained: str
    max_tokens: int

    @property
    def leaks(self) -> list[Leak]:
        """Those that make a measured figure better than it is: what predict shares is no mistake."""
        return [leak for leak in self.leakage if leak.normalised_rows and leak.second != "predict"]

    @property
    def sound(self) -> bool:
        """Whether there is neither leakage nor a conflict, and each class is one."""
        wrong = any(finding.unsound for finding in self.labels)
        return not self.leaks and not self.conflicts.normalised_texts and not wrong

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "sound": self.sound}


def inspect(settings: Mapping[str, Any]) -> Report:
    """Reads every split that the settings name and looks through it.

    Args:
        settings: Those of the data module.

    Raises:
        UserError: What `fit`, `test` or `predict` would stop at, too.
    """
    named = [split for split in SPLITS if origin(settings, split)]
    if needs_hub(settings["tokenizer"]) or any(asks_hub(settings, split) for split in named):
        hub.go_offline_if_unreachable()
    config = load_config(settings["tokenizer"])
    tokenizer = load_tokenizer(settings["tokenizer"])
    check_max_tokens(config, settings["max_tokens"], tokenizer)
    most = max_positions(config)
    shown = {limit for limit in LIMITS if most is None or limit <= most} | {settings["max_tokens"]}

    read, found, labels = _read(settings, named)
    reports: dict[str, SplitReport] = {}
    for split in found:
        own = read.get(split.name)  # None for rows held out of train
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
    settings: Mapping[str, Any], named: list[SplitName]
) -> tuple[dict[str, Texts], list[AuditSplit], LabelMapping]:
    """The texts of the named splits, their hashes with validation held out as in `fit`, and the labels."""
    read: dict[str, Texts] = {}
    found: list[AuditSplit] = []
    labels: LabelMapping | None = None
    for name in SPLITS:
        if name != "train" and name not in named:  # reading train says what to set where it is not named
            continue
        texts, labels = read_texts(settings, name, labels)
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
            kept, held_out = stratified_split(
                texts.labels, settings["validation_share"], settings["split_seed"], split.normalised
            )
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
