"""Files to tables in the cache of `datasets`, which names the builder after this module: it keeps its name.

`datasets` 5.2 (streaming.py) replaces `open` and others in a builder's module; for local files they behave as
before.
"""

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key
from tqdm import tqdm

from lit_ft.data.file_errors import not_utf8
from lit_ft.data.formats import FORMATS, Records
from lit_ft.data.reading import Reading
from lit_ft.errors import NoRows, UserError, quoted, unusable
from lit_ft.progress import bar_settings


class LateColumns(Exception):
    """Later JSON records have keys that the table, already begun, has no column for: start again."""


@dataclass
class FilesConfig(datasets.BuilderConfig):
    """The files that make one table, in order, and the suffix they share."""

    paths: tuple[str, ...] = ()
    suffix: str = ""
    flag: str = ""
    late_columns: tuple[str, ...] = ()


class Files(datasets.ArrowBasedBuilder):
    """Reads files into the `datasets` cache. Values of CSV, TSV and JSON stay text, as written.

    `info.description` is a `Reading` as JSON, so that notes on the files are cached with their rows.
    """

    BUILDER_CONFIG_CLASS = FilesConfig
    config: FilesConfig

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(description=Reading().as_json())

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [datasets.SplitGenerator(name="train", gen_kwargs={})]

    def _generate_tables(self) -> Iterator[tuple[Key, pa.Table]]:
        paths, flag = self.config.paths, self.config.flag
        reading = Reading()
        names: list[str] | None = None
        num_rows = 0
        with tqdm(desc=f"reading {paths[0]}", unit=" rows", **bar_settings()) as bar:
            for path_index, path in enumerate(paths):
                num_rows_before = num_rows
                for index, table in enumerate(self._read(path_index, num_rows, names, reading)):
                    names = table.column_names if names is None else names
                    if sorted(names) != sorted(table.column_names):
                        raise UserError(
                            f"{paths[0]} has the columns {quoted(names)}, but {path} has "
                            f"{quoted(table.column_names)}; give {flag} files with the same columns"
                        )
                    num_rows += table.num_rows
                    bar.update(table.num_rows)
                    yield Key(path_index, index), table.select(names)
                if num_rows == num_rows_before:
                    raise NoRows(f"{path} has no rows; give {flag} a file with at least one")
        self.info.description = reading.as_json()

    def _read(
        self, path_index: int, num_rows_before: int, names: list[str] | None, reading: Reading
    ) -> Iterator[pa.Table]:
        path, flag = self.config.paths[path_index], self.config.flag
        columns = dict.fromkeys([*(names or ()), *self.config.late_columns])
        try:
            parts = self._parts(path_index, reading)
            for number, part in enumerate(parts):
                if isinstance(part, pa.Table):
                    yield part
                    continue
                keys = _keys(part)
                if names is None and number == 0:
                    columns = keys | columns
                elif any(key not in columns for key in keys):
                    after = range(path_index + 1, len(self.config.paths))
                    for rest in (parts, *(self._parts(index, reading) for index in after)):
                        for more in rest:
                            keys |= _keys(more)
                    raise LateColumns(*(key for key in keys if key not in columns))
                yield _table_of(part, columns, num_rows_before, reading)
                num_rows_before += len(part)
        except (UnicodeError, pa.ArrowInvalid):
            is_text = FORMATS[self.config.suffix].content != "binary"
            if is_text and (fault := not_utf8(path, flag)):
                raise fault from None
            with unusable(path, f"write it again{' as UTF-8' * is_text}, or give {flag} another file"):
                raise

    def _parts(self, path_index: int, reading: Reading) -> Iterator[pa.Table | Records]:
        note = functools.partial(reading.note, path_index)
        return FORMATS[self.config.suffix].read(self.config.paths[path_index], self.config.flag, note)


def _keys(records: Records) -> dict[str, None]:
    """All keys of the records, in order of appearance."""
    return dict.fromkeys(key for record in records for key in record)


def _table_of(records: Records, columns: Iterable[str], num_rows_before: int, reading: Reading) -> pa.Table:
    table = {}
    for name in columns:
        values = [record.get(name) for record in records]
        row = next((i for i, value in enumerate(values, 1) if isinstance(value, (list, dict))), 0)
        if row:
            reading.nested.setdefault(name, num_rows_before + row)
        table[name] = _string_array([_json_cell(value) for value in values])
    return pa.table(table)


def _string_array(values: list[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair, as "\ud83d" in a JSON text cut by its length
        return pa.array([v and v.encode("utf-8", "replace").decode() for v in values], pa.string())


def _json_cell(value: Any) -> str | None:
    if isinstance(value, str) or value is None:
        return value
    return None if value != value else json.dumps(value, ensure_ascii=False)  # NaN stands for a missing value
