"""Files or a Hub dataset -> a memory-mapped table with all their columns."""

import hashlib
import itertools
import re
from pathlib import Path

import datasets
import pyarrow as pa
import xxhash

from lit_ft.console import quiet_datasets
from lit_ft.data.files import Files, LateColumns
from lit_ft.data.formats import FORMATS, find_files
from lit_ft.data.raw_files import raw_files, remember, remembered, saved_to_disk, warn_of_unread
from lit_ft.data.reading import Reading
from lit_ft.errors import UNWRITABLE, UserError, first_line, quoted, unusable
from lit_ft.hub import hub_errors

READER_VERSION = 3  # part of every cache key: raise it when the same file is read differently


def read_files(paths: str | list[str], *, flag: str, labelled: bool = False) -> datasets.Dataset:
    """Read files of one format into one memory-mapped table, cached by content.

    Args:
        paths: Files or globs: `.csv`, `.tsv`, `.jsonl`, `.json` (lines or one list), `.parquet` or `.txt`
            (one text per line, column `text`), read in this order, the files of a glob sorted by name.
        flag: The flag that gave them, for error messages, such as `--data.train_path`.
        labelled: Whether labels are read next. They then report a header among the rows.

    Returns:
        All columns. Values are strings as written in the file, except in parquet files.
    """
    files = find_files([paths] if isinstance(paths, str) else paths, flag)
    suffix, *others = sorted({Path(file).suffix.lower() for file in files})
    if others:
        raise UserError(
            f"expected files of one format, found {quoted([suffix, *others])}; give {flag} only one"
        )
    return _read(files, suffix, flag, labelled)


def _read(files: list[str], suffix: str, flag: str, labelled: bool) -> datasets.Dataset:
    """One table from files of one format; reports what was recognised in them."""
    late_columns: tuple[str, ...] = ()
    content = ""
    while True:
        try:
            content = content or _content_key(files)
            with quiet_datasets():
                builder = Files(
                    config_id=content,  # only the content counts, not a file's name or date
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
                raise disk_error(cause, files) from None
            elif isinstance(cause, (ValueError, TypeError, pa.ArrowException)):  # of arrow or `datasets`
                advice = f"give the columns plain names and the same types in all files, or set {flag}"
                with unusable(quoted(files, 3), advice):
                    raise cause from None
            else:
                raise
        except OSError as error:
            raise disk_error(error, files) from None


def read_hub(
    source: str,
    *,
    subset: str | None,
    split: str,
    sample_config: str = "sample.yaml",
    labelled: bool = False,
) -> datasets.Dataset:
    """Load a split of a Hugging Face Hub dataset or of a folder of data files.

    Args:
        source: Hub name, `name@revision`, or a folder.
        subset: The dataset's configuration; needed if it has several.
        split: Such as `train`, or a slice such as `train[:1000]`.
        sample_config: The config that needs no network, named when the Hub cannot be reached.
        labelled: As in `read_files`.
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
        with hub_errors(f"dataset '{source}'", sample_config):
            return _slices(tables, split)
    with hub_errors(f"dataset '{source}'", sample_config), quiet_datasets():
        return builder.as_dataset(split=split)  # type: ignore[union-attr]


def _builder(source: str, name: str, subset: str | None, revision: str) -> datasets.DatasetBuilder:
    try:
        return datasets.load_dataset_builder(name, subset, revision=revision or None)
    except ValueError as error:
        if "same data file format for all splits" in str(error):
            raise UserError(
                f"expected files of one format in {source}, found several; set --data.train_path, "
                "--data.validation_path and --data.test_path to each split's files"
            ) from None
        known = re.findall(r"'([^']+)'", str(error).partition("vailable")[2])
        if "BuilderConfig" not in str(error) and "Config name is missing" not in str(error):
            raise
        found = f"no subset '{subset}'" if subset else "several subsets"
        raise UserError(
            f"dataset '{source}' has {found}; set --data.subset to one of {quoted(known)}"
        ) from None


def _checked(files: list[str]) -> list[str]:
    """The files, checked like those of a path; unpacked files have no suffix to check."""
    named = [file for file in files if Path(file).suffix.lower() in FORMATS]
    find_files(named, "--data.source")
    return files


def _slices(tables: dict[str, datasets.Dataset], split: str) -> datasets.Dataset:
    """The rows that `train[:1000]` or `train+test` selects from these splits."""
    lengths = {name: len(table) for name, table in tables.items()}
    parts = datasets.ReadInstruction.from_spec(split).to_absolute(lengths)
    taken = []
    for part in parts:
        table = tables[part.splitname]
        whole = (part.from_, part.to) == (0, len(table))
        taken.append(table if whole else table.select(range(part.from_, part.to)))
    return taken[0] if len(taken) == 1 else datasets.concatenate_datasets(taken)


def class_names(table: datasets.Dataset, column: str = "label") -> list[str] | None:
    """The names that a Hub dataset or parquet file declares for labels 0 to C-1, or None."""
    feature = table.features.get(column)
    return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None


def _content_key(files: list[str]) -> str:
    key = xxhash.xxh3_128(f"{READER_VERSION}".encode())
    for file in files:
        key.update(Path(file).suffix.lower().encode())
        with open(file, "rb") as handle:
            key.update(hashlib.file_digest(handle, xxhash.xxh3_128).digest())
    return key.hexdigest()


def disk_error(error: OSError, files: list[str] | None = None) -> UserError:
    """The error of a cache that cannot be written (full, no permission), or of `files` on a failing disk."""
    folder = datasets.config.HF_DATASETS_CACHE
    what = error.strerror or first_line(error)
    if files and error.errno not in UNWRITABLE:
        return UserError(f"{quoted(files, 3)} cannot be read: {what}; copy the data to another disk")
    return UserError(
        f"cannot write the cache of datasets in {folder}: {what}; set HF_HOME=FOLDER to another place"
    )
