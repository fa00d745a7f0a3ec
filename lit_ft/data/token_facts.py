"""How well a tokenizer fits the texts: unknown tokens, lost letters, special tokens.

N texts, vocabulary of V.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lit_ft.data.text_columns import PAIR, both
from lit_ft.data.tokens import FIRST, Template, fast_backend
from lit_ft.errors import rows_in_words

WORTH_A_WORD = 0.03  # share of unknown tokens or lost letters worth a warning; emoji and typos stay below
# Share of letters in unknown tokens: WordPiece reads a run of over 100 letters without a space, as a sentence
# of Thai, as one unknown token, which is few tokens and many letters.
WORTH_IN_LETTERS = 0.1
SAMPLED_TEXTS = 200  # to measure lost letters in: a share of 3 % to about 1 %
SAMPLED_LETTERS = 2000  # of each sampled text


@dataclass(frozen=True)
class TokenFacts:
    """Counts in the ids of N texts, without the template's special tokens.

    Attributes:
        tokens: Tokens of all texts.
        unknown: How many of them are the unknown token; None if the tokenizer has none.
        special: Special token -> positions of the texts that contain it, ascending.
        without_token: Positions of the texts without any token.
        lost: Share of letters and digits that are in no token, in a sample of the texts.
        unknown_letters: Share of those that are in an unknown token, likewise.
    """

    tokens: int
    unknown: int | None
    special: dict[int, np.ndarray]
    without_token: np.ndarray
    lost: float
    unknown_letters: float

    @property
    def unknown_share(self) -> float:
        """Share of unknown tokens."""
        return (self.unknown or 0) / max(self.tokens, 1)

    @property
    def with_special(self) -> np.ndarray:
        """Positions of the texts that contain a special token, ascending."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.special.values()]))


def unknown_id(tokenizer: Any) -> int | None:
    """Id of the token for what the vocabulary lacks; None without one, as in GPT-2.

    GPT-2's files name <|endoftext|>, which ends its texts and never replaces letters.
    """
    token = tokenizer.unk_token or getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    others = {tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.cls_token}
    return None if not token or token in others else tokenizer.backend_tokenizer.token_to_id(token)


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the special tokens, except the unknown token, which is counted separately."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (added | set(tokenizer.all_special_ids)) - {unknown_id(tokenizer)}


def token_facts(
    encoded: Dataset, texts: Dataset, tokenizer: PreTrainedTokenizerBase, template: Template | None
) -> TokenFacts:
    """Count in the ids of tokenised texts.

    Args:
        encoded: `input_ids` of each text, memory-mapped.
        texts: The column `text` of the same rows, and perhaps `pair`.
        tokenizer: The tokenizer that made the ids.
        template: The special tokens around every text, None without any.
    """
    before, after = (len(template.before), len(template.after)) if template else (0, 0)
    between = len(template.between) if template else 0
    firsts = encoded.data.column(FIRST).to_numpy() if between else np.zeros(0, np.int64)
    ids = special_token_ids(tokenizer)
    is_special = np.zeros(max([len(tokenizer), *ids]) + 1, dtype=bool)  # (V,)
    is_special[list(ids)] = True
    unknown = unknown_id(tokenizer)
    num_tokens, num_unknown, first = 0, 0, 0
    found: list[tuple[np.ndarray, np.ndarray]] = []  # id and text of each special token
    empty: list[np.ndarray] = []
    for chunk in encoded.data.column("input_ids").chunks:
        offsets, flat = chunk.offsets.to_numpy(), chunk.values.to_numpy()
        hits = is_special[flat[offsets[0] : offsets[-1]]]
        starts, ends = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
        for k in range(before):
            hits[starts + k] = False
        for k in range(after):
            hits[ends - 1 - k] = False
        for k in range(between):
            hits[starts + before + firsts[first : first + len(chunk)] + k] = False
        position = np.flatnonzero(hits)
        place = np.searchsorted(ends, position, side="right")
        found.append((flat[offsets[0] + position], first + place))
        own = ends - starts - before - between - after
        empty.append(first + np.flatnonzero(own == 0))
        num_tokens += int(own.sum())
        num_unknown += 0 if unknown is None else int((flat[offsets[0] : offsets[-1]] == unknown).sum())
        first += len(chunk)
    which, where = (np.concatenate([np.empty(0, np.int64), *part]) for part in zip(*found, strict=True))
    if template is not None and unknown is not None:  # without [CLS] the template has [UNK]
        num_unknown -= first * template.around(()).count(unknown)
    sample = _read(texts.select(spread(np.arange(len(texts)))))
    return TokenFacts(
        tokens=num_tokens,
        unknown=None if unknown is None else num_unknown,
        special={int(i): np.unique(where[which == i]) for i in np.unique(which)},
        without_token=np.concatenate(empty),
        lost=lost_letters(sample, tokenizer),
        unknown_letters=0.0 if not num_unknown else unknown_letters(sample, tokenizer),
    )


