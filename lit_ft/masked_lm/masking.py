"""Which tokens a masked LM has to predict: different in every epoch, but the same after a resume."""

import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from datasets import Dataset
from transformers import MODEL_FOR_MASKED_LM_MAPPING, PretrainedConfig, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lit_ft.console import say, warn
from lit_ft.data.batching import pad
from lit_ft.errors import UserError

IGNORED = -100  # label of a token that is not masked: torch's cross_entropy ignores it

# Of the chosen tokens 80 % become the mask, 10 % a random token, 10 % stay (Devlin et al. 2019, section 3.1).
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1

# In most languages a word has 1 to 3 tokens; texts with more than this on average have few word boundaries.
USUAL_TOKENS_A_WORD = 10
# Of a longer word pieces are masked, each for itself, as SpanBERT bounds its spans (Joshi et al. 2020,
# section 3.1). Letter by letter English words are this long; of Thai, read as bytes in one run, it is a word.
MOST_TOKENS_A_WORD = 16
SAMPLED_ROWS = 200

EVAL_SEED = 20_260_101  # the same masks for all runs of a corpus, so that their validation curves compare


class MaskingCollator:
    """Pads rows of token ids and chooses the tokens to predict.

    What is masked in a row depends on the seed, the epoch and the row's own ids, and on nothing else: not on
    its batch, the worker, the number of devices, or what ran before. So a resumed run draws the masks of an
    uninterrupted one. Of U units (tokens or words) `probability` * U are chosen, with the fraction rounded up
    or down at random. The share is exact on average and varies little from row to row. At 15 % a row of 7 or
    more units always has a masked one; shorter rows may have none.

    There are no `token_type_ids`: all models take their absence as zeros, and some refuse the key.

    Args:
        tokenizer: A fast tokenizer with a mask token; only its ids are kept, so that workers copy little.
        probability: The share of the ordinary tokens to mask, in (0, 1). 0.15 is BERT's.
        whole_words: Whether to choose words and mask all pieces of each, instead of single pieces.
        seed: The seed that fixes the masks, together with the epoch and the row.
        pad_to_multiple_of: The multiple to which T is rounded up; tensor cores prefer 8.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        probability: float = 0.15,
        whole_words: bool = False,
        seed: int = 0,
        pad_to_multiple_of: int = 8,
    ) -> None:
        if not 0 < probability < 1:
            raise UserError(
                f"expected a masking probability between 0 and 1, found {probability}; 0.15 is usual"
            )
        self.probability = probability
        self.whole_words = whole_words
        self.seed = seed
        self.pad_to_multiple_of = pad_to_multiple_of
        self.mask_id: int = tokenizer.mask_token_id  # type: ignore[assignment]
        self.pad_id: int = tokenizer.pad_token_id  # type: ignore[assignment]
        ids = np.array(sorted(tokenizer.get_vocab().values()), dtype=np.int64)
        self.is_special = np.zeros(ids[-1] + 1, dtype=bool)  # (V,)
        self.is_special[tokenizer.all_special_ids] = True
        self.ordinary_ids = ids[~self.is_special[ids]]
        self.joins = word_joins(tokenizer) if whole_words else None
        # In shared memory, so that workers that live for several epochs (persistent_workers) see it change.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Draw this epoch's masks from now on, in this process and in its workers."""
        self._epoch.fill_(epoch)

    def fixed(self) -> "MaskingCollator":
        """This collator with the masks of evaluation, which depend neither on the epoch nor on the seed."""
        twin = object.__new__(MaskingCollator)
        twin.__dict__.update(self.__dict__)
        twin.seed = EVAL_SEED
        twin._epoch = torch.zeros((), dtype=torch.int64)
        return twin

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Rows with `input_ids` (specials included, unpadded) -> a batch; all values (B, T) int64."""
        masked = [self.mask_row(np.asarray(row["input_ids"], dtype=np.int64)) for row in rows]
        seen, labels = zip(*masked, strict=True)
        input_ids, mask = pad(seen, self.pad_id, multiple=self.pad_to_multiple_of)
        labels, _ = pad(labels, IGNORED, multiple=self.pad_to_multiple_of)
        batch = {"input_ids": input_ids, "attention_mask": mask.astype(np.int64), "labels": labels}
        return {key: torch.from_numpy(value) for key, value in batch.items()}

    def mask_row(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One row's ids (N,) -> the ids that the model sees, and the labels, both (N,) int64."""
        content = crc32(ids.astype(np.int32).tobytes())
        rng = np.random.default_rng([content, self.seed % 2**63, int(self._epoch)])
        ordinary = np.flatnonzero(~self.is_special[ids])
        unit = self._units(ids, ordinary)  # (ordinary tokens,): number of each one's unit
        num_units = int(unit[-1]) + 1 if len(unit) else 0
        num_chosen = int(self.probability * num_units + rng.random())
        is_chosen = np.zeros(num_units, dtype=bool)
        is_chosen[rng.permutation(num_units)[:num_chosen]] = True
        position = ordinary[is_chosen[unit]]

        seen, labels = ids.copy(), np.full_like(ids, IGNORED)
        labels[position] = ids[position]
        draw = rng.random(len(position))
        replacement = self.ordinary_ids[rng.integers(len(self.ordinary_ids), size=len(position))]
        seen[position[draw < MASK_SHARE]] = self.mask_id
        is_random = (draw >= MASK_SHARE) & (draw < MASK_SHARE + RANDOM_SHARE)
        seen[position[is_random]] = replacement[is_random]
        return seen, labels

    def _units(self, ids: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
        """The number of each ordinary token's unit, in the row's order: a token, or all pieces of a word."""
        if self.joins is None or not len(ordinary):
            return np.arange(len(ordinary))
        begins = self.joins.begin_words(ids, ordinary)
        starts = np.flatnonzero(begins)
        lengths = np.diff(np.append(starts, len(begins)))
        for start, length in zip(starts, lengths, strict=True):
            if length > MOST_TOKENS_A_WORD:
                _cut(begins[start : start + length], self.joins.whole[ids[ordinary[start : start + length]]])
        return np.cumsum(begins) - 1


def _cut(begins: np.ndarray, whole: np.ndarray) -> None:
    """Let pieces of a long word begin, where a character does, and else after `MOST_TOKENS_A_WORD` tokens.

    Args:
        begins: Whether each of its tokens begins a unit, (N,) bool; changed in place.
        whole: Whether the token does not begin within a character, (N,) bool.
    """
    start = 0
    while len(begins) - start > MOST_TOKENS_A_WORD:
        places = start + 1 + np.flatnonzero(whole[start + 1 : start + 1 + MOST_TOKENS_A_WORD])
        start = int(places[-1]) if len(places) else start + MOST_TOKENS_A_WORD
        begins[start] = True


MOST_UNSPACED = 0.5  # of the tokens; of more it is said what counts as a word


def tell_of_words(rows: Dataset, collator: MaskingCollator) -> None:
    """Say what whole words are if the texts have few spaces: a token, or a piece of a very long word."""
    assert collator.joins is not None
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLED_ROWS)).astype(int))
    num_tokens, num_words, num_unspaced = 0, 0, 0
    for row in rows.select(places)["input_ids"]:
        ids = np.asarray(row, dtype=np.int64)
        ordinary = np.flatnonzero(~collator.is_special[ids])
        num_tokens += len(ordinary)
        num_words += int(collator.joins.begin_words(ids, ordinary).sum())
        num_unspaced += int(collator.joins.unspaced[ids[ordinary]].sum())
    if num_tokens > USUAL_TOKENS_A_WORD * num_words:
        warn(
            f"data.whole_words finds {num_words:,} words in {num_tokens:,} tokens, and masks pieces of "
            f"them of at most {MOST_TOKENS_A_WORD} tokens; --data.whole_words=false masks single tokens"
        )
    elif num_unspaced > MOST_UNSPACED * num_tokens:
        say(
            f"data.whole_words: {num_unspaced / num_tokens:.0%} of the tokens are of scripts without spaces "
            "between words, such as Chinese or Thai; each of these counts as a word"
        )


