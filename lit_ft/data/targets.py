"""The labels of a split, read by the kind of label that they are.

Every kind has a label object of its own with the same methods: made from the training column, it turns labels
into what the user sees (`encode`), what a batch holds (`targets`) and back into words (`shown`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from lit_ft.console import say, warn
from lit_ft.data.corpus import class_names
from lit_ft.data.label_column import LabelColumn, LabelType
from lit_ft.data.label_findings import LabelFinding, findings
from lit_ft.data.labels import LabelMapping
from lit_ft.data.numbers import NumberScale
from lit_ft.data.tag_columns import TagForm
from lit_ft.data.tags import TagColumn, TagMapping, tag_findings
from lit_ft.errors import UserError, quoted
from lit_ft.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS

Labels = LabelMapping | TagMapping | NumberScale  # of any kind
KINDS: dict[str, type[Labels]] = {
    SINGLE_LABEL.name: LabelMapping,
    MULTI_LABEL.name: TagMapping,
    REGRESSION.name: NumberScale,
}


@dataclass(frozen=True)
class LabelRules:
    """The settings for turning training labels into targets: see `fit` of each kind."""

    task: str = "auto"
    label_type: LabelType = "auto"
    base: int | None = None
    names: Sequence[str] | Mapping[Any, str] | None = None
    ordered: bool | str = "auto"
    threshold: float | None = None


def labels_from_dict(plain: Mapping[str, Any]) -> Labels:
    """The label object that `as_dict` wrote into a checkpoint."""
    return KINDS[plain["task"]].from_dict(dict(plain))


def read_labels(
    texts: Dataset,
    table: Dataset,
    name: str,
    rows: np.ndarray,
    where: str,
    labels: Labels | None,
    rules: LabelRules,
    trained_on: bool,
    form: TagForm | None = None,
) -> tuple[np.ndarray, Labels, list[LabelFinding]]:
    """The labels of a split; those of training make the label object.

    Args:
        texts: The split's rows with a text, with the column `label`.
        table: As read: every column.
        name: The label column.
        rows: 1-based row of each text in the file or Hub split, (N,).
        where: The split's name in messages.
        labels: The label object; None to make it, if these are the training texts.
        rules: How to make it.
        trained_on: Whether these are the training texts.
        form: How the table says which labels a row has, if it may have several.

    Returns:
        What the user sees of each row, (N, ...); the label object; and findings, if it was made.
    """
    if form is not None:
        return _read_tags(texts, rows, where, labels, rules, trained_on, form)
    if rules.threshold is not None:
        raise UserError(
            f"data.threshold={rules.threshold} is for several labels a text, found one in each row of column "
            f"'{name}' of {where}; remove it, or set --data.task={MULTI_LABEL.name}"
        )
    column = LabelColumn(texts.with_format("arrow")["label"][:], rows, name)
    declared = class_names(table, name)  # the names of labels 0, 1, ...
    found: list[LabelFinding] = []
    if labels is None:
        _check_made_of_training(trained_on)
        labels = MAKERS.get(rules.task, _classes)(column, rules, where, declared)
        say(labels.describe())
        if isinstance(labels, LabelMapping):
            others = [other for other in table.column_names if other != name]
            found = findings(column, labels, texts.data.column("text"), others)
        for finding in found:
            (warn if finding.warns else say)(finding.line)
    assert not isinstance(labels, TagMapping)  # then there is a form
    return labels.encode(column, None, where, declared, trained_on=trained_on), labels, found


def _classes(
    column: LabelColumn, rules: LabelRules, where: str, declared: Sequence[str] | None
) -> LabelMapping:
    return LabelMapping.fit(
        column,
        base=rules.base,
        names=rules.names,
        label_type=rules.label_type,
        ordered=rules.ordered,
        where=where,
        declared=declared,
    )


def _numbers(
    column: LabelColumn, rules: LabelRules, where: str, declared: Sequence[str] | None
) -> NumberScale:
    for name, value, usual in (
        ("label_type", rules.label_type, "auto"),
        ("label_base", rules.base, None),
        ("label_names", rules.names, None),
        ("ordered", rules.ordered, "auto"),
    ):
        if value != usual:
            raise UserError(
                f"data.{name}={value} is about classes, and there are none with data.task=regression; set "
                f"--data.{name}={'null' if usual is None else usual}, or another data.task"
            )
    return NumberScale.fit(column, where=where, declared=declared)


# The value of data.task -> how the label object is made; classes for all others.
MAKERS: dict[str, Callable[..., Labels]] = {REGRESSION.name: _numbers}


def _check_made_of_training(trained_on: bool) -> None:
    if not trained_on:
        raise UserError("the classes come from training data or a checkpoint; set --ckpt_path")


def _read_tags(
    texts: Dataset,
    rows: np.ndarray,
    where: str,
    labels: Labels | None,
    rules: LabelRules,
    trained_on: bool,
    form: TagForm,
) -> tuple[np.ndarray, Labels, list[LabelFinding]]:
    """As `read_labels`, of several labels a row."""
    column = TagColumn(texts.data.column("label"), rows, form)
    if labels is not None:
        assert isinstance(labels, TagMapping)
        known = {*form.columns}
        missing = [v for v, n in zip(labels.values, labels.names, strict=True) if not {v, n} & known]
        if form.form == "flags" and missing:
            warn(f"labels: {where} has no column for {quoted(missing, 5)}: no text counts as having them")
        return labels.encode(column, where), labels, []
    _check_made_of_training(trained_on)
    for name, given, usual in (
        ("label_type", rules.label_type, "auto"),
        ("label_base", rules.base, "null"),
        ("ordered", rules.ordered, "auto"),
    ):
        if given not in (None, "auto", False):
            raise UserError(
                f"data.{name}={given} has no meaning where a text may have several labels; set "
                f"--data.{name}={usual}, or --data.task={SINGLE_LABEL.name}"
            )
    if rules.task not in TASKS:
        what = {"lists": "lists", "joined": "joined labels", "flags": "0 and 1"}[form.form]
        verb = "hold" if len(form.columns) > 1 else "holds"
        say(
            f"labels: {column.where} {verb} {what}, so a text may have several (data.task={MULTI_LABEL.name})"
        )
    labels = TagMapping.fit(column, names=rules.names, where=where, threshold=rules.threshold)
    say(labels.describe())
    tags = labels.encode(column, where)
    found = tag_findings(column, tags, labels)
    for finding in found:
        (warn if finding.warns else say)(finding.line)
    return tags, labels, found
