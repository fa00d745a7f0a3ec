"""`--model.pretrained` -> config, tokenizer, weights: the one place that loads models."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lit_ft import sample
from lit_ft.errors import UserError, unusable
from lit_ft.hub import hub_errors
from lit_ft.model_names import find_model
from lit_ft.model_names import needs_hub as needs_hub  # beside load_config, which it is asked before

MOST_LAYERS = 1000  # ten times those of the deepest encoders; a damaged config may say 10 ** 12
TOKENIZER_FILES = (".json", ".txt", ".model")
# Config attribute of each dropout, by family: BERT, RoBERTa, ELECTRA; DistilBERT; DeBERTa, XLM and others.
DROPOUTS = {
    "hidden_dropout": ("hidden_dropout_prob", "dropout", "resid_pdrop"),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
    "classifier_dropout": (
        "classifier_dropout",
        "seq_classif_dropout",
        "cls_dropout",
        "summary_last_dropout",
    ),
}


def quiet() -> None:
    """Silence transformers' weight-loading bars and reports: a new classifier head is always 'missing'."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def resolve(pretrained: str) -> str:
    """The folder or Hub name behind a `pretrained` setting.

    `sample` is the tiny BERT of the embedded reviews, built on first use; `sft:NAME` is the model of the
    newest masked-LM run of that name. Anything else is returned as it is.
    """
    if pretrained == "sample":
        quiet()  # the first time it is built here, and saved
        return str(sample.sample_encoder())
    return find_model(pretrained, "--model.pretrained")


def pin(pretrained: str) -> str:
    """`sft:NAME` as the folder that it means now: after the next `sft` run it would mean another model."""
    return find_model(pretrained, "--model.pretrained") if pretrained.startswith("sft:") else pretrained


def _name_and_revision(pretrained: str) -> dict[str, Any]:
    """`name@revision` -> the arguments of `from_pretrained`. A folder may hold an @."""
    if Path(pretrained).is_dir() or "@" not in pretrained:
        return {"pretrained_model_name_or_path": pretrained}
    name, revision = pretrained.rsplit("@", 1)
    return {"pretrained_model_name_or_path": name, "revision": revision}


@contextlib.contextmanager
def loading(pretrained: str, part: str, sample_config: str = "sample.yaml") -> Iterator[None]:
    """One line for whatever goes wrong in a folder or with the Hub; `part` is model or tokenizer."""
    what = f"{part} '{pretrained}'" if part == "model" else f"{part} of '{pretrained}'"
    with unusable(f"the {what}", "load or save it again, or set another model"):
        with hub_errors(what, sample_config):
            yield


def load_config(pretrained: str, sample_config: str = "sample.yaml") -> PretrainedConfig:
    """The model's config; `sample_config` is what an error names as needing no network."""
    with loading(pretrained, "model", sample_config):
        config = AutoConfig.from_pretrained(**_name_and_revision(resolve(pretrained)))
        check_layers(config)
        return config


def check_layers(config: PretrainedConfig) -> None:
    """Refuse a config whose layers nobody would live to see built."""
    num_layers = getattr(config, "num_hidden_layers", 0)
    if num_layers > MOST_LAYERS:
        raise UserError(f"expected a model of at most {MOST_LAYERS} layers, found {num_layers} in its config")


def set_dropout(config: PretrainedConfig, setting: str, value: float) -> None:
    """Set one of the `DROPOUTS` under the name that the model's family gives it."""
    for attribute in DROPOUTS[setting]:
        if hasattr(config, attribute):
            setattr(config, attribute, value)
            return
    raise UserError(f"a {config.model_type} model has no {setting}: leave out --model.{setting}")


def load_tokenizer(pretrained: str, sample_config: str = "sample.yaml") -> PreTrainedTokenizerBase:
    """The model's fast tokenizer."""
    quiet()
    with loading(pretrained, "tokenizer", sample_config):
        tokenizer = AutoTokenizer.from_pretrained(**_name_and_revision(resolve(pretrained)))
        tokenizer.encode("a")  # some damage to its files shows only here
    if not tokenizer.is_fast:
        raise UserError(f"expected a fast tokenizer (tokenizer.json) for {pretrained}, found a slow one")
    check_vocabulary(load_config(pretrained, sample_config), tokenizer, pretrained)
    if tokenizer.pad_token_id is None:
        raise UserError(f"expected a tokenizer with a padding token for {pretrained}, found none")
    return tokenizer


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


def load_classifier(pretrained: str, config: PretrainedConfig) -> PreTrainedModel:
    """The encoder's weights under a classifier head, in float32 whatever the folder holds.

    transformers 5 loads in the checkpoint's own dtype: a float16 folder would train in float16. A head
    for another number of classes is replaced by a new one.
    """
    quiet()
    with loading(pretrained, "model"):
        return AutoModelForSequenceClassification.from_pretrained(
            **_name_and_revision(resolve(pretrained)),
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
        )


def load_masked_lm(
    pretrained: str, config: PretrainedConfig, sample_config: str
) -> tuple[PreTrainedModel, list[str]]:
    """The weights under a masked-LM head, in float32; and the names of those that the folder lacks."""
    quiet()
    with loading(pretrained, "model", sample_config):
        model, info = AutoModelForMaskedLM.from_pretrained(
            **_name_and_revision(resolve(pretrained)),
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
        )
    return model, sorted(info["missing_keys"])


def classifier_from_config(config: PretrainedConfig) -> PreTrainedModel:
    """A classifier of this shape, whose weights are about to be replaced by a checkpoint's."""
    quiet()
    check_layers(config)
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)


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


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The tokenizer as file name -> text, to travel inside a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        files = [p for p in Path(name).iterdir() if p.suffix in TOKENIZER_FILES]
        return {p.name: p.read_text(encoding="utf-8") for p in files}


def tokenizer_from_files(files: dict[str, str]) -> PreTrainedTokenizerBase:
    """The tokenizer of `tokenizer_files`."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            (Path(folder) / Path(name).name).write_text(text, encoding="utf-8")  # .name: no path out of it
        return AutoTokenizer.from_pretrained(folder)
