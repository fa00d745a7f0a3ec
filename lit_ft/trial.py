"""A forward pass over two texts before anything is written: what a model cannot do shows in one line.

It also asks the model on which side it wants padding: that on which a text's answer is the one that it has
alone, as in a `pipeline`. XLNet reads the last position; BERT, whose positions are counted from the left,
the first. Where neither side will do (ConvBERT's convolutions and FNet see the padding), texts of equal
length go through the model together, without any.

B rows, T tokens after padding, C classes.
"""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_ft import batch_settings
from lit_ft.console import say, warn
from lit_ft.encoding import EncodedRows, template_of
from lit_ft.errors import UserError, first_line
from lit_ft.memory import is_out_of_memory
from lit_ft.model_inputs import SEES_PADDING, keep
from lit_ft.token_facts import special_token_ids

Batch = dict[str, torch.Tensor]
# Between a text alone and beside others: rounding is far below, another side of the padding far above.
TOLERANCE = 1e-4
PADDED = 8  # tokens of padding to try a text with
OWN_TOKENS = 4  # of a text that is made up to try a special token


def try_classifier(net: PreTrainedModel, datamodule: Any, name: str) -> None:
    """Classify the longest and the shortest text, and decide how the tokenizer pads.

    Args:
        net: The classifier, as it is about to be trained.
        datamodule: With the splits of a fit.
        name: The model in messages.

    Raises:
        UserError: The model cannot do it, or gives no number.
    """
    tokenizer, settings = datamodule.tokenizer, datamodule.hparams
    long, short = _extremes([split.rows for split in datamodule.splits.values()])
    side = tokenizer.padding_side
    other = "right" if side == "left" else "left"
    with at_rest(net):
        for tried in (side, other):
            tokenizer.padding_side = tried
            collate = batch_settings.padding_collator(settings, tokenizer)
            with one_line(name, [long, short]):
                logits = net(**collate([long, short])).logits
            _check_logits(logits, net.config.num_labels, name, [long, short])
            if _is_as_alone(net, tokenizer, settings, short, logits[1], name):
                break
        else:
            tokenizer.padding_side = side
            setattr(net.config, SEES_PADDING, True)
    if getattr(net.config, SEES_PADDING, False):
        warn(
            f"padding changes what {name} says of a text: texts of equal length go through it together, "
            "without padding, which takes longer"
        )
    elif tokenizer.padding_side != side:
        keep(tokenizer, "padding_side", other)  # in model/, too: a pipeline over batches pads by it
        datamodule.set_tokenizer(tokenizer)
        say(f"padding: on the {other}, where {name} says of a text what it says of it alone; its tokenizer has {side}")


def _extremes(rows: list[EncodedRows]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The longest and the shortest row of some splits."""
    longest = max(rows, key=lambda some: int(some.lengths.max()))
    shortest = min(rows, key=lambda some: int(some.lengths.min()))
    found = longest[int(longest.lengths.argmax())], shortest[int(shortest.lengths.argmin())]
    return {"input_ids": found[0]["input_ids"]}, {"input_ids": found[1]["input_ids"]}


def _is_as_alone(
    net: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Any,
    row: dict[str, Any],
    beside: torch.Tensor,
    name: str,
) -> bool:
    """Whether a text's logits are those that it has without padding.

    Args:
        net: The classifier.
        tokenizer: That pads on the side in question.
        settings: The data module's.
        row: A short text.
        beside: Its logits in a batch, (C,).
        name: The model in messages.
    """
    if len(row["input_ids"]) + PADDED > settings["max_tokens"]:  # all texts are long: make a shorter one
        template = template_of(tokenizer)
        own = row["input_ids"][len(template.before) :][:OWN_TOKENS]
        row, beside = {"input_ids": np.array([*template.before, *own, *template.after])}, torch.empty(0)
    length = len(row["input_ids"])
    unpadded = {**settings, "padding": "longest", "pad_multiple": 1}
    padded = {**unpadded, "pad_multiple": min(length + PADDED, settings["max_tokens"])}
    with one_line(name, [row]):
        alone = net(**batch_settings.padding_collator(unpadded, tokenizer)([row])).logits[0]
        wider = net(**batch_settings.padding_collator(padded, tokenizer)([row])).logits[0]
    found = [wider, beside] if len(beside) else [wider]
    return all(torch.allclose(alone, other, rtol=TOLERANCE, atol=TOLERANCE) for other in found)


def refuse_special_tokens(net: PreTrainedModel, datamodule: Any, name: str) -> None:
    """Refuse texts with a special token that the model fails on, such as BART's </s>; others it may read.

    Args:
        net: The classifier.
        datamodule: With the splits of the command.
        name: The model in messages.

    Raises:
        UserError: Names the token and the rows.
    """
    tokenizer = datamodule.tokenizer
    for split in datamodule.splits.values():
        for token, rows in split.special.items():
            if error := _failure(net, datamodule, token):
                shown = tokenizer.convert_ids_to_tokens(token)
                some = ", ".join(f"{row:,}" for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
                raise UserError(
                    f"{name} cannot read {shown!r} within a text ({error}), found in {len(rows):,} texts, row "
                    f"{some}; take it out of the texts"
                )


def _failure(net: PreTrainedModel, datamodule: Any, token: int) -> str | None:
    """What goes wrong in a batch where one of two short texts holds this special token."""
    tokenizer = datamodule.tokenizer
    template, special = template_of(tokenizer), special_token_ids(tokenizer)
    word = next(i for i in sorted(tokenizer.get_vocab().values()) if i not in special)
    texts = [word, token, word], [word] * 2
    rows = [{"input_ids": np.array([*template.before, *text, *template.after])} for text in texts]
    collate = batch_settings.padding_collator(datamodule.hparams, tokenizer)
    with at_rest(net):
        try:
            net(**collate(rows))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return first_line(error)
    return None


@contextlib.contextmanager
def at_rest(net: PreTrainedModel) -> Iterator[None]:
    """The model in eval mode, without gradients; modes and random states are afterwards as before."""
    modes = [(module, module.training) for module in net.modules()]
    # BigBird (transformers 5.23, modeling_big_bird.py) seeds numpy's global generator.
    states = random.getstate(), np.random.get_state()
    net.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, mode in modes:
            module.training = mode


@contextlib.contextmanager
def one_line(name: str, rows: list[dict[str, Any]]) -> Iterator[None]:
    """Turns whatever a model raises over texts into one `UserError`."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        lengths = " and ".join(str(len(row["input_ids"])) for row in rows)
        raise UserError(
            f"{name} fails on texts of {lengths} tokens ({reason}); set --model.pretrained to another model, or "
            "mend its config.json or tokenizer"
        ) from error


def _check_logits(logits: torch.Tensor, num_labels: int, name: str, rows: list[dict[str, Any]]) -> None:
    expected = (len(rows), num_labels)
    if tuple(logits.shape) != expected:
        raise UserError(
            f"expected logits of shape {expected} of {name}, found {tuple(logits.shape)}; set "
            "--model.pretrained to another model"
        )
    for row, finite in zip(rows, logits.isfinite().all(-1).tolist(), strict=True):
        if not finite:
            raise UserError(
                f"{name} gives NaN or infinite logits for a text of {len(row['input_ids'])} tokens: its weights "
                "are damaged; load them again, or set --model.pretrained to another model"
            )
