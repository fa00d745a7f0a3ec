"""A tiny config of each family of models, for tests that ask the model itself."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
DEBERTA = {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
SIDE = {"layers": 1, "ffn_dim": 16, "attention_heads": 2}
BART = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SIDE.items()} | {"d_model": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": BERT,
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
    "albert": {**BERT, "embedding_size": 8},
    "electra": {**BERT, "embedding_size": 8},
    "rembert": {**BERT, "input_embedding_size": 8, "output_embedding_size": 8},
    "deberta": DEBERTA,
    "deberta-v2": {**DEBERTA, "position_biased_input": False},
    "mpnet": BERT,
    "longformer": {**BERT, "attention_window": [4, 4]},
    "funnel": {"block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 16},
    "modernbert": BERT,
    "xlm": {"emb_dim": 16, "n_layers": 2, "n_heads": 2},
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 66},
    "bart": BART,
    "t5": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 16},
    "big_bird": {**BERT, "attention_type": "original_full"},
}


def tiny_config(family: str, **more: Any) -> PretrainedConfig:
    """Of 66 positions, where the family has any, and 60 tokens."""
    values = {"vocab_size": 60, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, **FAMILIES[family]}
    if family not in ("gpt2", "t5", "xlnet", "funnel"):
        values["max_position_embeddings"] = 66
    if family == "t5":
        values["decoder_start_token_id"] = 1
    if family == "funnel":  # transformers 5.23 (auto_factory.py) needs it to choose among two
        values["architectures"] = ["FunnelModel"]
    if family == "modernbert":
        values |= {"cls_token_id": 0, "sep_token_id": 2}
    return AutoConfig.for_model(family, **values, **more)
