"""Leaf: what is refused of a model's config and tokenizer, before any weight is loaded."""

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from lit_ft.errors import UserError

MOST_LAYERS = 1000  # ten times those of the deepest encoders; a damaged config may say 10 ** 12


def refuse_kernels(config: PretrainedConfig, name: str) -> None:
    """Refuse a config that names a Hub repository of compiled code, as transformers 5.23 would load it."""
    for setting in ("_attn_implementation", "_experts_implementation"):
        if "/" in (kernel := str(getattr(config, setting, None))):
            raise UserError(
                f"the config of '{name}' asks for '{kernel}', code from the Hub, which is never run here; "
                f"remove {setting.removeprefix('_')} from its config.json"
            )


def check_layers(config: PretrainedConfig) -> None:
    """Refuse a config whose layers nobody would live to see built."""
    num_layers = getattr(config, "num_hidden_layers", 0)
    if num_layers > MOST_LAYERS:
        raise UserError(f"expected a model of at most {MOST_LAYERS} layers, found {num_layers} in its config")


def check_vocabulary(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, pretrained: str) -> None:
    """Refuse a tokenizer that is not the model's: its special tokens are in every text."""
    ids, rows = (
        dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)),
        config.vocab_size,
    )
    if ids and max(ids) >= rows:
        raise UserError(
            f"expected a tokenizer of at most {rows} tokens, as the model has, in {pretrained}, found "
            f"{ids[max(ids)]!r} as number {max(ids)}; save model and tokenizer again together"
        )


def max_positions(config: PretrainedConfig) -> int | None:
    """The most tokens that the model's position embeddings can take, None where nothing limits them.

    RoBERTa's family counts positions from `pad_token_id + 1` (transformers, modeling_roberta.py,
    create_position_ids_from_input_ids), so that many of the embeddings are never used.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None or limit < 1:
        return None
    counts_from_padding = any(
        part in config.model_type for part in ("roberta", "camembert", "mpnet", "longformer")
    )
    return limit - (config.pad_token_id + 1) if counts_from_padding else limit


def check_max_tokens(config: PretrainedConfig, max_tokens: int) -> None:
    """Refuse inputs longer than the model can take."""
    limit = max_positions(config)
    if limit is not None and max_tokens > limit:
        raise UserError(
            f"expected data.max_tokens of at most {limit}, what this {config.model_type} model can take, "
            f"found {max_tokens}; set --data.max_tokens={limit}"
        )
