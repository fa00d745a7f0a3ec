"""Which names matplotlib can draw with the fonts of this machine: the letters that no font has are boxes."""

import functools
import unicodedata
from collections.abc import Sequence

import matplotlib
from matplotlib import font_manager, ft2font

# From matplotlib 3.11 on, libraqm joins letters and orders them from right to left; before, no font can.
JOINS_LETTERS = hasattr(ft2font, "__libraqm_version__")


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names as they can be drawn, and the font families to draw them with.

    A name with letters that no installed font has becomes its number, `#3`, counted from 0 as in
    `id2label`; a text beside the picture says which is which.
    """
    families = [font_manager.FontProperties(fname=_default()).get_name()]
    shown = []
    for number, name in enumerate(names):
        needed = frozenset(map(ord, "".join(name.split())))
        found = None if _needs_joining(name) and not JOINS_LETTERS else _families_for(needed)
        shown.append(f"#{number}" if found is None else name)
        families += [family for family in found or () if family not in families]
    return shown, families


def _default() -> str:
    """The file of the font that is drawn with by default."""
    return font_manager.findfont(font_manager.FontProperties())


@functools.lru_cache(maxsize=4096)
def _families_for(needed: frozenset[int]) -> tuple[str, ...] | None:
    """The families that have the letters which the default font lacks; None if some are nowhere."""
    missing, found = needed - _letters(_default()), []
    for path, family in _installed() if missing else ():
        if have := missing & _letters(path):
            found.append(family)
            missing -= have
    return None if missing else tuple(found)


@functools.cache
def _installed() -> list[tuple[str, str]]:
    """File and family of the upright fonts of this machine; not matplotlib's own, which are for formulas."""
    own = matplotlib.get_data_path()
    fonts = [
        (font.fname, font.name)
        for font in font_manager.fontManager.ttflist
        if font.style == "normal" and font.weight in (400, "normal") and not font.fname.startswith(own)
    ]
    return sorted(fonts, key=lambda font: (font[1], font[0]))


@functools.cache
def _letters(path: str) -> frozenset[int]:
    """The code points of a font; none if it cannot be read."""
    try:
        return frozenset(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


def _needs_joining(name: str) -> bool:
    """Whether letters are written from right to left, or change with their neighbours."""
    composed = unicodedata.normalize("NFC", name)
    return any(
        unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.category(c)[0] == "M" for c in composed
    )
