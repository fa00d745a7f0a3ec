"""Notes on how files were read: cached with their rows, printed at every read."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

from lit_ft.console import say, warn

if TYPE_CHECKING:
    from datasets import Dataset

Kind = Literal["recognised", "warning", "no header", "header again"]
Note = Callable[[Kind, str], None]


@dataclass
class Reading:
    """Notes on files, which they name by index.

    Attributes:
        nested: Column of a JSON file -> the first row in which it holds a list or an object.
        notes: Kind, file and text of each note.
    """

    nested: dict[str, int] = field(default_factory=dict)
    notes: list[tuple[Kind, int, str]] = field(default_factory=list)

    @classmethod
    def of(cls, table: "Dataset") -> "Reading":
        """The notes on a table of files; none for any other table."""
        ours = table.info.builder_name == "files"  # `datasets` names a builder after its module
        return cls(**json.loads(table.info.description)) if ours else cls()

    def as_json(self) -> str:
        """The value of a table's `info.description`."""
        return json.dumps(asdict(self))

    def note(self, path_index: int, kind: Kind, text: str) -> None:
        """Add a note on a file, unless it is there already."""
        if (kind, path_index, text) not in self.notes:
            self.notes.append((kind, path_index, text))

    def has(self, kind: Kind) -> bool:
        """Whether there is a note of this kind."""
        return any(note[0] == kind for note in self.notes)

    def tell(self, paths: Sequence[str], *, labelled: bool) -> None:
        """Print the notes, in one line for all files with the same ones.

        Args:
            paths: The files.
            labelled: Whether the labels are checked later; that check reports repeated headers.
        """
        recognised = [(i, text) for kind, i, text in self.notes if kind == "recognised"]
        for line in _lines(recognised, paths, "recognised "):
            say(line)
        left = {"recognised", "header again"} if labelled else {"recognised"}
        for line in _lines([(i, text) for kind, i, text in self.notes if kind not in left], paths):
            warn(line, always=True)  # no later report shows it


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
