"""What a masked LM puts in place of [MASK], and how that is shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from lit_ft.errors import UserError

if TYPE_CHECKING:
    from transformers import FillMaskPipeline, PreTrainedTokenizerBase

MASK = (
    "[MASK]"  # accepted for every model, also where its own mask token is another, such as RoBERTa's <mask>
)
EXAMPLE = 'python -m lit_ft fill-mask "This is a [MASK] movie!"'


class Candidate(TypedDict):
    """One token for one mask."""

    token: str
    id: int
    confidence: float


def with_own_mask(text: str, tokenizer: "PreTrainedTokenizerBase", most_tokens: int | None = None) -> str:
    """The text with the model's own mask token.

    Raises:
        UserError: It has no mask; or more than `most_tokens`, what the model takes.
    """
    own = text.replace(MASK, str(tokenizer.mask_token))
    if str(tokenizer.mask_token) not in own:
        raise UserError(
            f"expected {MASK} in every text, found none in {shorten(text)!r}; for example {EXAMPLE}"
        )
    if most_tokens is not None:
        found = len(tokenizer(own, verbose=False)["input_ids"])
        if found > most_tokens:
            raise UserError(
                f"expected at most {most_tokens} tokens, found {found} in {shorten(text)!r}; shorten the text"
            )
    return own


def shorten(text: str) -> str:
    """A text for an error message."""
    return text if len(text) <= 60 else text[:57] + "..."


def fill(filler: "FillMaskPipeline", text: str, top_k: int) -> list[list[Candidate]]:
    """The candidates for each mask of a text, best first."""
    from lit_ft.model_checks import max_positions

    tokenizer = filler.tokenizer
    assert tokenizer is not None
    own = with_own_mask(text, tokenizer, max_positions(filler.model.config, filler.model))
    answer: Any = filler(own, top_k=min(top_k, filler.model.config.vocab_size))
    # For one mask transformers leaves the outer list out.
    masks = [answer] if isinstance(answer[0], dict) else answer
    return [
        [Candidate(token=c["token_str"].strip(), id=c["token"], confidence=c["score"]) for c in candidates]
        for candidates in masks
    ]


def print_candidates(texts: Sequence[str], filled: Sequence[list[list[Candidate]]]) -> None:
    """The course's line for each candidate; a heading only where there is more than one text or mask."""
    for i, (text, masks) in enumerate(zip(texts, filled, strict=True)):
        if len(texts) > 1:
            print(("\n" if i else "") + text)
        for number, candidates in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"{MASK} {number} of {len(masks)}:")
            for candidate in candidates:
                print(f"Predicted token: {candidate['token']}, Confidence: {candidate['confidence']: .2f}")
