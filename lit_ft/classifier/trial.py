"""A trial forward pass of a classifier over two texts, before the run folder is made.

It finds the padding side that does not change a text's output, as in a `pipeline`: XLNet reads the last
position; BERT, whose positions are counted from the left, the first. If both sides change it (ConvBERT's
convolutions and FNet see padding), texts of equal length go through the model together, without padding.

C classes.
"""

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from lit_ft.classifier import batch_settings
from lit_ft.classifier.nonfinite import SHARDED
from lit_ft.console import say, warn
from lit_ft.data.token_facts import special_token_ids
from lit_ft.data.tokens import FIRST, EncodedRows, Template, template_of
from lit_ft.errors import UserError, first_line
from lit_ft.models.inputs import SEES_PADDING, keep
from lit_ft.reliability.memory import is_out_of_memory
from lit_ft.reliability.trial import at_rest, check_finite, in_training_mode, is_close, one_line

PADDING = 8  # tokens of padding in the trial
SHORT = 4  # own tokens of a made-up text

Row = dict[str, Any]


def try_classifier(net: PreTrainedModel, datamodule: Any, name: str) -> None:
    """Classify the longest and the shortest text, and decide how texts are padded.

    Args:
        net: The classifier, ready for training.
        datamodule: A data module with the splits of a fit.
        name: The model, in messages.

    Raises:
        UserError: The model fails on them, or its logits are not finite.
    """
    tokenizer, settings = datamodule.tokenizer, dict(datamodule.hparams)
    template = template_of(tokenizer, settings["pair_column"] is not None)
    most = settings["max_tokens"]
    long, short = _extremes([split.rows for split in datamodule.splits.values()])
    probe = short
    if len(short["input_ids"]) + PADDING > most:  # all texts are long: make one up
        own = _own_ids(short, template)[: min(SHORT, -(-(most - template.size) // 2))]
        probe = _row(template, own.tolist())
    padding = min(PADDING, most - len(probe["input_ids"]))
    side = tokenizer.padding_side
    other = "right" if side == "left" else "left"
    sees_padding = False
    with at_rest(net):
        for tried in (side, other):
            tokenizer.padding_side = tried
            with one_line(name, [long, short]):
                logits = net(**batch_settings.padding_collator(settings, tokenizer)([long, short])).logits
            _check_logits(logits, net.config.num_labels or 0, name, [long, short])
            with one_line(name, [probe]):
                alone, wider = (_logits(net, datamodule, [probe], more) for more in (0, padding))
            found = [wider, logits[1:]] if probe is short else [wider]
            if all(is_close(alone, other_logits) for other_logits in found):
                break
        else:
            tokenizer.padding_side, sees_padding = side, True
            if not is_close(alone, _logits(net, datamodule, [probe])):
                raise UserError(
                    f"the model {name} gives other logits for the same text each time, even without dropout; "
                    "set --model.pretrained to another model"
                )
        with one_line(name, [probe]), in_training_mode(net):  # Reformer refuses some lengths only there
            _logits(net, datamodule, [probe], 0 if sees_padding else padding)
    if sees_padding or hasattr(net.config, SEES_PADDING):
        setattr(net.config, SEES_PADDING, sees_padding)
    if sees_padding:
        warn(
            f"padding changes the logits of the model {name}: texts of equal length go through it together, "
            "without padding, which takes longer"
        )
    elif tokenizer.padding_side != side:
        keep(tokenizer, "padding_side", other)  # also in model/, for a pipeline over batches
        datamodule.set_tokenizer(tokenizer)
        say(f"padding: on the {other}; on the {side}, as {name} has it, it would change the logits")


def _extremes(rows: list[EncodedRows]) -> tuple[Row, Row]:
    """The longest and the shortest row of some splits."""
    longest = max(rows, key=lambda some: int(some.lengths.max()))
    shortest = min(rows, key=lambda some: int(some.lengths.min()))
    found = longest[int(longest.lengths.argmax())], shortest[int(shortest.lengths.argmin())]
    long, short = ({key: row[key] for key in ("input_ids", FIRST) if key in row} for row in found)
    return long, short


def _own_ids(row: Row, template: Template) -> np.ndarray:
    """The ids of a row without the special tokens around its texts, (M,)."""
    ids, start = row["input_ids"], len(template.before)
    end = len(ids) - len(template.after)
    first = start + row.get(FIRST, end - start)
    return np.r_[ids[start:first], ids[first + len(template.between) : end]]


def _row(template: Template, own: list[int]) -> Row:
    """A text with these tokens; of a pair, the first one."""
    return {"input_ids": np.array(template.around(own)), FIRST: len(own)}


def _logits(net: PreTrainedModel, datamodule: Any, rows: list[Row], padding: int = 0) -> torch.Tensor:
    """Logits of rows padded to the longest and `padding` more tokens, (B, C)."""
    width = max(len(row["input_ids"]) for row in rows) + padding
    settings = {**datamodule.hparams, "padding": "max_length", "max_tokens": width}
    return net(**batch_settings.padding_collator(settings, datamodule.tokenizer)(rows)).logits


def _check_logits(logits: torch.Tensor, num_labels: int, name: str, rows: list[Row]) -> None:
    expected = (len(rows), num_labels)
    if tuple(logits.shape) != expected:
        raise UserError(
            f"expected logits of shape {expected} from the model {name}, found {tuple(logits.shape)}; set "
            "--model.pretrained to another model"
        )
    for row, found in zip(rows, logits, strict=True):
        check_finite(found, name, row)


def refuse_special_tokens(net: PreTrainedModel, datamodule: Any) -> None:
    """Refuse texts with a special token on which the model fails, such as BART's </s>."""
    tokenizer, special = datamodule.tokenizer, special_token_ids(datamodule.tokenizer)
    word = next(i for i in sorted(tokenizer.get_vocab().values()) if i not in special)
    template = template_of(tokenizer, datamodule.hparams["pair_column"] is not None)
    for split in datamodule.splits.values():
        for token, found in split.special.items():
            pairs = [[_row(template, [word, i, word]), _row(template, [word])] for i in (word, token)]
            errors = [_failure(net, datamodule, pair) for pair in pairs]
            if errors[1] and not errors[0]:
                shown = tokenizer.convert_ids_to_tokens(token)
                raise UserError(
                    f"a {net.config.model_type} model cannot read {shown!r} within a text ({errors[1]}), "
                    f"found in {found}; remove it from the texts"
                )


def _failure(net: PreTrainedModel, datamodule: Any, rows: list[Row]) -> str | None:
    """The error if the model cannot classify these rows."""
    with at_rest(net):
        try:
            _logits(net, datamodule, rows)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return first_line(error)
    return None


def check_strategy(net: PreTrainedModel, trainer: Any) -> None:
    """Refuse a sharded model whose processes would call it unequally often, and wait for each other."""
    if getattr(net.config, SEES_PADDING, False) and isinstance(trainer.strategy, SHARDED):
        raise UserError(
            f"a {net.config.model_type} model computes texts of equal length together and must be whole on "
            f"each device, found {type(trainer.strategy).__name__}; set --trainer.strategy=ddp"
        )
