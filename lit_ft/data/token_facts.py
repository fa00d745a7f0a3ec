"""What a tokenizer makes of texts that were not written for it: unknown tokens, lost letters, special tokens.

N texts, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lit_ft.console import warn
from lit_ft.data.tokens import Template, fast_backend
from lit_ft.errors import rows_in_words

WORTH_A_WORD = 0.03  # share of unknown tokens or lost letters; emoji and typing errors stay below
SAMPLED_TEXTS = 200  # in which lost letters are looked for: a share of 3 % of them is found to about 1 %
SAMPLED_LETTERS = 2000  # of each


@dataclass(frozen=True)
class TokenFacts:
    """What `token_facts` counts in the ids of N texts, the template's own left out.

    Attributes:
        tokens: Of all texts.
        unknown: How many of them are the unknown token; None where the tokenizer has none.
        special: Of each special token that stands in a text, the places of those texts, ascending.
        without_token: Places of texts of which no token is left.
        lost: Share of the letters and digits, in a sample of the texts, that are in no token.
    """

    tokens: int
    unknown: int | None
    special: dict[int, np.ndarray]
    without_token: np.ndarray
    lost: float

    @property
    def unknown_share(self) -> float:
        """Of all tokens."""
        return (self.unknown or 0) / max(self.tokens, 1)

    @property
    def with_special(self) -> np.ndarray:
        """Places of the texts that hold a special token, ascending."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.special.values()]))


def unknown_id(tokenizer: Any) -> int | None:
    """Id of the token that stands for what the vocabulary lacks; None without one, as in GPT-2.

    GPT-2's files name <|endoftext|> for it, which ends its texts and is never put in place of letters.
    """
    token = tokenizer.unk_token or getattr(tokenizer.backend_tokenizer.model, "unk_token", None)
    others = {tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token, tokenizer.cls_token}
    return None if not token or token in others else tokenizer.backend_tokenizer.token_to_id(token)


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the tokens that are no words; of the unknown token there is another count."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return (added | set(tokenizer.all_special_ids)) - {unknown_id(tokenizer)}


def token_facts(
    encoded: Dataset, texts: Dataset, tokenizer: PreTrainedTokenizerBase, template: Template | None
) -> TokenFacts:
    """Count in ids that are there already.

    Args:
        encoded: `input_ids` of each text, memory-mapped.
        texts: The column `text` that they were made of.
        tokenizer: That made them.
        template: What every row has around its text, None for nothing.
    """
    before, after = (len(template.before), len(template.after)) if template else (0, 0)
    ids = special_token_ids(tokenizer)
    is_special = np.zeros(max([len(tokenizer), *ids]) + 1, dtype=bool)  # (V,)
    is_special[list(ids)] = True
    unknown = unknown_id(tokenizer)
    num_tokens, num_unknown, first = 0, 0, 0
    found: list[tuple[np.ndarray, np.ndarray]] = []  # id and place of each special token in a text
    empty: list[np.ndarray] = []
    for chunk in encoded.data.column("input_ids").chunks:
        offsets, flat = chunk.offsets.to_numpy(), chunk.values.to_numpy()
        hits = is_special[flat[offsets[0] : offsets[-1]]]
        starts, ends = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
        for k in range(before):
            hits[starts + k] = False
        for k in range(after):
            hits[ends - 1 - k] = False
        position = np.flatnonzero(hits)
        place = np.searchsorted(ends, position, side="right")
        found.append((flat[offsets[0] + position], first + place))
        own = ends - starts - before - after
        empty.append(first + np.flatnonzero(own == 0))
        num_tokens += int(own.sum())
        num_unknown += 0 if unknown is None else int((flat[offsets[0] : offsets[-1]] == unknown).sum())
        first += len(chunk)
    which, where = (np.concatenate([np.empty(0, np.int64), *part]) for part in zip(*found, strict=True))
    if template is not None and unknown is not None:  # where [CLS] is missing, the template has [UNK]
        num_unknown -= first * [*template.before, *template.after].count(unknown)
    return TokenFacts(
        tokens=num_tokens,
        unknown=None if unknown is None else num_unknown,
        special={int(i): np.unique(where[which == i]) for i in np.unique(which)},
        without_token=np.concatenate(empty),
        lost=lost_letters(texts.select(spread(np.arange(len(texts))))["text"][:], tokenizer),
    )


def spread(places: np.ndarray) -> np.ndarray:
    """At most `SAMPLED_TEXTS` of these places, evenly spread."""
    return (
        places[np.unique(np.linspace(0, len(places) - 1, SAMPLED_TEXTS).astype(int))]
        if len(places)
        else places
    )


def lost_letters(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> float:
    """Share of the letters and digits that the tokenizer leaves out of all tokens."""
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


def warn_of_tokens(
    facts: TokenFacts,
    tokenizer: PreTrainedTokenizerBase,
    texts: Dataset,
    source_rows: np.ndarray,
    where: str,
) -> None:
    """Say in a line each what the model does not see of the texts, or reads as something else.

    Args:
        facts: Of these texts.
        tokenizer: That read them.
        texts: The column `text`.
        source_rows: 1-based row of each in the file or Hub split, (N,).
        where: The split's name in messages.
    """
    for line in lines_about(facts, tokenizer, texts, source_rows, where):
        warn(line)


def lines_about(
    facts: TokenFacts, tokenizer: Any, texts: Dataset, source_rows: np.ndarray, where: str
) -> list[str]:
    """The lines of `warn_of_tokens`."""
    lines = []
    share, another = facts.unknown_share, "set --model.pretrained to a model for texts of this language"
    if share >= WORTH_A_WORD:
        unknown = unknown_id(tokenizer)
        example = _first_of(unknown, tokenizer, texts, source_rows)
        lines.append(
            f"{share:.1%} of the tokens of {where} are unknown to the model's tokenizer{example}: "
            f"it reads each as {tokenizer.convert_ids_to_tokens(unknown)}; {another}"
        )
    if facts.lost >= WORTH_A_WORD:
        lines.append(
            f"{facts.lost:.1%} of the letters and digits of {where} are in no token: the model's tokenizer "
            f"leaves them out; {another}"
        )
    if len(facts.special):
        token, places = next(iter(facts.special.items()))
        some = facts.with_special
        lines.append(
            f"{len(some):,} of {len(texts):,} texts of {where} hold special tokens of the tokenizer, such as "
            f"{tokenizer.convert_ids_to_tokens(token)!r} in {rows_in_words(source_rows[places])}: they are "
            "read as such, not as letters, as in a pipeline"
        )
    if len(facts.without_token):
        example = texts[int(facts.without_token[0])]["text"][:20]
        lines.append(
            f"{len(facts.without_token):,} of {len(texts):,} texts of {where} have no token, such as "
            f"{example!r} in {rows_in_words(source_rows[facts.without_token])}: the model sees nothing "
            "of them"
        )
    return lines


def _first_of(unknown: int | None, tokenizer: Any, texts: Dataset, source_rows: np.ndarray) -> str:
    """An unknown word with its row, of the first texts."""
    head = [text[:SAMPLED_LETTERS] for text in texts.select(range(min(len(texts), SAMPLED_TEXTS)))["text"]]
    for place, encoded in enumerate(fast_backend(tokenizer).encode_batch(head, add_special_tokens=False)):
        if unknown in encoded.ids:
            start, end = encoded.offsets[encoded.ids.index(unknown)]
            word = head[place][start : min(end, start + 20)]
            return f", such as {word!r} in row {source_rows[place]:,}"
    return ""
