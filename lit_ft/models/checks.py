"""Checks of a model's config and tokenizer, before any weight is loaded."""

import torch
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PretrainedConfig, PreTrainedTokenizerBase

from lit_ft.console import warn
from lit_ft.errors import UserError
from lit_ft.models.blueprint import blueprint, position_tables

LEAST_TOKENS = 2  # of a vocabulary: a made-up one has none, or a lone blank; DNA has four letters
SPARE, SPARE_ROWS = 0.1, 1024  # embedding rows without a token: models pad to a multiple of at most 1024
MOST_LAYERS = 1000  # ten times the deepest encoders; a damaged config may say 10 ** 12


def refuse_kernels(config: PretrainedConfig, name: str) -> None:
    """Refuse a config that names a Hub repository of compiled code, which transformers 5.23 would load."""
    for setting in ("_attn_implementation", "_experts_implementation"):
        if "/" in (kernel := str(getattr(config, setting, None))):
            raise UserError(
                f"the config of '{name}' asks for '{kernel}', code from the Hub, which is never run here; "
                f"remove {setting.removeprefix('_')} from its config.json"
            )


def check_layers(config: PretrainedConfig) -> None:
    """Refuse a config with an absurd number of layers."""
    num_layers = getattr(config, "num_hidden_layers", 0)
    if num_layers > MOST_LAYERS:
        raise UserError(f"expected a model of at most {MOST_LAYERS} layers, found {num_layers} in its config")


def refuse_without_classifier(config: PretrainedConfig, name: str) -> None:
    """Refuse a model without a text classifier in transformers; a model's own code is never run."""
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise UserError(
            f"{name}: expected a model that transformers can build a text classifier on, found "
            f"'{config.model_type}'; set another one, for example bert-base-cased"
        )


def refuse_quantised(config: PretrainedConfig, name: str) -> None:
    """Refuse quantised weights, which cannot be trained as they are."""
    if found := getattr(config, "quantization_config", None):
        values = found if isinstance(found, dict) else found.to_dict()
        method = values.get("quant_method", "a method without a name")
        raise UserError(
            f"{name}: expected plain weights, found quantised ones (quantization_config in its config.json: "
            f"{getattr(method, 'value', method)}); set the model they were made from"
        )


def check_vocabulary(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, pretrained: str) -> None:
    """Refuse a tokenizer with tokens that have no embedding in the model; warn of one with far fewer."""
    rows = getattr(config, "vocab_size", None)
    special = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    numbers = {**tokenizer.get_vocab(), **special}
    ordinary = len(numbers) - len(special)
    if ordinary < LEAST_TOKENS:  # transformers 5.23 makes such a tokenizer from a folder without the file
        raise UserError(
            f"expected a tokenizer with a vocabulary in {pretrained}, found {len(special)} special tokens "
            f"and {ordinary} more; copy its tokenizer.json (or vocab.txt, vocab.json with "
            "merges.txt, spm.model) beside the weights"
        )
    if rows is None:  # the model has no token embeddings
        return
    outside = sorted((i, token) for token, i in numbers.items() if i >= rows)
    if outside:
        number, token = outside[0]
        more = f", and {len(outside) - 1} more" if len(outside) > 1 else ""
        raise UserError(
            f"expected a tokenizer of at most {rows} tokens, as the model has, in {pretrained}, found "
            f"{token!r} as number {number}{more}; save model and tokenizer again together, after "
            "model.resize_token_embeddings(len(tokenizer)) if tokens were added"
        )
    if (most := max(numbers.values()) + 1) < rows * (1 - SPARE) and rows - most > SPARE_ROWS:
        warn(
            f"the tokenizer of {pretrained} has {most:,} tokens, its model {rows:,}: if it belongs to "
            "another model, all texts are misread"
        )


def take_padding_token(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, pretrained: str) -> None:
    """Set the config's padding token to the tokenizer's, which pads batches, also in a pipeline."""
    theirs, ours = config.pad_token_id, tokenizer.pad_token_id
    if ours == theirs:
        return
    if theirs is not None:
        found = f"{tokenizer.pad_token!r} is number {ours} in its tokenizer, {theirs} in its config.json"
        if (net := blueprint(config)) is not None and any(before for _, before in position_tables(net)):
            raise UserError(
                f"{pretrained}: expected one padding token, from whose number {config.model_type} models "
                f"count positions, found two: {found}; save model and tokenizer again together"
            )
        warn(f"{pretrained}: the padding token {found}; the tokenizer's is used")
    config.pad_token_id = ours


def max_positions(config: PretrainedConfig, net: torch.nn.Module | None = None) -> int | None:
    """Maximum tokens of the model's position embeddings; None without a limit. `net` saves building it."""
    limit = getattr(config, "max_position_embeddings", None)
    limit = limit if isinstance(limit, int) and limit > 0 else None
    net = blueprint(config) if net is None else net
    if net is None:  # it could not be built
        return limit
    tables = position_tables(net)
    if limit is not None:  # smaller tables are for boxes, larger ones are not used up
        whole = [(rows, before) for rows, before in tables if rows >= limit]
        tables = [(min(rows - before, limit), 0) for rows, before in whole] or tables
    return min((rows - before for rows, before in tables), default=None)


def check_max_tokens(
    config: PretrainedConfig, max_tokens: int, tokenizer: PreTrainedTokenizerBase | None = None
) -> None:
    """Refuse inputs longer than the model can take; with its tokenizer, warn if they exceed its training."""
    limit = max_positions(config)
    if limit is not None and max_tokens > limit:
        raise UserError(
            f"expected data.max_tokens of at most {limit}, what this {config.model_type} model can take, "
            f"found {max_tokens}; set --data.max_tokens={limit}"
        )
    if tokenizer is None:
        return
    # Relative and rotary positions have no limit, but were trained on at most so many tokens.
    trained = (getattr(config, "max_position_embeddings", None) or 0) if limit is None else 0
    told = tokenizer.model_max_length
    for name, most in (("max_position_embeddings", trained), ("its tokenizer's model_max_length", told)):
        if 0 < most < max_tokens:
            warn(
                f"data.max_tokens is {max_tokens}, more than the {most} tokens that this {config.model_type} "
                f"model is meant for ({name}); its results on longer texts may be worse"
            )
            return