def check_masks(rows: Iterable[dict[str, Any]], collator: MaskingCollator) -> None:
    """Refuse evaluation rows without any masked token: their loss would be 0 / 0."""
    num_rows = 0
    for row in rows:
        num_rows += 1
        if (collator.mask_row(np.asarray(row["input_ids"], dtype=np.int64))[1] != IGNORED).any():
            return
    raise UserError(
        f"expected a masked token in the {num_rows:,} rows to evaluate on, found none; "
        "hold out more texts with --data.validation_share, or set --data.mask_probability higher"
    )


def check_masked_lm(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, name: str = "the model"
) -> None:
    """Refuse a model that cannot predict masked tokens, before its weights are loaded.

    Args:
        config: The model's config.
        tokenizer: The model's tokenizer.
        name: The model's name in the message.
    """
    check_architecture(config, name)
    if tokenizer.mask_token_id is None:
        found = (config.architectures or [type(config).__name__])[0]
        raise UserError(
            f"expected a tokenizer with a mask token, found none in {name} ({found}); "
            "choose a model that was trained with masks, for example bert-base-cased"
        )


def check_architecture(config: PretrainedConfig, name: str) -> None:
    """The same for the config alone, before the tokenizer is loaded."""
    found = (config.architectures or [type(config).__name__])[0]
    one_way = config.is_encoder_decoder or getattr(config, "is_decoder", False)
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or one_way:
        raise UserError(
            f"expected an encoder with a masked-LM head, such as BertForMaskedLM, found {found} "
            f"('{config.model_type}') in {name}; choose another one, for example bert-base-cased"
        )


