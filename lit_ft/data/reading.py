"""Leaf: what there is to say of how files were read; cached with their rows, and said each time."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import datasets

from lit_ft.console import say, warn

Kind = Literal["recognised", "warning", "no header", "header again"]
Note = Callable[[Kind, str], None]


@dataclass
class Reading:
    """What was found in files, by their index.

    Attributes:
        nested: The first row where a column of a JSON file holds a list or an object.
        notes: What kind of note, the file, and the note.
    """

    nested: dict[str, int] = field(default_factory=dict)
    notes: list[tuple[Kind, int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, table: datasets.Dataset) -> "Reading":
        """That of a table of files, an empty one for others."""
        ours = table.info.builder_name == "files"  # `datasets` names a builder after its module
        return cls(**json.loads(table.info.description)) if ours else cls()

    def as_json(self) -> str:
        """For a table's `info.description`."""
        return json.dumps(asdict(self))

    def note(self, path_index: int, kind: Kind, text: str) -> None:
        """Keep a note of a file, once."""
        if (kind, path_index, text) not in self.notes:
            self.notes.append((kind, path_index, text))

    def has(self, kind: Kind) -> bool:
        """Whether there is a note of this kind."""
        return any(note[0] == kind for note in self.notes)

    def tell(self, paths: Sequence[str], *, labelled: bool) -> None:
        """Say it, in one line for files of which the same is to be said.

        Args:
            paths: The files.
            labelled: Whether the labels are looked at, too, where a header among the rows is seen.
        """
        recognised = [(i, text) for kind, i, text in self.notes if kind == "recognised"]
        for line in _lines(recognised, paths, "recognised "):
            say(line)
        left = {"recognised", "header again"} if labelled else {"recognised"}
        for line in _lines([(i, text) for kind, i, text in self.notes if kind not in left], paths):
            warn(line, always=True)  # no report of the data shows it


def _lines(notes: list[tuple[int, str]], paths: Sequence[str], start: str = "") -> list[str]:
    by_file: dict[int, list[str]] = {}
    for path_index, text in notes:
        by_file.setdefault(path_index, []).append(text)
    alike: dict[str, list[str]] = {}
    for path_index, texts in by_file.items():
        alike.setdefault("; ".join(texts), []).append(paths[path_index])
    return [
        f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: {start}{text}"
        for text, files in alike.items()
    ]
