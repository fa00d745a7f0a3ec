"""The tokens that a masked LM predicts for [MASK]: for `fill-mask`, and for probes during training."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict, cast

from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    pipeline,
)
from transformers.trainer_callback import ExportableState

from lit_ft.console import say
from lit_ft.errors import UserError, shorten
from lit_ft.masked_lm.tracking import TensorBoardWriter, kept_by
from lit_ft.models.checks import max_positions
from lit_ft.report.tables import cell, table

if TYPE_CHECKING:
    from transformers import FillMaskPipeline

MASK = "[MASK]"  # accepted for every model, even if its own mask token is another, such as RoBERTa's <mask>
EXAMPLE = 'python -m lit_ft fill-mask "This is a [MASK] movie!"'


class Candidate(TypedDict):
    """A token predicted for a mask."""

    token: str
    id: int
    confidence: float


def with_own_mask(text: str, tokenizer: PreTrainedTokenizerBase, most_tokens: int | None = None) -> str:
    """The text with the model's own mask token.

    Raises:
        UserError: It has no mask, or more than `most_tokens` tokens, the model's limit.
    """
    own = text.replace(MASK, str(tokenizer.mask_token))
    if str(tokenizer.mask_token) not in own:
        raise UserError(
            f"expected {MASK} in every text, found none in {shorten(text, 60)!r}; for example {EXAMPLE}"
        )
    if most_tokens is not None:
        found = len(tokenizer(own, verbose=False)["input_ids"])
        if found > most_tokens:
            raise UserError(
                f"expected at most {most_tokens} tokens, found {found} in {shorten(text, 60)!r}; "
                "shorten the text"
            )
    return own


def fill(filler: "FillMaskPipeline", text: str, top_k: int) -> list[list[Candidate]]:
    """The candidates for each mask of a text, best first."""
    tokenizer = filler.tokenizer
    assert tokenizer is not None
    own = with_own_mask(text, tokenizer, max_positions(filler.model.config, filler.model))
    answer: Any = filler(own, top_k=min(top_k, filler.model.config.vocab_size))
    # For a single mask transformers omits the outer list.
    masks = [answer] if isinstance(answer[0], dict) else answer
    return [
        [Candidate(token=c["token_str"].strip(), id=c["token"], confidence=c["score"]) for c in candidates]
        for candidates in masks
    ]


def print_candidates(texts: Sequence[str], filled: Sequence[list[list[Candidate]]]) -> None:
    """Print a line per candidate; headings only if there is more than one text or mask."""
    for i, (text, masks) in enumerate(zip(texts, filled, strict=True)):
        if len(texts) > 1:
            print(("\n" if i else "") + text)
        for number, candidates in enumerate(masks, start=1):
            if len(masks) > 1:
                print(f"{MASK} {number} of {len(masks)}:")
            for candidate in candidates:
                print(f"Predicted token: {candidate['token']}, Confidence: {candidate['confidence']: .2f}")


class Best(TypedDict):
    """The best candidate for a mask at some step."""

    token: str
    confidence: float


def filled_in(text: str, masks: Sequence[Sequence[Candidate]], columns: int) -> str:
    """A probe with the best word of each mask in its place; of a long one the part with the masks.

    Args:
        text: The probe.
        masks: The candidates of each mask, best first.
        columns: The most letters to return.
    """
    before, *after = text.split(MASK)
    best = [f"[{found[0]['token']} {found[0]['confidence']:.2f}]" for found in masks]
    if len(best) != len(after):  # the probe has the model's own mask token
        return shorten(f"{text} {' '.join(best)}", columns)
    whole = before + "".join(word + rest for word, rest in zip(best, after, strict=True))
    if len(whole) > columns and len(before) > columns // 3:
        whole = "..." + whole[len(before) - columns // 3 :]
    return shorten(whole, columns)


TOP_K = 5
MOST_TOLD = 5  # probes on the console at each evaluation; TensorBoard has all
PROBE_COLUMNS = 76


class Probes(TrainerCallback, ExportableState):
    """After every evaluation, tells each text's best words, and writes its candidates to TensorBoard.

    On the console they stand below the evaluation's figures; the tag is `probes/...`. It keeps the best one
    for each mask, for the report; those of step 0 also if nothing is evaluated then.

    Args:
        texts: Texts with one or more [MASK].
        tokenizer: The tokenizer of the model.
        board: The TensorBoard writer.

    Attributes:
        history: Step -> text -> the best candidate for each mask.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, board: TensorBoardWriter
    ) -> None:
        self.texts = texts
        self.tokenizer = tokenizer
        self.board = board
        self.history: dict[int, dict[str, list[Best]]] = {}

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        """Restore the checkpoint's history; without one, ask the model before its first step."""
        self.restore(state)
        if state.global_step == 0 and state.is_world_process_zero and not args.eval_on_start:
            assert model is not None
            self._keep(0, fill_probes(self.texts, model, self.tokenizer))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a table per text, on process 0 only."""
        if not state.is_world_process_zero:
            return
        assert model is not None
        filled = fill_probes(self.texts, model, self.tokenizer)
        self._keep(state.global_step, filled)
        for number, (text, masks) in enumerate(zip(self.texts, filled, strict=True), start=1):
            slug = re.sub(r"\W+", "_", text).strip("_")[:40]
            self.board.writer(state).add_text(
                f"probes/{number}_{slug}", table_of(text, masks), state.global_step
            )
            if number <= MOST_TOLD:
                say(f"    {filled_in(text, masks, PROBE_COLUMNS)}")

    def _keep(self, step: int, filled: Sequence[Sequence[Sequence[Candidate]]]) -> None:
        best = [[Best(token=m[0]["token"], confidence=m[0]["confidence"]) for m in masks] for masks in filled]
        self.history[step] = dict(zip(self.texts, best, strict=True))

    def state(self) -> dict[str, Any]:
        """The state for the checkpoint."""
        history = [{"step": step, "best": best} for step, best in self.history.items()]
        return {"args": {}, "attributes": {"history": history}}

    def restore(self, state: TrainerState) -> None:
        """Take over what the checkpoint of `state` has kept."""
        with kept_by(self, state) as own:
            self.history = {int(entry["step"]): dict(entry["best"]) for entry in own["history"]}

    def over_steps(self) -> dict[str, Any]:
        """The story of each mask, for `report.json`: a row each, with the best candidate at each step.

        A probe that a resumed run added has none (null) at the steps before.
        """
        steps = sorted(self.history)
        rows = []
        for text in self.texts:
            told = [self.history[step].get(text) for step in steps]
            for i in range(max(len(masks or ()) for masks in told)) if told else ():
                rows.append({"text": text, "mask": i + 1, "best": [masks and masks[i] for masks in told]})
        return {"steps": steps, "rows": rows}


def check_probes(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Refuse a text that has no mask, or is too long for the model."""
    limit = max_positions(config) if texts else None
    for text in texts:
        try:
            with_own_mask(text, tokenizer, limit)
        except UserError as error:
            raise UserError(f"probes: {error}") from None


