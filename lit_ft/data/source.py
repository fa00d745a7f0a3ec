"""`TextSource`: the texts that a run reads, with columns checked and texts cleaned."""

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from tqdm import tqdm

from lit_ft.console import quiet_datasets, warn
from lit_ft.data.column_names import as_value, check_names, listed_columns, named
from lit_ft.data.corpus import READER_VERSION, disk_error, read_files, read_hub
from lit_ft.data.formats import BATCH_ROWS
from lit_ft.data.headers import LIKELY_LABEL, LIKELY_PAIR, LIKELY_TEXT, may_be_a_row
from lit_ft.data.reading import Reading
from lit_ft.data.tag_columns import TagForm, columns_of_flags, holds_lists, tag_form
from lit_ft.data.text_columns import (
    PAIR,
    SPANS,
    TEXT,
    is_blank,
    join,
    separator_of,
)
from lit_ft.errors import UserError, first_line, quoted, shorten
from lit_ft.progress import bar_settings
from lit_ft.sample.reviews import sample_dataset

SplitName = Literal["train", "validation", "fold", "test", "predict"]  # fold: of train, left out of it
VERBS: dict[SplitName, str] = {
    "train": "train on",
    "validation": "validate on",
    "test": "test on",
    "predict": "predict",
}


@dataclass(frozen=True)
class TextSource:
    """Which texts a run reads and how it cleans them, from the data settings of either wing.

    Attributes:
        source: A dataset on the Hub, a local dataset folder, or `sample`.
        subset: The dataset's configuration.
        splits: The dataset's name for each split.
        paths: The file or glob of each split, which takes precedence over `source`.
        text_column: Name of the column of texts, or of several to join; numbers become text.
        text_separator: Between the values of several columns.
        column_names: Whether each of these values has its column's name before it.
        pair_column: Name of the column of second texts; None for single texts.
        label_column: Name of the column of labels; None if no split has labels.
        label_columns: Names of the columns of 0 and 1 that take its place.
        label_separator: Between the labels of a row, if it may have several as one text.
        task: What a label is; see `tag_columns.tag_form`.
        on_empty: What to do with a text that is missing or blank.
        unescape: Turn a backslash and an n into a line break, a backslash and a quote into a quote.
        strip_html_breaks: Turn `<br />` into a line break.
        sample_config: The config that needs no network, named when the Hub cannot be reached.
    """

    source: str | None = None
    subset: str | None = None
    splits: Mapping[SplitName, str | None] = field(default_factory=dict)
    paths: Mapping[SplitName, str | None] = field(default_factory=dict)
    text_column: str | Sequence[str] = "text"
    text_separator: str = "\n"
    column_names: bool = False
    pair_column: str | None = None
    label_column: str | None = None
    label_columns: Sequence[str] | None = None
    label_separator: str | None = None
    task: str = "auto"
    on_empty: Literal["drop", "stop"] = "drop"
    unescape: bool = False
    strip_html_breaks: bool = False
    sample_config: str = "sample.yaml"

    def __post_init__(self) -> None:
        check_names(self.text_column, self.pair_column, self.label_column)

    @classmethod
    def of(cls, settings: Mapping[str, Any], sample_config: str = "sample.yaml") -> "TextSource":
        """From the `data` settings by name; a missing setting keeps its default."""
        own = {f.name: settings[f.name] for f in fields(cls) if f.name in settings}
        splits: dict[SplitName, str | None] = {split: settings.get(f"{split}_split") for split in VERBS}
        paths: dict[SplitName, str | None] = {split: settings.get(f"{split}_path") for split in VERBS}
        return cls(**own, splits=splits, paths=paths, sample_config=sample_config)

    def origin(self, split: SplitName) -> Literal["files", "sample", "source"] | None:
        """Where a split comes from; None if the settings name no data for it.

        A path takes precedence. If the training data comes from files, no split comes from `source`: a model
        must not be tested on other data by accident.
        """
        if self.paths.get(split):
            return "files"
        if split == "predict" or self.paths.get("train") or self.source is None:
            return None
        if self.source == "sample":
            return None if split in ("validation", "fold") else "sample"
        return "source" if self.splits.get(split) else None

    def asks_hub(self, split: SplitName) -> bool:
        """Whether reading a split accesses the Hub."""
        return self.origin(split) == "source" and not Path(os.path.expanduser(str(self.source))).is_dir()

    def facts(self, split: SplitName) -> dict[str, Any]:
        """A split's origin, for reports."""
        named = self.origin(split) is not None
        where = (self.paths.get(split) or self.source) if named else "held out of train"
        return {"where": where, "from_hub": self.asks_hub(split if named else "train")}

    def columns(self) -> dict[str, Any]:
        """For reports: what a text is made of; empty if that is one column as it is."""
        names = listed_columns(self.text_column)
        found: dict[str, Any] = {}
        if len(names) > 1 or self.column_names:
            found["joined"] = {
                "columns": names,
                "separator": separator_of(self.text_separator),
                "names": self.column_names,
            }
        return found | ({"pair": self.pair_column} if self.pair_column is not None else {})

    def read(self, split: SplitName) -> tuple[datasets.Dataset, str]:
        """A split with all its columns, and its name for messages.

        Raises:
            UserError: The settings name no data for this split, or it cannot be read.
        """
        labelled = split != "predict" and bool(self.label_column)
        path, name = self.paths.get(split), self.splits.get(split)
        match self.origin(split):
            case "files":
                return read_files(str(path), flag=f"--data.{split}_path", labelled=labelled), str(path)
            case "sample":
                return sample_dataset("test" if split == "test" else "train"), "the embedded reviews"
            case "source":
                table = read_hub(
                    os.path.expanduser(str(self.source)),  # a folder
                    subset=self.subset,
                    split=str(name),
                    sample_config=self.sample_config,
                    labelled=labelled,
                )
                return table, f"{self.source} ({name})"
        found = f", found data.source={self.source}, data.train_path={self.paths.get('train')}"
        raise UserError(
            f"expected data to {VERBS[split]}{'' if split == 'predict' else found}; "
            f"set --data.{split}_path to a file or glob"
        )

    def read_texts(self, split: SplitName) -> tuple[datasets.Dataset, datasets.Dataset, str]:
        """A split's texts as returned by `select`, the table they come from, and its name for messages."""
        names = listed_columns(self.text_column)
        if split == "train" and len(names) == 1 and self.text_separator != "\n":
            beside = "" if self.pair_column is None else ", and not between a text and its pair"
            warn(f"data.text_separator has no effect on one text column, '{names[0]}'{beside}")
        table, where = self.read(split)
        texts = self.select(
            table, where, labelled=split != "predict", measured=split in ("validation", "test")
        )
        if num_dropped := len(table) - len(texts):
            done = "left without a prediction" if split == "predict" else "left out"
            what = "text" if self.pair_column is None else f"text in {named(names)}"
            warn(f"{num_dropped:,} of {len(table):,} rows of {where} have no {what} and are {done}")
        if self.pair_column is not None:
            alone = pc.sum(pc.equal(texts.data.column(PAIR), "")).as_py()
            if alone == len(texts) and split != "predict":
                raise UserError(
                    f"expected texts in column '{self.pair_column}' of {where}, found all {alone:,} empty; "
                    "set --data.pair_column to another column, or to null for single texts"
                )
            if alone:
                warn(
                    f"{alone:,} of {len(texts):,} texts of {where} have no second text in column "
                    f"'{self.pair_column}': it is read as an empty one"
                )
        return texts, table, where

    def tag_form(self, table: datasets.Dataset, where: str) -> TagForm | None:
        """How a table says which labels a row has, if it may have any number of them."""
        if self.label_column is None:
            return None
        asked = self.label_columns, self.label_separator, self.task
        return tag_form(table, self.label_column, *asked, where)

    def select(
        self, table: datasets.Dataset, where: str, labelled: bool = True, measured: bool = False
    ) -> datasets.Dataset:
        """Select and clean the columns that training needs; later calls read them from the cache.

        Args:
            table: From `read`.
            where: Its name for error messages, such as `reviews.csv`.
            labelled: Whether to include the labels.
            measured: Whether they are to measure by, not to train on.

        Returns:
            The columns `text` (str), `row` (int, counted from 1 in the source) and `label` (as found: int,
            float, str or a ClassLabel's int; or a list of str, if a row may have several) of the rows that
            have a text; `pair` (str) with a `pair_column`; and `spans` if the text is joined, see
            `text_columns.join`.
        """
        form = self.tag_form(table, where) if labelled else None
        label_column = self.label_column if labelled else None
        check_columns(table, self.text_column, label_column, where, self.pair_column, form, measured=measured)
        names, separator = listed_columns(self.text_column), separator_of(self.text_separator)
        joined, column = len(names) > 1 or self.column_names, named(names)
        features: dict[str, Any] = {TEXT: datasets.Value("string"), "row": datasets.Value("int64")}
        if joined:
            features[SPANS] = datasets.List(datasets.Value("int32"))
        if self.pair_column is not None:
            features[PAIR] = datasets.Value("string")
        if form is not None:
            features["label"] = datasets.List(datasets.Value("string"))
        elif label_column is not None:
            features["label"] = label_feature(table.features[label_column])
        bar = tqdm(total=len(table), desc=f"checking {where}", unit=" rows", **bar_settings())

        def cleaned(values: pa.ChunkedArray) -> pa.ChunkedArray:
            text = values.cast(pa.string())
            if self.unescape:
                text = pc.replace_substring(pc.replace_substring(text, "\\n", "\n"), '\\"', '"')
            if self.strip_html_breaks:
                text = pc.replace_substring_regex(text, r"(?i)<br\s*/?>", "\n")
            return text

        def select(batch: pa.Table, indices: list[int]) -> pa.Table:
            texts = [cleaned(batch[name]) for name in names]
            text, spans = (
                join(texts, separator, names if self.column_names else None) if joined else (texts[0], None)
            )
            row = pa.array(np.asarray(indices, dtype=np.int64) + 1)
            keep = pc.invert(is_blank(text))
            if self.on_empty == "stop" and not pc.all(keep).as_py():
                first = row[pc.index(keep, False).as_py()]
                raise UserError(
                    f"expected a text in each row of {column} of {where}, found none in "
                    f"row {first}; fix the row or set --data.on_empty=drop"
                )
            columns = {TEXT: text, "row": row}
            if spans is not None:
                columns[SPANS] = spans
            if self.pair_column is not None:
                pair = cleaned(batch[self.pair_column])
                columns[PAIR] = pc.if_else(is_blank(pair), "", pair)
            if form is not None:
                kept = pa.table({"keep": keep})["keep"].combine_chunks()
                columns = {name: values.filter(kept) for name, values in columns.items()}
                columns["label"] = form.read(batch.filter(kept), columns["row"].to_numpy(), where)
                bar.update(batch.num_rows)
                return pa.table(columns)
            if label_column is not None:
                try:
                    columns["label"] = batch[label_column].cast(features["label"].pa_type)
                except pa.ArrowInvalid as error:
                    raise UserError(
                        f"expected labels of at most 64 bits in column '{label_column}' of {where}, found in "
                        f"rows {row[0]} to {row[-1]}: {first_line(error)}; set --data.label_column to another"
                    ) from None
            bar.update(batch.num_rows)
            return pa.table(columns).filter(keep)

        settings = [table._fingerprint, READER_VERSION, self.text_column, label_column, self.unescape]
        settings += [self.strip_html_breaks, self.on_empty]
        settings += [separator, self.column_names] if joined else []
        settings += [{"pair": self.pair_column}] if self.pair_column is not None else []
        settings += [{"labels": repr(form)}] if form is not None else []
        try:
            with bar, quiet_datasets():
                selected = table.with_format("arrow").map(
                    select,
                    with_indices=True,
                    batched=True,
                    batch_size=BATCH_ROWS,
                    remove_columns=table.column_names,
                    features=datasets.Features(features),
                    # from the settings: `datasets` would hash the function's code and its progress bar
                    new_fingerprint=xxhash.xxh3_128_hexdigest(json.dumps(settings).encode()),
                )
        except OSError as error:
            raise disk_error(error) from None
        if len(selected) == 0:
            raise UserError(
                f"expected texts in {column} of {where}, found all {len(table)} rows "
                "empty; set --data.text_column to another column"
            )
        return selected.with_format(None)


