"""Texts and labels from files or the Hub, checked and cleaned, as memory-mapped tables."""

import hashlib
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Literal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from tqdm import tqdm

from lit_ft.console import bar_pace, quiet_datasets
from lit_ft.data.files import BATCH_ROWS, FORMATS, Files, LateColumns, find_files
from lit_ft.data.headers import LIKELY_LABEL, LIKELY_TEXT, may_be_a_row
from lit_ft.data.raw_files import raw_files, remember, remembered, saved_to_disk, warn_of_unread
from lit_ft.data.reading import Reading
from lit_ft.errors import UserError, first_line, quoted, shorten, unusable
from lit_ft.hub import hub_errors

READER_VERSION = 2  # part of every cache key: raise it when a file would be read differently


def read_files(paths: str | list[str], *, flag: str, labelled: bool = False) -> datasets.Dataset:
    """Reads files of one format into one memory-mapped table, cached by their content.

    Args:
        paths: files or globs, `.csv`, `.tsv`, `.jsonl`, `.json` (lines or one list), `.parquet` or `.txt` (a
            text a line, column `text`). Several are read one after the other, those of a glob by name.
        flag: the flag that named them, such as `--data.train_path`, for the errors.
        labelled: whether labels are read next, where a header among the rows is seen and said.

    Returns:
        All columns of the files. Values of all formats but parquet are strings, as they were written.
    """
    files = find_files([paths] if isinstance(paths, str) else paths, flag)
    suffix, *others = sorted({Path(file).suffix.lower() for file in files})
    if others:
        raise UserError(
            f"expected files of one format, found {quoted([suffix, *others])}; give {flag} only one"
        )
    return _read(files, suffix, flag, labelled)


def _read(files: list[str], suffix: str, flag: str, labelled: bool) -> datasets.Dataset:
    """One table of files of one kind; says what was recognised in them."""
    content = _content_key(files)
    late_columns: tuple[str, ...] = ()
    while True:
        try:
            with quiet_datasets():
                builder = Files(
                    config_id=content,  # neither name nor date of a file counts, only what it holds
                    paths=tuple(files),
                    suffix=suffix,
                    flag=flag,
                    late_columns=late_columns,
                )
                builder.download_and_prepare()
                table = builder.as_dataset(split="train")
            Reading.of(table).tell(files, labelled=labelled)
            return table
        except datasets.exceptions.DatasetGenerationError as error:
            cause = error.__cause__
            if isinstance(cause, LateColumns):
                late_columns += cause.args
            elif isinstance(cause, UserError):
                raise cause from None
            elif isinstance(cause, OSError):
                raise _disk_error(cause) from None
            elif isinstance(cause, (ValueError, TypeError, pa.ArrowException)):  # of arrow or `datasets`
                advice = f"give the columns plain names and the same types in all files, or set {flag}"
                with unusable(quoted(files, 3), advice):
                    raise cause from None
            else:
                raise
        except OSError as error:
            raise _disk_error(error) from None


def read_hub(
    source: str,
    *,
    subset: str | None,
    split: str,
    sample_config: str = "sample.yaml",
    labelled: bool = False,
) -> datasets.Dataset:
    """Loads a split of a dataset of the Hugging Face Hub, or of a folder of data files.

    Args:
        source: name on the Hub, `name@revision`, or a folder.
        subset: the dataset's configuration; needed where it has several.
        split: such as `train`, or a slice such as `train[:1000]`.
        sample_config: the config that an error names as the one that needs no network.
        labelled: as for `read_files`.
    """
    name, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
    if source.endswith("@") and not Path(source).is_dir():
        raise UserError(
            f"expected name@revision, such as stanfordnlp/imdb@main, found '{source}'; fix the name"
        )
    asked = (name, subset, revision)
    with hub_errors(f"dataset '{source}'", sample_config), quiet_datasets(bars=True):
        builder, raw = None, None
        if Path(source).is_dir() and (arrow := saved_to_disk(source)) is not None:
            builder = datasets.load_dataset_builder("arrow", data_files=arrow)
        elif datasets.config.HF_HUB_OFFLINE and not Path(source).is_dir():
            raw = remembered(*asked)
        if builder is None and raw is None:
            builder = _builder(source, *asked)
            if Path(source).is_dir() and builder.config.data_files:
                warn_of_unread(source, frozenset(itertools.chain(*builder.config.data_files.values())))
            raw = raw_files(builder)
            if raw is not None and not Path(source).is_dir():
                remember(raw, *asked)
        if builder is not None and raw is None:
            builder.download_and_prepare()
    splits = list(raw.splits if raw is not None else builder.info.splits or {})  # type: ignore[union-attr]
    wanted = [re.split(r"\[", part)[0].strip() for part in split.split("+")]
    if unknown := [part for part in wanted if part not in splits]:
        raise UserError(
            f"dataset '{source}' has no split '{unknown[0] if len(wanted) > 1 else split}', but "
            f"{quoted(splits)}; set --data.train_split, --data.validation_split or --data.test_split"
        )
    if raw is not None:
        files = {part: _checked(raw.splits[part]) for part in wanted}
        tables = {part: _read(files[part], raw.suffix, "--data.source", labelled) for part in wanted}
        return _slices(tables, split, source, sample_config)
    with hub_errors(f"dataset '{source}'", sample_config), quiet_datasets():
        return builder.as_dataset(split=split)  # type: ignore[union-attr]


