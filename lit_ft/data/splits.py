"""One split of a corpus on its way from files or the Hub to token ids and classes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
from datasets import Dataset

from lit_ft.console import say, warn
from lit_ft.data.corpus import class_names, read_files, read_hub, select_texts
from lit_ft.data.duplicates import exact_keys, normalised_keys, warning_line
from lit_ft.data.files import columns_of, find_files
from lit_ft.data.holdout import shown_share, stratified_split
from lit_ft.data.label_column import LabelColumn
from lit_ft.data.label_findings import LabelFinding, findings
from lit_ft.data.labels import LabelMapping
from lit_ft.data.token_facts import token_facts, warn_of_tokens
from lit_ft.data.tokens import ENCODED, EncodedRows, content_hash, encode, measure_cut, template_of
from lit_ft.errors import NoRows, UserError, rows_in_words
from lit_ft.sample.reviews import sample_dataset

SplitName = Literal["train", "validation", "test", "predict"]
VERBS = {"train": "train on", "validation": "validate on", "test": "test on", "predict": "predict"}


@dataclass
class Texts:
    """One split as it was read and checked. N rows that have a text."""

    texts: Dataset  # columns `text`, `row`, and `label` as found
    labels: np.ndarray | None  # (N,) int64
    source_rows: np.ndarray  # (N,) int64: 1-based row in the file or Hub split
    table: Dataset  # every column and row as it was read
    where: str  # its name in messages
    label_findings: list[LabelFinding] = field(default_factory=list)  # where the mapping was made of them


@dataclass
class Split:
    """One split, ready for a loader. N rows."""

    rows: EncodedRows
    labels: np.ndarray | None  # (N,) int64
    source_rows: np.ndarray  # (N,) int64: 1-based row in the file or Hub split
    table: Dataset  # every column as it was read
    fingerprint: str  # of the texts and classes that were read
    texts: Dataset  # `text` as the model reads it, and `row`; at the places that batches call `index`
    keys: np.ndarray  # (N,) uint64: a hash of each text
    special: dict[int, str]  # of each special token in a text: in which, before any `take`

    def take(self, positions: np.ndarray) -> "Split":
        """The rows at these places of this split."""
        labels = None if self.labels is None else self.labels[positions]
        return replace(
            self,
            rows=self.rows.take(positions),
            labels=labels,
            source_rows=self.source_rows[positions],
            keys=self.keys[positions],
        )


def origin(settings: Mapping[str, Any], split: SplitName) -> Literal["files", "sample", "source"] | None:
    """Where a split comes from, None where the settings name nothing for it.

    A path of its own wins. Where the training data comes from files, nothing comes from the source: a
    model is never tested on somebody else's data by accident.
    """
    if settings.get(f"{split}_path"):
        return "files"
    if split == "predict" or settings["train_path"] or settings["source"] is None:
        return None
    if settings["source"] == "sample":
        return None if split == "validation" else "sample"
    return "source" if settings[f"{split}_split"] else None


def asks_hub(settings: Mapping[str, Any], split: SplitName) -> bool:
    """Whether `read_split` of these settings asks the Hub."""
    return origin(settings, split) == "source" and not Path(os.path.expanduser(settings["source"])).is_dir()


def read_split(
    settings: Mapping[str, Any], split: SplitName, sample_config: str = "sample.yaml"
) -> tuple[Dataset, str]:
    """The rows of a split with every column, and what to call it in messages.

    Args:
        settings: `source`, `subset`, `..._split` and `..._path` of the data module.
        split: Which one.
        sample_config: The config that an error names as the one that needs no network.

    Raises:
        UserError: The settings name no data for this split, or it cannot be read.
    """
    source, labelled = settings["source"], split != "predict" and bool(settings.get("label_column"))
    match origin(settings, split):
        case "files":
            path = settings[f"{split}_path"]
            return read_files(path, flag=f"--data.{split}_path", labelled=labelled), path
        case "sample":
            return sample_dataset("test" if split == "test" else "train"), "the embedded reviews"
        case "source":
            name = settings[f"{split}_split"]
            table = read_hub(
                os.path.expanduser(source),  # a folder
                subset=settings["subset"],
                split=name,
                sample_config=sample_config,
                labelled=labelled,
            )
            return table, f"{source} ({name})"
    found = f", found data.source={source}, data.train_path={settings['train_path']}"
    raise UserError(
        f"expected data to {VERBS[split]}{'' if split == 'predict' else found}; "
        f"set --data.{split}_path to a file or glob"
    )


def read_texts(
    settings: Mapping[str, Any], split: SplitName, labels: LabelMapping | None
) -> tuple[Texts, LabelMapping | None]:
    """Read and check a split; says what the user should know about it.

    Args:
        settings: Those of the data module.
        split: Which one; `predict` has no labels.
        labels: The mapping, None where this split, `train`, makes it.

    Returns:
        The texts, and the mapping.
    """
    table, where = read_split(settings, split)
    texts, num_dropped = select_texts(
        table,
        text_column=settings["text_column"],
        label_column=None if split == "predict" else settings["label_column"],
        on_empty=settings["on_empty"],
        unescape=settings["unescape"],
        strip_html_breaks=settings["strip_html_breaks"],
        where=where,
    )
    if num_dropped:
        done = "left without a prediction" if split == "predict" else "left out"
        warn(f"{num_dropped:,} of {len(table):,} rows of {where} have no text and are {done}")
    source_rows = np.asarray(texts.with_format("numpy")["row"][:])
    classes, found = None, []
    if split != "predict":
        name = settings["label_column"]
        column = LabelColumn(texts.with_format("arrow")["label"][:], source_rows, name)
        declared = class_names(table, name)  # of labels from 0 on
        if labels is None:
            if split != "train":
                raise UserError("the classes come from training data or a checkpoint: set --ckpt_path")
            labels = LabelMapping.fit(
                column,
                base=settings["label_base"],
                names=settings["label_names"],
                where=where,
                label_type=settings["label_type"],
                declared=declared,
            )
            say(labels.describe())
            others = [other for other in table.column_names if other != name]
            found = findings(column, labels, texts.data.column("text"), others)
            for finding in found:
                (warn if finding.warns else say)(finding.line)
        classes = labels.encode(column, None, where, declared, trained_on=split == "train")
    return Texts(texts, classes, source_rows, table, where, found), labels


def prepare_split(
    settings: Mapping[str, Any], split: SplitName, tokenizer: Any, labels: LabelMapping | None
) -> tuple[Split, LabelMapping | None]:
    """Read, check and tokenise a split; `read_texts` with a fast `tokenizer`."""
    try:
        read, labels = read_texts(settings, split, labels)
    except NoRows:
        files = find_files([settings["predict_path"]], "--data.predict_path") if split == "predict" else []
        if len(files) != 1:
            raise
        warn(f"{files[0]} has no rows: the predictions are its header alone")
        return _without_rows(columns_of(files[0])), labels
    texts, classes = read.texts, read.labels
    max_tokens, content = settings["max_tokens"], content_hash(texts)
    description = f"tokenising {split}"
    encoded, cached = encode(texts, tokenizer, max_tokens, settings["truncation"], description, content)
    how = "token ids from the cache" if cached else "tokenised"
    say(f"{split}: {len(texts):,} rows of {read.where}, {how}; {measure_cut(encoded).describe(max_tokens)}")
    template = template_of(tokenizer)
    facts = token_facts(encoded, texts, tokenizer, template)
    if len(facts.without_token) and not template.size:  # the model would have nothing to read
        rows_without = rows_in_words(read.source_rows[facts.without_token])
        raise UserError(
            f"expected a token in each text of {read.where}, found none in {rows_without}; remove it"
        )
    warn_of_tokens(facts, tokenizer, texts, read.source_rows, read.where)
    special = {
        i: f"{rows_in_words(read.source_rows[places])} of {read.where}" for i, places in facts.special.items()
    }
    fingerprint = f"{content}-{crc32(classes.tobytes()):08x}" if classes is not None else content
    rows = EncodedRows(encoded, np.arange(len(encoded)), classes)
    keys = exact_keys(texts.data.column("text"))
    return Split(rows, classes, read.source_rows, read.table, fingerprint, texts, keys, special), labels


def _without_rows(columns: list[str]) -> Split:
    encoded = Dataset.from_dict({"input_ids": [], "full_length": []}, ENCODED)
    none = np.zeros(0, dtype=np.int64)
    texts = Dataset.from_dict({"text": [], "row": []})
    table = Dataset.from_dict({name: [] for name in columns})
    return Split(EncodedRows(encoded, none, None), None, none, table, "", texts, none.astype(np.uint64), {})


def hold_out(train: Split, share: float, seed: int) -> tuple[Split, Split]:
    """The rows to train on and those held out for validation, where no data of its own is named."""
    assert train.labels is not None
    keys = normalised_keys(train.texts.data.column("text"), "comparing texts")
    kept, held_out = stratified_split(train.labels, share, seed, keys)
    share_in_words = shown_share(train.labels, train.labels[held_out], share)
    say(f"validation: {len(held_out):,} rows held out of train ({share_in_words})")
    return train.take(kept), train.take(held_out)


def warn_of_copies(train: Split, validation: Split) -> None:
    """Says in one line what makes the validation figure better, or the training worse, than it should be."""
    assert train.labels is not None
    if line := warning_line(train.keys, train.labels, validation.keys):
        warn(line)


def check_same_train(then: str | None, now: str, resumes: bool, where: str) -> None:
    """Refuse other training data than the checkpoint's: to go on with, or to hold rows out of again.

    Args:
        then: The checkpoint's fingerprint, None without one.
        now: The fingerprint of what was read.
        resumes: Whether training goes on; else the checkpoint is measured on what is held out.
        where: What was read.
    """
    if then in (None, now):
        return
    if resumes:
        raise UserError("the training data is not the checkpoint's: leave out --ckpt_path to start anew")
    raise UserError(
        "expected the checkpoint's training data, whose held-out rows are measured, found other rows, labels "
        f"or clean-ups in {where}: rows held out now may have been trained on; set --data.train_path or "
        "--data.source to that data, or --data.validation_path to rows to measure"
    )


def check_same_held_out(then: str | None, now: str) -> None:
    """Refuse to measure a checkpoint on rows that it was trained on.

    Args:
        then: The fingerprint of the rows that its run held out, None where it held out none.
        now: Of those that are held out now.
    """
    if then != now:
        found = "other rows" if then else "none: its run had validation data of its own"
        raise UserError(
            f"expected the rows that the checkpoint's run held out of its training data, found {found}; set "
            "--data.validation_path to rows to measure, or --data.validation_split"
        )