def check_columns(
    table: datasets.Dataset,
    text_column: str | Sequence[str],
    label_column: str | None,
    where: str,
    pair_column: str | None = None,
    form: TagForm | None = None,
    measured: bool = False,
) -> None:
    """Raise if a column is missing or its type cannot hold texts or labels; those of a `form` are checked.

    A file to measure on that has texts, but no labels, is the test file of a contest.
    """
    if form is not None and form.columns[0] in table.column_names:
        label_column = None
    texts = listed_columns(text_column)
    wanted = [("label", label_column), *(("text", name) for name in texts), ("pair", pair_column)]
    columns = [(kind, name) for kind, name in wanted if name is not None]
    names = [name for _, name in columns]
    missing = [(kind, name) for kind, name in columns if name not in table.column_names]
    if missing:
        reading = Reading.of(table)
        left = [name for name in table.column_names if name not in names]
        flags = []
        kinds = dict.fromkeys(kind for kind, _ in missing)
        pair = []
        if "pair" in kinds:
            pair = _near([str(pair_column)], table.column_names, left)
            if pair == ["NAME"]:  # that of another corpus
                pair = next(([name] for name in left if name.lower() in LIKELY_PAIR), pair)
        left = [name for name in left if name not in pair]  # a column is not advised twice
        guesses = _guess(table, left)
        for kind in kinds:
            meant = [guesses.get(kind, "NAME")]
            if kind == "pair":
                meant = pair
            elif kind == "text" and len(texts) > 1:
                meant = _near(texts, table.column_names, left)
            elif alike := _alike(texts[0] if kind == "text" else str(label_column), left):
                meant = [alike]
            elif (
                kind == "text"
                and len(parts := [p.strip(" '\"") for p in texts[0].strip("[] ").split(",")]) > 1
            ):
                meant = (
                    parts if set(parts) <= {*table.column_names} else meant
                )  # a list that YAML reads otherwise
            flags.append(f"--data.{kind}_column={as_value(meant)}")
        advice = f"set {' '.join(flags)}"
        if "label" in kinds and not measured and len(marks := columns_of_flags(table, left)) > 1:
            advice += f", or --data.label_columns={as_value(marks)} for several labels a text"
        likely = {name.lower() for name in left} & {*LIKELY_LABEL}
        if measured and [kind for kind, _ in missing] == ["label"] and not likely:
            advice = (
                "texts without labels can be predicted (--data.predict_path), not measured; else name the "
                "labels' column as in training"
            )
        without = " (there is no header: the first line is data)" if reading.has("no header") else ""
        if len(table.column_names) == 1 and set(",;\t|") & set(table.column_names[0]):
            advice = (
                "each line seems to be quoted as a whole, which makes it a single value: quote the values, "
                f"not the lines, else {advice}"
            )
        elif _may_lack_a_header(table):
            header = ",".join(name for name in names if name)
            advice = (
                f"if that is data and not a header, add a header such as {header} above it, else {advice}"
            )
        raise UserError(
            f"expected {named(names)} in {where}, found {quoted(table.column_names)}{without}; {advice}"
        )
    for kind, name in columns:
        _check_type(table, kind, name, where)