def _read(texts: Dataset) -> list[str]:
    """What the model reads of each row: the text, with its second one in a line below."""
    return both(texts["text"], texts[PAIR]) if PAIR in texts.column_names else texts["text"][:]


def spread(places: np.ndarray) -> np.ndarray:
    """At most `SAMPLED_TEXTS` of these positions, evenly spread."""
    return (
        places[np.unique(np.linspace(0, len(places) - 1, SAMPLED_TEXTS).astype(int))]
        if len(places)
        else places
    )


def lost_letters(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of letters and digits that are in no token."""
    heads = [text[:SAMPLED_LETTERS] for text in texts]
    num_letters = num_lost = 0
    encoded = fast_backend(tokenizer).encode_batch(heads, add_special_tokens=False)
    for text, tokens in zip(heads, encoded, strict=True):
        is_lost = np.array([letter.isalnum() for letter in text], dtype=bool)
        num_letters += int(is_lost.sum())
        for start, end in tokens.offsets:
            is_lost[start:end] = False
        num_lost += int(is_lost.sum())
    return num_lost / max(num_letters, 1)


def unknown_letters(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of letters and digits that are in an unknown token."""
    heads, unknown = [text[:SAMPLED_LETTERS] for text in texts], unknown_id(tokenizer)
    num_letters = num_unknown = 0
    encoded = fast_backend(tokenizer).encode_batch(heads, add_special_tokens=False)
    for text, tokens in zip(heads, encoded, strict=True):
        num_letters += sum(map(str.isalnum, text))
        for i, (start, end) in zip(tokens.ids, tokens.offsets, strict=True):
            num_unknown += sum(map(str.isalnum, text[start:end])) if i == unknown else 0
    return num_unknown / max(num_letters, 1)


def lines_about(
    facts: TokenFacts,
    tokenizer: Any,
    texts: Dataset,
    source_rows: np.ndarray,
    where: str,
) -> list[str]:
    """What the model does not see of the texts or misreads, a line each, for warnings.

    Args:
        facts: The facts of these texts.
        tokenizer: The tokenizer that read them.
        texts: The column `text`, and perhaps `pair`.
        source_rows: 1-based row of each in the file or Hub split, (N,).
        where: The split's name in messages.
    """
    lines: list[str] = []
    share, letters = facts.unknown_share, facts.unknown_letters
    another = "set --model.pretrained to a model for texts of this language"
    if share >= WORTH_A_WORD or letters >= WORTH_IN_LETTERS:
        unknown = unknown_id(tokenizer)
        held = f", with {letters:.0%} of its letters," if letters >= max(WORTH_IN_LETTERS, 2 * share) else ""
        example = _first_of(unknown, tokenizer, texts, source_rows)
        lines.append(
            f"{share:.1%} of the tokens of {where}{held} are unknown to the model's tokenizer{example}: "
            f"it reads each as {tokenizer.convert_ids_to_tokens(unknown)}; {another}"
        )
    if facts.lost >= WORTH_A_WORD:
        lines.append(
            f"{facts.lost:.1%} of the letters and digits of {where} are in no token: the model's tokenizer "
            f"drops them; {another}"
        )
    if len(facts.special):
        token, places = next(iter(facts.special.items()))
        some, rows = facts.with_special, rows_in_words(source_rows[places])
        lines.append(
            f"{len(some):,} of {len(texts):,} texts of {where} hold special tokens of the tokenizer, such as "
            f"{tokenizer.convert_ids_to_tokens(token)!r} in {rows}: they are read as "
            "such, not as plain text, as in a pipeline"
        )
    if len(facts.without_token):
        places = facts.without_token
        example, rows = texts[int(places[0])]["text"][:20], rows_in_words(source_rows[places])
        lines.append(
            f"{len(places):,} of {len(texts):,} texts of {where} have no token, such as {example!r} in "
            f"{rows}: the model sees nothing of them"
        )
    return lines


def _first_of(unknown: int | None, tokenizer: Any, texts: Dataset, source_rows: np.ndarray) -> str:
    """An unknown word in the first texts, with its row."""
    head = [text[:SAMPLED_LETTERS] for text in _read(texts.select(range(min(len(texts), SAMPLED_TEXTS))))]
    for place, encoded in enumerate(fast_backend(tokenizer).encode_batch(head, add_special_tokens=False)):
        if unknown in encoded.ids:
            start, end = encoded.offsets[encoded.ids.index(unknown)]
            word = head[place][start : min(end, start + 20)]
            return f", such as {word!r} in row {source_rows[place]:,}"
    return ""