def _builder(source: str, name: str, subset: str | None, revision: str) -> datasets.DatasetBuilder:
    try:
        return datasets.load_dataset_builder(name, subset, revision=revision or None)
    except ValueError as error:
        if "same data file format for all splits" in str(error):
            raise UserError(
                f"expected files of one format in {source}, found several; set --data.train_path, "
                "--data.validation_path and --data.test_path to those of each split"
            ) from None
        known = re.findall(r"'([^']+)'", str(error).partition("vailable")[2])
        if "BuilderConfig" not in str(error) and "Config name is missing" not in str(error):
            raise
        found = f"no subset '{subset}'" if subset else "several subsets"
        raise UserError(
            f"dataset '{source}' has {found}; set --data.subset to one of {quoted(known)}"
        ) from None


def _checked(files: list[str]) -> list[str]:
    """The files, each looked at as those of a path are; what was unpacked has no suffix to hold it to."""
    named = [file for file in files if Path(file).suffix.lower() in FORMATS]
    find_files(named, "--data.source")
    return files


def _slices(
    tables: dict[str, datasets.Dataset], split: str, source: str, sample_config: str
) -> datasets.Dataset:
    """What `train[:1000]` or `train+test` asks for of these splits."""
    with hub_errors(f"dataset '{source}'", sample_config):
        lengths = {name: len(table) for name, table in tables.items()}
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    taken = []
    for part in parts:
        table = tables[part.splitname]
        whole = (part.from_, part.to) == (0, len(table))
        taken.append(table if whole else table.select(range(part.from_, part.to)))
    return taken[0] if len(taken) == 1 else datasets.concatenate_datasets(taken)


def select_texts(
    table: datasets.Dataset,
    *,
    text_column: str,
    label_column: str | None,
    on_empty: Literal["drop", "stop"],
    unescape: bool = False,
    strip_html_breaks: bool = False,
    where: str,
) -> tuple[datasets.Dataset, int]:
    """Picks and cleans the two columns that training needs; written once, then read from the cache.

    Args:
        table: what `read_files` or `read_hub` returned.
        text_column: name of the column of texts; numbers become text.
        label_column: name of the column of labels; None where none is needed.
        on_empty: what to do with a text that is missing or only space.
        unescape: turn a backslash and an n into a line break, a backslash and a quote into a quote.
        strip_html_breaks: turn `<br />` into a line break.
        where: the source's name for the errors, such as `reviews.csv`.

    Returns:
        The table with the columns `text` (str), `label` (as found: int, float, str or a ClassLabel's int) and
        `row` (int, counted from 1 in the source, before any was dropped), and the number of texts dropped.
    """
    check_columns(table, text_column, label_column, where)
    features = {"text": datasets.Value("string"), "row": datasets.Value("int64")}
    if label_column is not None:
        features["label"] = label_feature(table.features[label_column])
    bar = tqdm(total=len(table), desc=f"checking {where}", unit=" rows", delay=2, leave=False, **bar_pace())

    def select(batch: pa.Table, indices: list[int]) -> pa.Table:
        text = batch[text_column].cast(pa.string())
        if unescape:
            text = pc.replace_substring(pc.replace_substring(text, "\\n", "\n"), '\\"', '"')
        if strip_html_breaks:
            text = pc.replace_substring_regex(text, r"(?i)<br\s*/?>", "\n")
        row = pa.array(np.asarray(indices, dtype=np.int64) + 1)
        keep = pc.not_equal(pc.fill_null(pc.utf8_trim_whitespace(text), ""), "")
        if on_empty == "stop" and not pc.all(keep).as_py():
            first = row[pc.index(keep, False).as_py()]
            raise UserError(
                f"expected a text in each row of column '{text_column}' of {where}, found none in row "
                f"{first}; fix the row or set --data.on_empty=drop"
            )
        columns = {"text": text, "row": row}
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

    settings = [table._fingerprint, READER_VERSION, text_column, label_column, unescape, strip_html_breaks]
    try:
        with bar, quiet_datasets():
            selected = table.with_format("arrow").map(
                select,
                with_indices=True,
                batched=True,
                batch_size=BATCH_ROWS,
                remove_columns=table.column_names,
                features=datasets.Features(features),
                # by settings: `datasets` would hash the function's code, and the bar with it
                new_fingerprint=xxhash.xxh3_128_hexdigest(json.dumps([*settings, on_empty]).encode()),
            )
    except OSError as error:
        raise _disk_error(error) from None
    if len(selected) == 0:
        raise UserError(
            f"expected texts in column '{text_column}' of {where}, found all {len(table)} rows empty; "
            "set --data.text_column to another column"
        )
    return selected.with_format(None), len(table) - len(selected)


