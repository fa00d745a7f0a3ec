"""The names of a row's text columns. Imports no library: the commands check them before they load any."""

import json
import re
import shlex
from collections.abc import Sequence

from lit_ft.errors import UserError, quoted


def listed_columns(text_column: str | Sequence[str]) -> list[str]:
    """The columns that `data.text_column` names."""
    return [text_column] if isinstance(text_column, str) else list(text_column)


def named(columns: Sequence[str]) -> str:
    """`column 'a'`, or `columns 'a', 'b' and 'c'`."""
    *others, last = [f"'{name}'" for name in columns]
    return f"columns {', '.join(others)} and {last}" if others else f"column {last}"


def as_value(columns: Sequence[str]) -> str:
    """The columns as the value of a flag in a shell; in quotes of YAML where it would read something else."""
    if len(columns) == 1:
        return shlex.quote(columns[0])
    plain = all(
        re.fullmatch(r"(?!(null|true|false|yes|no|on|off)$)[^\W\d]\w*", name, re.I) for name in columns
    )
    return shlex.quote(f"[{','.join(columns)}]" if plain else json.dumps(list(columns), ensure_ascii=False))


def check_names(text_column: str | Sequence[str], pair_column: str | None, label_column: str | None) -> None:
    """Refuse column names that contradict each other, before anything is read."""
    columns = listed_columns(text_column)
    if not columns:
        raise UserError("expected data.text_column to name a column, found []; set --data.text_column=NAME")
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise UserError(
            f"expected different columns in data.text_column, found {quoted(twice)} twice; set "
            f"--data.text_column={as_value(list(dict.fromkeys(columns)))}"
        )
    if pair_column in columns:
        raise UserError(
            f"expected another column in data.pair_column than in data.text_column, found '{pair_column}' in "
            "both; set --data.pair_column to the column of the second text"
        )
    several = [*columns, pair_column] if pair_column is not None else columns
    if len(several) > 1 and label_column in several:
        flag = "pair" if label_column == pair_column else "text"
        raise UserError(
            f"expected texts in data.{flag}_column, found '{label_column}', which is data.label_column: the "
            f"model would read the answer; set --data.{flag}_column without it"
        )
