"""Leaf: how a name looks to a reader, whatever its letters are to a computer."""

import unicodedata
from collections.abc import Iterable

# Cyrillic and Greek letters that fonts draw as Latin ones: a keyboard was left switched over.
SAME_SHAPE = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеорсухѕіјΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",
    "ABESIJKMHOPCTYXaeopcyxsijABEZHIKMNOPTYXo",
)
DASHES_AND_QUOTES = str.maketrans("‐‑‒–—−‘’“”", "------''\"\"")
# Neither marks nor spaces to Unicode, and yet nothing to see; and how an emoji is to be drawn.
UNSEEN = {"\u034f", "\u115f", "\u1160", "\u2800", "\u3164", *map(chr, range(0xFE00, 0xFE10))}


def look(name: str) -> str:
    """Equal for names that are the same but for case, Unicode form, width, and what is not seen."""
    return as_seen(as_seen(name).casefold())  # case folding may leave another form


def as_seen(name: str) -> str:
    """As `look`, but with capital letters apart from small ones."""
    composed = unicodedata.normalize("NFKC", name).translate(DASHES_AND_QUOTES)
    return " ".join("".join(c for c in composed if not _is_unseen(c)).split())


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """The names that look like others, each group in the order of the names."""
    names = list(names)
    found: list[list[str]] = []
    # Shapes on their own: `нет` and `НЕТ` differ in case, and only the latter could be Latin letters.
    for key in (look, lambda name: as_seen(name).translate(SAME_SHAPE)):
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(key(name), []).append(name)
        found += [group for group in groups.values() if len(group) > 1 and group not in found]
    return found


def spelled(names: list[str]) -> list[str]:
    """Names in quotes, with escapes where a reader would see no difference between them."""
    visible = len({as_seen(name).translate(SAME_SHAPE) for name in names}) == len(names)
    return [repr(name) if visible else ascii(name) for name in names]


def _is_unseen(character: str) -> bool:
    kind = unicodedata.category(character)  # Cf: zero-width ones and marks of direction; Cc: control
    return character in UNSEEN or kind == "Cf" or (kind == "Cc" and not character.isspace())