# A word's first piece starts with one of these: line break, tab or space of byte-level BPE or SentencePiece.
LINE_STARTS = "\u010a\u0109"
WORD_STARTS = "\u0120\u2581" + LINE_STARTS

# Scripts without spaces between words, by the start of their characters' Unicode names. Each of their tokens
# counts as a word: otherwise a whole sentence would be one word. Hangul has spaces.
CHINESE = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "YI ", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH KATAKANA")
THAI = ("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ", "JAVANESE ", "BALINESE ", "TAI ", "NEW TAI ")
# UTF-8's first bytes of three-byte characters that are nearly all of the scripts above: kana and Chinese.
# Byte-level BPE may cut a character after its first byte. Of Thai and its like the second is needed, too.
CHINESE_BYTES = range(0xE3, 0xEA)
CONTINUATIONS = range(0x80, 0xC0)  # UTF-8's bytes within a character


@dataclass(frozen=True)
class WordJoins:
    """How the tokens of a vocabulary make words, (V,) bool each.

    Attributes:
        left: It joins the word on its left.
        right: A token on its right may join its word.
        unspaced: It begins with a letter of a script without spaces.
        whole: It does not begin within a character, as bytes of byte-level BPE may.
    """

    left: np.ndarray
    right: np.ndarray
    unspaced: np.ndarray
    whole: np.ndarray

    def begin_words(self, ids: np.ndarray, ordinary: np.ndarray) -> np.ndarray:
        """Which of a row's ordinary tokens begin a word: ids (N,), their places in it (M,) -> (M,) bool."""
        begins = np.ones(len(ordinary), dtype=bool)
        adjacent = np.diff(ordinary) == 1  # a special token in between ends a word
        begins[1:] = ~(adjacent & self.left[ids[ordinary[1:]]] & self.right[ids[ordinary[:-1]]])
        return begins


def word_joins(tokenizer: PreTrainedTokenizerBase) -> WordJoins:
    """Which tokens join the word on their left, and which let a token on their right join.

    WordPiece marks continuations by a prefix ('##'). Byte-level BPE and SentencePiece mark a word's first
    piece instead; there punctuation, which carries no mark, is a word of its own.
    """
    vocabulary = tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    joins = WordJoins(*np.zeros((4, size), dtype=bool))
    joins.right[:], joins.whole[:] = True, True
    backend: Any = tokenizer.backend_tokenizer  # type: ignore[attr-defined]
    prefix = getattr(backend.model, "continuing_subword_prefix", None)
    if prefix:
        for token, i in vocabulary.items():
            own = token.removeprefix(prefix)
            joins.unspaced[i] = _begins_unspaced(own)
            joins.left[i] = token.startswith(prefix) and not joins.unspaced[i]
            joins.right[i] = not _ends_chinese(own)
        return joins
    marks = {mark for token in vocabulary for mark in token[:1] if mark in WORD_STARTS}
    if not marks:
        raise UserError(
            "expected a tokenizer that marks words ('##', '\u0120' or '\u2581') for whole-word masking, "
            f"found none in {type(tokenizer).__name__}; set --data.whole_words=false"
        )
    in_bytes = "\u2581" not in marks
    for token, i in vocabulary.items():
        own = _text_of_bytes(token) if in_bytes else token
        joins.unspaced[i] = _begins_unspaced(own.lstrip(WORD_STARTS))
        joins.whole[i] = not (in_bytes and BYTES.get(token[0], 0) in CONTINUATIONS)
        joins.left[i] = token[0] not in WORD_STARTS + string.punctuation and not _begins_unspaced(own)
        joins.right[i] = (  # a bare space belongs to what follows
            token[-1] not in LINE_STARTS + string.punctuation and not _ends_chinese(own)
        )
    return joins


def _begins_unspaced(token: str) -> bool:
    """Whether it starts with a character of a script without spaces, other than a vowel sign or the like."""
    first = token[:1]
    return (
        bool(first)
        and not first.isascii()
        and not _is_mark(first)
        and _name(first).startswith(CHINESE + THAI)
    )


def _ends_chinese(token: str) -> bool:
    """Whether what follows is another word; in Thai it may be a vowel sign of the last letter."""
    return not token[-1:].isascii() and _name(token[-1:]).startswith(CHINESE)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _name(character: str) -> str:
    return unicodedata.name(character, "")


BYTES = {character: byte for byte, character in bytes_to_unicode().items()}


def _text_of_bytes(token: str) -> str:
    """A byte-level BPE token as text; a cut-off character of scripts without spaces is made whole."""
    if token.isascii() or not all(character in BYTES for character in token):
        return token
    raw = bytes(BYTES[character] for character in token)
    text = raw.decode("utf-8", "replace")  # U+FFFD for a character that is cut off, at either end
    if text[0] != "\ufffd":
        return text
    if raw[0] in CHINESE_BYTES:
        return "\u4e00" + text
    other = (raw[:2] + b"\x81").decode("utf-8", "replace")  # a letter of its block
    return other + text if other.isalpha() else text
