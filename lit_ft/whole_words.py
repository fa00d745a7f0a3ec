"""Which tokens make a word, for masked LMs that guess whole words; asked of the vocabulary alone.

V vocabulary.
"""

import string
import unicodedata
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lit_ft.errors import UserError

# A word's first piece carries one of these: byte-level BPE's line break and tab; its blank, SentencePiece's.
LINE_STARTS = "\u010a\u0109"
WORD_STARTS = "\u0120\u2581" + LINE_STARTS

# Scripts without spaces between words, by the beginning of their characters' Unicode names. Their tokens are
# words of their own: whole sentences would be one word. Hangul has spaces.
CHINESE = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI ", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH KATAKANA")
THAI = ("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ", "JAVANESE ", "BALINESE ", "TAI ", "NEW TAI ")
# UTF-8's first bytes of three-byte characters that are all, or nearly all, of the scripts above: kana and
# Chinese. Byte-level BPE may cut a character after it.
CHINESE_BYTES = range(0xE3, 0xEA)


def word_joins(tokenizer: PreTrainedTokenizerBase) -> tuple[np.ndarray, np.ndarray]:
    """Which tokens belong to the word on their left, and which let one on their right join; both (V,) bool.

    WordPiece says it by a prefix ('##'). Byte-level BPE and SentencePiece mark a word's first piece instead;
    there punctuation, which carries no mark, is a word of its own.
    """
    vocabulary = tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    joins_left, joins_right = np.zeros(size, dtype=bool), np.ones(size, dtype=bool)
    backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    prefix = getattr(backend.model, "continuing_subword_prefix", None)
    if prefix:
        for token, i in vocabulary.items():
            own = token.removeprefix(prefix)
            joins_left[i] = token.startswith(prefix) and not _begins_unspaced(own)
            joins_right[i] = not _ends_chinese(own)
        return joins_left, joins_right
    marks = {mark for token in vocabulary for mark in token[:1] if mark in WORD_STARTS}
    if not marks:
        raise UserError(
            "expected a tokenizer that marks words ('##', '\u0120' or '\u2581') for whole-word masking, "
            f"found none in {type(tokenizer).__name__}; set --data.whole_words=false"
        )
    in_bytes = "\u2581" not in marks
    for token, i in vocabulary.items():
        own = _text_of_bytes(token) if in_bytes else token
        joins_left[i] = token[0] not in WORD_STARTS + string.punctuation and not _begins_unspaced(own)
        joins_right[i] = (  # a bare blank belongs to what follows
            token[-1] not in LINE_STARTS + string.punctuation and not _ends_chinese(own)
        )
    return joins_left, joins_right


def _begins_unspaced(token: str) -> bool:
    """Whether it begins with a character of a script without spaces, but for vowel signs and the like."""
    first = token[:1]
    return not first.isascii() and not _is_mark(first) and _name(first).startswith(CHINESE + THAI)


def _ends_chinese(token: str) -> bool:
    """Whether what follows is another word; in Thai it may be a sign of the last letter."""
    return not token[-1:].isascii() and _name(token[-1:]).startswith(CHINESE)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _name(character: str) -> str:
    return unicodedata.name(character, "")


BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


def _text_of_bytes(token: str) -> str:
    """A token of byte-level BPE as text; before the first bytes of a Chinese character stands a whole one."""
    if token.isascii() or not all(character in BYTES for character in token):
        return token
    raw = bytes(BYTES[character] for character in token)
    text = raw.decode("utf-8", "replace")  # U+FFFD for a character that is cut off, at either end
    begun = raw[0] in CHINESE_BYTES and text[0] == "\ufffd"
    return "\u4e00" + text if begun else text
