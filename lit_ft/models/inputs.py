"""The inputs that a model takes and its tokenizer gives: found out from both, not from a list of families."""

import inspect
from typing import Any

import torch
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from lit_ft.console import warn
from lit_ft.data.tokens import Template, template_of
from lit_ft.errors import UserError

SEES_PADDING = "sees_padding"  # config attribute: whether padding changes the model's output


def fit_to_model(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Make the tokenizer give only inputs that the model takes, also in a saved folder, for pipelines.

    BertTokenizer, and tokenizers saved by transformers 4, name `token_type_ids` whatever the model;
    DistilBERT and ModernBERT take none.

    Args:
        tokenizer: The model's tokenizer, changed in place.
        config: The model's config.
        name: The model, in messages.
    """
    template = template_of(tokenizer)
    if "token_type_ids" in tokenizer.model_input_names and not takes_token_types(config, template):
        keep(
            tokenizer, "model_input_names", [n for n in tokenizer.model_input_names if n != "token_type_ids"]
        )
    if tokenizer.cls_token_id is not None and not {*template.before, *template.after} & {
        tokenizer.cls_token_id,
        tokenizer.bos_token_id,
    }:
        warn(
            f"the tokenizer of {name} has a {tokenizer.cls_token} token but puts none into a text; if the "
            "model was trained with it, add a post-processor to the tokenizer (tokenizers.processors)"
        )


def fit_pairs_to_model(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Refuse a tokenizer that does not set two texts apart; keep token types from a model that has too few.

    Args:
        tokenizer: The model's tokenizer, changed in place.
        config: The model's config.
        name: The model, in messages.
    """
    single, pair = template_of(tokenizer), template_of(tokenizer, pairs=True)
    if not pair.between or (single.before, single.after) != (pair.before, pair.after):
        puts = repr(" ".join(tokenizer.convert_ids_to_tokens(pair.between))) if pair.between else "nothing"
        raise UserError(
            "expected a tokenizer that sets two texts apart, for data.pair_column, found that the one of "
            f"{name} puts {puts} between them; set --model.pretrained to another model, or join the columns "
            "with --data.text_column=[FIRST,SECOND] --data.pair_column=null"
        )
    if "token_type_ids" in tokenizer.model_input_names and not takes_token_types(config, pair):
        keep(
            tokenizer, "model_input_names", [n for n in tokenizer.model_input_names if n != "token_type_ids"]
        )
        warn(
            f"{name} has no token type for a second text: only "
            f"{' '.join(tokenizer.convert_ids_to_tokens(pair.between))} tells where it begins"
        )


def takes_token_types(config: PretrainedConfig, template: Template) -> bool:
    """Whether the model has an input for token types, with embeddings for those that the tokenizer gives."""
    known = getattr(config, "type_vocab_size", None) or 0  # DeBERTa: 0, which ignores them
    if known and template.most_type >= known:
        return False
    for mapping in (MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING):
        if type(config) in mapping:
            found = mapping[type(config)]
            network: Any = found[0] if isinstance(found, tuple) else found
            return "token_type_ids" in inspect.signature(network.forward).parameters
    return True


def keep(tokenizer: PreTrainedTokenizerBase, setting: str, value: Any) -> None:
    """Set one of the tokenizer's settings so that `save_pretrained` writes it.

    transformers 5.23 (tokenization_utils_base.py) writes only the settings that the tokenizer was made with.
    """
    tokenizer.init_kwargs[setting] = value
    setattr(tokenizer, setting, value)


def by_length(net: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A padded batch, (B, T) -> logits, (B, C); rows of equal length are computed together, unpadded."""
    mask = inputs["attention_mask"].bool()
    lengths = mask.sum(1)
    parts, places = [], []
    for length in lengths.unique():
        rows = (lengths == length).nonzero()[:, 0]
        inside = mask[rows[0]]
        parts.append(net(**{key: value[rows][:, inside] for key, value in inputs.items()}).logits)
        places.append(rows)
    return torch.cat(parts)[torch.cat(places).argsort()]
