"""One split of a corpus, from its source to token ids and classes."""

from dataclasses import dataclass, field, replace
from typing import Any
from zlib import crc32

import numpy as np
from datasets import Dataset

from lit_ft.console import say, warn
from lit_ft.data.columns import Values
from lit_ft.data.duplicates import exact_keys, normalised_keys, warning_line
from lit_ft.data.groups import grouped_split
from lit_ft.data.holdout import shown_share, stratified_split
from lit_ft.data.iterative import iterative_split
from lit_ft.data.label_findings import LabelFinding
from lit_ft.data.source import SplitName, TextSource
from lit_ft.data.targets import LabelRules, Labels, read_labels
from lit_ft.data.text_columns import pairs_of
from lit_ft.data.token_facts import lines_about, token_facts
from lit_ft.data.tokens import (
    ENCODED,
    EncodedRows,
    Truncation,
    content_hash,
    describe_cut,
    encode,
    template_of,
)
from lit_ft.errors import UserError, rows_in_words


@dataclass
class Texts:
    """One split, read and checked. N rows that have a text."""

    split: SplitName
    texts: Dataset  # columns `text`, `row`, and `label` as found; those of `text_columns`
    labels: np.ndarray | None  # (N, ...), as `encode` of the label object gives them: classes are (N,) int64
    targets: np.ndarray | None  # (N, ...), what a batch holds for them
    source_rows: np.ndarray  # (N,) int64: 1-based row in the file or Hub split
    table: Dataset  # as read: every column and row
    where: str  # its name in messages
    label_findings: list[LabelFinding] = field(default_factory=list)  # if it made the mapping


@dataclass
class Split:
    """One split, ready for a loader. N rows."""

    rows: EncodedRows
    labels: np.ndarray | None  # (N, ...), as in `Texts`
    source_rows: np.ndarray  # (N,) int64: 1-based row in the file or Hub split
    table: Dataset  # as read: every column
    fingerprint: str  # of all texts and classes read
    texts: (
        Dataset  # `text` as the model reads it, perhaps `pair`, and `row`; a batch's `index` is a place here
    )
    keys: np.ndarray  # (N,) uint64: a hash of each text
    special: dict[int, str]  # special token -> the texts that contain it, in words; before any `take`
    slices: tuple[str, ...] = ()  # columns of `table` whose values are measured each for itself
    part: str = ""  # which part of the training data it is, such as `fold 2 of 5`

    def labels_of(self, index: np.ndarray) -> np.ndarray:
        """The labels of rows by their positions in `texts`, (M,) int64, as a batch's `index` has them."""
        assert self.labels is not None
        return self.labels[np.searchsorted(self.rows.positions, index)]  # positions ascend

    def take(self, positions: np.ndarray) -> "Split":
        """The rows at these positions of this split."""
        labels = None if self.labels is None else self.labels[positions]
        return replace(
            self,
            rows=self.rows.take(positions),
            labels=labels,
            source_rows=self.source_rows[positions],
            keys=self.keys[positions],
        )


def read_texts(
    source: TextSource, split: SplitName, labels: Labels | None, rules: LabelRules
) -> tuple[Texts, Labels | None]:
    """Read and check a split, and report its findings on the console.

    Args:
        source: Where the texts come from.
        split: `predict` has no labels.
        labels: The label object; None to make it from this split, `train`.
        rules: How to make it.

    Returns:
        The texts and the label object.
    """
    if labels is not None:  # the texts of an evaluation are read as those of training
        source = replace(source, task=labels.task.name)
    texts, table, where = source.read_texts(split)
    source_rows = np.asarray(texts.with_format("numpy")["row"][:])
    found: list[LabelFinding] = []
    encoded, name = None, source.label_column
    if split != "predict" and name is not None:
        place = texts, table, name, source_rows, where
        form = source.tag_form(table, where)
        encoded, labels, found = read_labels(*place, labels, rules, split == "train", form)
    targets = None if encoded is None or labels is None else labels.targets(encoded)
    return Texts(split, texts, encoded, targets, source_rows, table, where, found), labels


