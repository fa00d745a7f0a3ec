"""Which words a masked LM learned: the loss of each token of the vocabulary, evaluation by evaluation.

B rows, T tokens after padding, V vocabulary.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import ExportableState

from lit_ft.errors import UserError
from lit_ft.masked_lm.masking import IGNORED, word_joins
from lit_ft.masked_lm.tracking import kept_by

LEAST_MASKED = 5  # times in the validation texts; a word that is masked once or twice gains by chance
MOST_WORDS = 30
MEASURE = (
    "The mean loss of each word over the places where the validation texts mask it, which are the same at "
    "every evaluation. It is shown as a probability, exp(-loss), before and after, and sorted by the fall of "
    f"the loss. Words that are masked fewer than {LEAST_MASKED} times are left out, and so are pieces."
)


@dataclass(frozen=True)
class TokenLosses:
    """One evaluation.

    Attributes:
        step: Optimizer steps taken.
        masked: Number of masked tokens.
        spread: Standard deviation of their losses.
        ids: The tokens that are masked at least `LEAST_MASKED` times, ascending.
        counts: How often each is masked.
        losses: The mean loss of each.
    """

    step: int
    masked: int
    spread: float
    ids: list[int]
    counts: list[int]
    losses: list[float]


class WordLosses(TrainerCallback, ExportableState):
    """Adds up the loss of each token over an evaluation; keeps the first, the best and the newest one.

    The masks of evaluations are one fixed draw, so that the same places compare. The state is saved in
    `trainer_state.json`: a resumed run still has its first evaluation.

    Args:
        vocabulary: V.
    """

    def __init__(self, vocabulary: int) -> None:
        self.evaluations: list[TokenLosses] = []
        self._vocabulary = vocabulary
        self.begin()

    def begin(self) -> None:
        """Start an evaluation."""
        self._counts = np.zeros(self._vocabulary, dtype=np.int64)  # (V,)
        self._sums = np.zeros(self._vocabulary)  # (V,) float64
        self._squares = 0.0

    def add(self, labels: Tensor, losses: Tensor) -> None:
        """Add a batch, on the CPU: labels (`IGNORED` where nothing is masked) and losses, (B, T) each."""
        places = labels != IGNORED
        ids, own = labels[places].long().numpy(), losses[places].double().numpy()
        np.add.at(self._counts, ids, 1)
        np.add.at(self._sums, ids, own)
        self._squares += float((own**2).sum())

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the evaluation."""
        masked = int(self._counts.sum())
        mean = self._sums.sum() / max(masked, 1)
        ids = np.flatnonzero(self._counts >= LEAST_MASKED)
        counts = self._counts[ids]
        closed = TokenLosses(
            step=state.global_step,
            masked=masked,
            spread=float(np.sqrt(max(self._squares / max(masked, 1) - mean**2, 0.0))),
            ids=ids.tolist(),
            counts=counts.tolist(),
            losses=(self._sums[ids] / counts).tolist(),
        )
        earlier = [e for e in self.evaluations if e.step < closed.step]
        kept = {state.best_global_step, *(e.step for e in earlier[:1])}
        self.evaluations = [*(e for e in earlier if e.step in kept), closed]

    def state(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        return {"args": {}, "attributes": {"evaluations": [asdict(e) for e in self.evaluations]}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore the checkpoint's evaluations; none without one."""
        self.restore(state)

    def restore(self, state: TrainerState) -> None:
        """Take over what the checkpoint of `state` has kept."""
        with kept_by(self, state) as own:
            self.evaluations = [TokenLosses(**entry) for entry in own["evaluations"]]


def words_gained(
    evaluations: list[TokenLosses], step: int, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """The words whose loss fell most from the first evaluation to that of the exported weights.

    Args:
        evaluations: Of a `WordLosses`.
        step: Of the exported weights.
        tokenizer: The tokenizer of the model.

    Returns:
        `measure` in words, the steps `first` and `last`, and `words`: at most `MOST_WORDS`, each with how
        often it is `masked`, and its probability `before` and `after`. {} without two evaluations.
    """
    first, last = evaluations[:1], [e for e in evaluations if e.step == step]
    if not first or not last or first[0].step == step:
        return {}
    before = dict(zip(first[0].ids, first[0].losses, strict=True))
    found = [
        (before[i] - loss, i, count, loss)
        for i, count, loss in zip(last[-1].ids, last[-1].counts, last[-1].losses, strict=True)
        if i in before and loss < before[i]
    ]
    joins = _continued(tokenizer)
    words: list[dict[str, Any]] = []
    for _, i, count, loss in sorted(found, key=lambda entry: (-entry[0], entry[1])):
        text = str(tokenizer.decode([i])).strip()
        if text.isalpha() and not joins[i] and len(words) < MOST_WORDS:
            shares = {"before": float(np.exp(-before[i])), "after": float(np.exp(-loss))}
            words.append({"word": text, "masked": count, **shares})
    return {"measure": MEASURE, "first": first[0].step, "last": step, "words": words}


def _continued(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Which tokens continue a word, (V,) bool; none if the tokenizer marks no words."""
    try:
        return word_joins(tokenizer).left
    except UserError:
        return np.zeros(max(tokenizer.get_vocab().values()) + 1, dtype=bool)
