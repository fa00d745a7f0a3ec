"""Tiny model folders of other families than BERT's, with a tokenizer of whole words."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

WORDS = ["the", "film", "plot", "was", "good", "bad", "fine", "and", "so", "very"]
BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "sep": "</s>", "eos": "</s>", "unk": "<unk>"}
XLNET = {"unk": "<unk>", "sep": "<sep>", "pad": "<pad>", "cls": "<cls>"}
DECODER = {"unk": "<unk>", "pad": "<pad>"}
TYPED = ["input_ids", "token_type_ids", "attention_mask"]

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
BART = {f"{part}_{what}": n for part in ("encoder", "decoder")
        for what, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 48))}  # fmt: skip
MODERN = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
# Of each family: its config, its special tokens, what it puts around a text.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "bert": (SIZES, BERT, "[CLS] $A [SEP]"),
    "distilbert": ({"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}, BERT, "[CLS] $A [SEP]"),
    "modernbert": (SIZES | {"local_attention": 8, **MODERN}, BERT, "[CLS] $A [SEP]"),
    "xlm-roberta": ({**SIZES, "type_vocab_size": 1}, ROBERTA, "<s> $A </s>"),
    "convbert": ({**SIZES, "embedding_size": 32, "conv_kernel_size": 3}, BERT, "[CLS] $A [SEP]"),
    "fnet": (SIZES, BERT, "[CLS] $A [SEP]"),
    "xlnet": ({"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 48}, XLNET, "$A:0 <sep>:0 <cls>:2"),
    "gpt2": ({"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 66}, DECODER, "$A"),
    "bart": ({"d_model": 32, **BART}, ROBERTA, "<s> $A </s>"),
}  # fmt: skip


def family_tokenizer(
    special: dict[str, str],
    template: str,
    side: str = "right",
    names: list[str] | None = None,
    **settings: Any,
) -> PreTrainedTokenizerFast:
    """Of `WORDS`; whatever else is unknown."""
    tokens = list(dict.fromkeys(special.values()))
    vocabulary = {token: i for i, token in enumerate([*tokens, *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk"]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [(token, vocabulary[token]) for token in tokens if token in template]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=around)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, padding_side=side, model_input_names=names or TYPED,
        **{f"{name}_token": token for name, token in special.items()},
    )  # fmt: skip


def family(kind: str, folder: Path, side: str = "right", names: list[str] | None = None) -> Path:
    """A folder with random weights, large enough that every token tells in the answers."""
    shape, special, template = FAMILIES[kind]
    tokenizer = family_tokenizer(special, template, side, names)
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in special.items()}
    ids = {name: i for name, i in ids.items() if name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    positions = {} if kind == "xlnet" else {"max_position_embeddings": 66}  # it counts none
    config = AutoConfig.for_model(
        kind, **{**positions, "initializer_range": 0.3, **ids, **shape}, vocab_size=len(tokenizer)
    )
    config.init_std = 0.3  # BART's name of it
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