def encode_texts(read: Texts, tokenizer: Any, max_tokens: int, truncation: Truncation) -> Split:
    """Tokenise a split, and report what is cut off and what the tokenizer does not know."""
    texts, labels, where = read.texts, read.labels, read.where
    content, description = content_hash(texts), f"tokenising {read.split}"
    encoded, cached = encode(texts, tokenizer, max_tokens, truncation, description, content)
    how = " (cached)" if cached else ""
    say(f"{read.split}: {len(texts):,} rows of {where}{how}, {describe_cut(encoded, max_tokens)}")
    pairs = pairs_of(texts)
    template = template_of(tokenizer, pairs is not None)
    facts = token_facts(encoded, texts, tokenizer, template)
    if len(facts.without_token) and not template.size:  # the model would get an empty row
        rows_without = rows_in_words(read.source_rows[facts.without_token])
        raise UserError(f"expected a token in each text of {where}, found none in {rows_without}; remove it")
    for line in lines_about(facts, tokenizer, texts, read.source_rows, where):
        warn(line)
    special = {
        i: f"{rows_in_words(read.source_rows[places])} of {where}" for i, places in facts.special.items()
    }
    fingerprint = f"{content}-{crc32(labels.tobytes()):08x}" if labels is not None else content
    rows = EncodedRows(encoded, np.arange(len(encoded)), read.targets)
    keys = exact_keys(texts.data.column("text"), pairs)
    return Split(rows, labels, read.source_rows, read.table, fingerprint, texts, keys, special)


def without_rows(columns: list[str]) -> Split:
    """The split of a file that has only a header."""
    encoded = Dataset.from_dict({"input_ids": [], "full_length": []}, ENCODED)
    none = np.zeros(0, dtype=np.int64)
    texts = Dataset.from_dict({"text": [], "row": []})
    table = Dataset.from_dict({name: [] for name in columns})
    return Split(EncodedRows(encoded, none, None), None, none, table, "", texts, none.astype(np.uint64), {})


def hold_out(
    texts: Dataset,
    labels: np.ndarray | None,
    share: float,
    seed: int,
    groups: Values | None = None,
    where: str = "",
) -> tuple[np.ndarray, np.ndarray, str]:
    """Divide texts into those to train on and those to hold out for validation; equal texts stay on one side.

    Args:
        texts: The column `text`, (N,), and perhaps `pair`.
        labels: Strata, (N,), such as classes, or (N, C), such as labels, to hold out the same share of each;
            None without labels.
        share: Of the texts.
        seed: The same seed gives the same split.
        groups: Rows that stay on one side, too.
        where: The data, in messages about groups.

    Returns:
        The positions of both, ascending, and the share that is held out, in words.
    """
    keys = normalised_keys(texts.data.column("text"), "comparing texts", pairs_of(texts))
    if labels is None:
        labels = np.zeros(len(texts), np.int64)
        if len(texts) < 2:
            raise UserError(
                f"expected at least two texts, to hold one out for validation, found {len(texts)}; give more "
                "texts or set --data.validation_path"
            )
        if len(np.unique(keys)) == 1:
            warn("all texts are equal: those held out are copies of training texts")
    return hold_out_rows(labels, keys, share, seed, groups, where)


def hold_out_rows(
    labels: np.ndarray, keys: np.ndarray, share: float, seed: int, groups: Values | None, where: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """`hold_out` of rows whose texts have these `normalised_keys`, (N,)."""
    more: list[str] = []
    if groups is None:
        divide = iterative_split if labels.ndim == 2 else stratified_split
        kept, held_out = divide(labels, share, seed, keys)
    else:
        kept, held_out, more = grouped_split(labels, share, seed, keys, groups, where)
    return kept, held_out, "; ".join([shown_share(labels, labels[held_out], share), *more])


def copies_of(train: Split, other: Split) -> int:
    """How many texts of another split are copies of training texts, letter by letter."""
    return int(np.isin(other.keys, train.keys).sum())


def warn_of_copies(train: Split, validation: Split) -> None:
    """Warn in one line of leaked validation rows and of equal training texts with different labels."""
    assert train.labels is not None
    if line := warning_line(train.keys, train.labels, validation.keys):
        warn(line)


def check_same_train(then: str | None, now: str, resumes: bool, where: str) -> None:
    """Refuse training data other than the checkpoint's, to resume on or to hold rows out of again.

    Args:
        then: The checkpoint's fingerprint, None without one.
        now: The fingerprint of the data that was read.
        resumes: Whether training resumes; else the checkpoint is evaluated on the held-out rows.
        where: The data, in messages.
    """
    if then in (None, now):
        return
    if resumes:
        raise UserError("the training data is not the checkpoint's; leave out --ckpt_path to start a new run")
    raise UserError(
        "expected the checkpoint's training data, to evaluate on the rows held out of it, found other rows, "
        f"labels or clean-ups in {where}: rows held out now may have been trained on; set --data.train_path "
        "or --data.source to that data, or --data.validation_path to rows to evaluate on"
    )