def class_names(table: datasets.Dataset, column: str = "label") -> list[str] | None:
    """The names that a Hub dataset or a parquet file declares for labels 0 to C-1, or None."""
    feature = table.features.get(column)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _content_key(files: list[str]) -> str:
    key = xxhash.xxh3_128(f"{READER_VERSION}".encode())
    for file in files:
        key.update(Path(file).suffix.lower().encode())
        with open(file, "rb") as handle:
            key.update(hashlib.file_digest(handle, xxhash.xxh3_128).digest())
    return key.hexdigest()


def _disk_error(error: OSError) -> UserError:
    """An error while the cache is written: a full disk, a folder that may not be written."""
    folder = datasets.config.HF_DATASETS_CACHE
    what = error.strerror or first_line(error)
    return UserError(
        f"cannot write the cache of datasets in {folder}: {what}; set HF_HOME=FOLDER to another place"
    )


def check_columns(table: datasets.Dataset, text_column: str, label_column: str | None, where: str) -> None:
    """Raises where a column is missing or cannot hold texts or labels."""
    wanted = {"label": label_column, "text": text_column}
    wanted = {kind: name for kind, name in wanted.items() if name is not None}
    missing = [kind for kind, name in wanted.items() if name not in table.column_names]
    if missing:
        reading = Reading.of(table)
        guesses = _guess(table, [name for name in table.column_names if name not in wanted.values()])
        expected = " and ".join(f"'{name}'" for name in wanted.values())
        flags = " ".join(f"--data.{kind}_column={shlex.quote(guesses.get(kind, 'NAME'))}" for kind in missing)
        plural, advice = "s" if len(wanted) > 1 else "", f"set {flags}"
        without = " (its first line is a row, too: there is no header)" if reading.has("no header") else ""
        if len(table.column_names) == 1 and set(",;\t|") & set(table.column_names[0]):
            advice = (
                "each line seems to stand in quotes as a whole, which makes it one value: write quotes "
                f"around single values only, else {advice}"
            )
        elif _may_lack_a_header(table):
            header = ",".join("" if name is None else name for name in (label_column, text_column) if name)
            advice = (
                f"if that is a row and no header, write a header such as {header} above it, else {advice}"
            )
        raise UserError(
            f"expected column{plural} {expected} in {where}, found {quoted(table.column_names)}{without}; "
            f"{advice}"
        )
    for kind, name in wanted.items():
        _check_type(table, kind, str(name), where)


def label_feature(feature: object) -> datasets.Value | datasets.ClassLabel:
    """The type that labels keep: whole numbers, fractions, strings, or declared class names.

    Truth values become `true` and `false`; numbers of 64 bits without a sign, which may be too large, text.
    """
    if isinstance(feature, datasets.ClassLabel):
        return feature
    kind = feature.pa_type if isinstance(feature, datasets.Value) else pa.string()
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return datasets.Value("int64")
    return datasets.Value("float64" if pa.types.is_floating(kind) else "string")


def _check_type(table: datasets.Dataset, kind: str, name: str, where: str) -> None:
    feature = table.features[name]
    # a JSON file's column is text in the table; its reader notes where it held more than that
    row = Reading.of(table).nested.get(name)
    if row is None and not isinstance(feature, datasets.ClassLabel):
        type_ = feature.pa_type if isinstance(feature, datasets.Value) else None
        if type_ is None or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
            found = pc.index(pc.is_valid(table.data.column(name)), True).as_py()
            row = max(found, 0) + 1
    if row is not None:
        held = table[row - 1][name]
        shown = shorten(held if isinstance(held, str) else repr(held))
        raise UserError(
            f"expected a {kind} in column '{name}' of {where}, found {shown} in row {row}; set "
            f"--data.{kind}_column to a column of plain values"
        )


def _may_lack_a_header(table: datasets.Dataset) -> bool:
    if table.info.builder_name != "files":
        return False
    rows = table[: min(len(table), 100)]
    return may_be_a_row(
        table.column_names, [tuple(map(str, row)) for row in zip(*rows.values(), strict=True)]
    )


def _guess(table: datasets.Dataset, names: list[str]) -> dict[str, str]:
    """Likely columns of texts and labels: by name, else the longest and the least varied values."""
    by_name = {name.lower(): name for name in reversed(names)}
    rows = table[: min(len(table), 100)]
    text = next((by_name[name] for name in LIKELY_TEXT if name in by_name), None)
    label = next((by_name[name] for name in LIKELY_LABEL if name in by_name and by_name[name] != text), None)
    if text is None and (left := [name for name in names if name != label]):
        text = max(left, key=lambda name: sum(len(str(value)) for value in rows[name]))
    if label is None and (left := [name for name in names if name != text]):
        label = min(left, key=lambda name: len({str(value) for value in rows[name]}))
    return {kind: name for kind, name in {"text": text, "label": label}.items() if name is not None}
