"""Probe sentences: what the model puts in place of [MASK] while it learns, as text in TensorBoard."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

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

from lit_ft.candidates import Candidate, fill, with_own_mask
from lit_ft.errors import UserError
from lit_ft.markdown import cell, table
from lit_ft.mlm_callbacks import TensorBoardWriter
from lit_ft.model_checks import max_positions

TOP_K = 5


class Probes(TrainerCallback):
    """After every evaluation, writes the candidates for each text as a table, tag `probes/...`.

    Args:
        texts: Texts with one or more [MASK].
        tokenizer: The model's.
        board: Where to write.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, board: TensorBoardWriter
    ) -> None:
        self.texts = texts
        self.tokenizer = tokenizer
        self.board = board

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a table a text, on the first process only."""
        if not state.is_world_process_zero:
            return
        assert model is not None
        for number, (text, masks) in enumerate(
            zip(self.texts, fill_probes(self.texts, model, self.tokenizer), strict=True), start=1
        ):
            slug = re.sub(r"\W+", "_", text).strip("_")[:40]
            self.board.writer(state).add_text(
                f"probes/{number}_{slug}", table_of(text, masks), state.global_step
            )


def check_probes(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> None:
    """Refuse a text without a mask, or one that is too long for the model."""
    limit = max_positions(config) if texts else None
    for text in texts:
        try:
            with_own_mask(text, tokenizer, limit)
        except UserError as error:
            raise UserError(f"probes: {error}") from None


def fill_probes(
    texts: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[list[list[Candidate]]]:
    """For each text, for each of its masks, the candidates, best first; the model is left as it was."""
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
    """The model without dropout, in float32: what `fill-mask` will show of it."""
    mode = model.training
    # accelerate 1.15 (accelerator.py, prepare_model) lays its bfloat16 over `forward` as an attribute.
    wrapped = model.__dict__.pop("forward", None)
    model.eval()
    try:
        yield
    finally:
        model.train(mode)
        if wrapped is not None:
            model.forward = wrapped


def table_of(text: str, masks: Sequence[Sequence[Candidate]]) -> str:
    """The candidates as a Markdown table, a column a mask."""
    heads = ["[MASK]"] if len(masks) == 1 else [f"[MASK] {i}" for i in range(1, len(masks) + 1)]
    rows = [[f"{c['token']} ({c['confidence']:.3f})" for c in row] for row in zip(*masks, strict=True)]
    return f"{cell(text)}\n\n{table(heads, rows)}"