def fill_probes(
    texts: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[list[list[Candidate]]]:
    """The candidates for each mask of each text, best first; the model is unchanged afterwards."""
    with _at_rest(model):
        filler: Any = pipeline(
            "fill-mask",
            model=model,
            tokenizer=cast(Any, tokenizer),
            device=model.device,
            trust_remote_code=False,
        )
        return [fill(filler, text, TOP_K) for text in texts]


@contextmanager
def _at_rest(model: PreTrainedModel) -> Iterator[None]:
    """Run the model without dropout, in float32, as `fill-mask` will."""
    mode = model.training
    # accelerate 1.15 (accelerator.py, prepare_model) wraps `forward` for bfloat16, as an attribute.
    wrapped = model.__dict__.pop("forward", None)
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
        if wrapped is not None:
            model.forward = wrapped


def table_of(text: str, masks: Sequence[Sequence[Candidate]]) -> str:
    """The candidates as a Markdown table, with a column per mask."""
    heads = ["[MASK]"] if len(masks) == 1 else [f"[MASK] {i}" for i in range(1, len(masks) + 1)]
    rows = [[f"{c['token']} ({c['confidence']:.3f})" for c in row] for row in zip(*masks, strict=True)]
    return f"{cell(text)}\n\n{table(heads, rows)}"