def _near(wanted: Sequence[str], there: Sequence[str], left: Sequence[str]) -> list[str]:
    """These columns, each that is missing replaced by one of those left with a near name."""
    lower = {name.lower(): name for name in reversed(left)}
    near = {name: difflib.get_close_matches(name.lower(), lower, n=1) for name in wanted}
    return [name if name in there else lower[near[name][0]] if near[name] else "NAME" for name in wanted]


def _alike(name: str, left: Sequence[str]) -> str | None:
    """The one of these columns that is called the same but for case."""
    return next((other for other in left if other.lower() == name.lower()), None)


def label_feature(feature: object) -> datasets.Value | datasets.ClassLabel:
    """The type in which labels are kept: int64, float64, string or declared class names.

    Booleans become `true` and `false`; unsigned 64-bit integers, which may be too large, become strings.
    """
    if isinstance(feature, datasets.ClassLabel):
        return feature
    kind = feature.pa_type if isinstance(feature, datasets.Value) else pa.string()
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return datasets.Value("int64")
    return datasets.Value("float64" if pa.types.is_floating(kind) else "string")


def _check_type(table: datasets.Dataset, kind: str, name: str, where: str) -> None:
    feature = table.features[name]
    # a JSON file's columns are strings in the table; its reader notes rows with nested values
    row = Reading.of(table).nested.get(name)
    if row is None and not isinstance(feature, datasets.ClassLabel):
        type_ = feature.pa_type if isinstance(feature, datasets.Value) else None
        if type_ is None or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
            found = pc.index(pc.is_valid(table.data.column(name)), True).as_py()
            row = max(found, 0) + 1
    if row is not None:
        lists = holds_lists(table, name)
        held = table[row - 1][name]
        shown = shorten(held if isinstance(held, str) else repr(held), 40)
        what = "text" if kind == "pair" else kind
        raise UserError(
            f"expected a {what} in column '{name}' of {where}, found {shown} in "
            f"row {row}; set --data.{kind}_column to a column of plain values"
            f"{', or --data.task=multi_label if a text may have several' * (kind == 'label' and lists)}"
        )


def _may_lack_a_header(table: datasets.Dataset) -> bool:
    if table.info.builder_name != "files":
        return False
    rows = table[: min(len(table), 100)]
    return may_be_a_row(
        table.column_names, [tuple(map(str, row)) for row in zip(*rows.values(), strict=True)]
    )


def _guess(table: datasets.Dataset, names: list[str]) -> dict[str, str]:
    """The likely text and label columns: by name, else the longest and the least varied values."""
    by_name = {name.lower(): name for name in reversed(names)}
    rows = table[: min(len(table), 100)]
    text = next((by_name[name] for name in LIKELY_TEXT if name in by_name), None)
    label = next((by_name[name] for name in LIKELY_LABEL if name in by_name and by_name[name] != text), None)
    if text is None and (left := [name for name in names if name != label]):
        text = max(left, key=lambda name: sum(len(str(value)) for value in rows[name]))
    if label is None and (left := [name for name in names if name != text]):
        label = min(left, key=lambda name: len({str(value) for value in rows[name]}))
    return {kind: name for kind, name in {"text": text, "label": label}.items() if name is not None}
