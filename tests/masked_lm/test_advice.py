"""Each rule of what to know about an `sft`: a case where it speaks and those where it is silent."""

import math

import pytest

from lit_ft.masked_lm.advice import still_falling, too_few_texts, untrained_head
from lit_ft.masked_lm.settings import SftSettings

VOCABULARY = 30_522  # ln: 10.33


def test_a_head_that_starts_untrained():
    said = untrained_head(10.8, VOCABULARY, "all-MiniLM-L6-v2")
    assert said is not None and said.startswith("The masked-LM head of all-MiniLM-L6-v2 started untrained: ")
    assert "was 10.80" in said and "30,522 tokens gives 10.33" in said
    assert untrained_head(9.4, VOCABULARY, "a") is not None  # a little above 0.9 ln V
    for silent in (None, 9.2, 2.5, 0.0):
        assert untrained_head(silent, VOCABULARY, "a") is None


def test_too_few_validation_texts():
    said = too_few_texts(12, 214, spread=2.5)
    half = 1.96 * 2.5 / math.sqrt(214)
    assert said is not None and "12 with 214 masked tokens" in said
    assert f"\u00b1{half:.2f} at best, the perplexity to a factor of {math.exp(half):.2f}" in said
    assert "--data.validation_share" in said
    assert too_few_texts(500, 15_000, spread=2.5) is None
    assert too_few_texts(12, 214, spread=0.5) is None  # so sure of each token that a few are enough
    assert too_few_texts(0, 0, spread=2.5) is not None


def points(*losses: float) -> list[dict[str, float]]:
    return [{"step": 25 * i, "val/loss": loss} for i, loss in enumerate(losses)]


def test_still_falling_at_the_end():
    said = still_falling(points(9.0, 5.0, 4.0, 3.5, 3.4), SftSettings(num_train_epochs=3))
    assert said is not None and "3.500 after step 75, 3.400 after the last step, 100" in said
    assert "--num_train_epochs 6 (it was 3)" in said
    said = still_falling(points(9.0, 5.0, 4.0, 3.5, 3.4), SftSettings(max_steps=100))
    assert said is not None and "--max_steps 200 (it was 100)" in said


@pytest.mark.parametrize(
    "losses",
    [
        (),
        (9.0,),
        (9.0, 5.0),
        (9.0, 5.0, 4.0, 3.5, 3.48),
        (9.0, 5.0, 3.3, 3.5, 3.4),
        (9.0, 5.0, 4.0, 3.5, 3.6),
    ],
    ids=["none", "before only", "the last only", "flat", "best earlier", "rising"],
)
def test_not_falling_any_more(losses):
    assert still_falling(points(*losses), SftSettings()) is None
