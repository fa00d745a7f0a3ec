"""`--model.pretrained` -> config, tokenizer, weights: the one place that loads models."""

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import try_to_load_from_cache
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lit_ft.blueprint import dropout_names
from lit_ft.console import warn
from lit_ft.errors import UserError, unusable
from lit_ft.heads import Head, settle
from lit_ft.hub import hub_errors
from lit_ft.loading_report import check_report
from lit_ft.model_checks import (
    check_layers,
    check_vocabulary,
    refuse_kernels,
    refuse_quantised,
    refuse_without_classifier,
)
from lit_ft.model_inputs import fit_to_model
from lit_ft.model_names import check_weights, find_model, only_pickled, pretrained_arguments
from lit_ft.sample import sample_encoder

# What leaves a fast tokenizer's folder for a checkpoint, and a checkpoint for a folder: all of it is text.
TOKENIZER_FILES = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
}
ALLOW_PICKLE = "--model.allow_pickle true"
# Attributes that a config may have for each; the model itself says which of them it reads. Of the
# classifier's only one is set: XLM and XLNet have one before the head and one elsewhere.
DROPOUTS = {
    "hidden_dropout": (
        "hidden_dropout_prob",  # BERT, RoBERTa, DeBERTa
        "hidden_dropout",
        "dropout",  # DistilBERT, XLM, BART
        "dropout_rate",
        "resid_pdrop",
        "embd_pdrop",
        "resid_dropout",
        "embed_dropout",
        "embedding_dropout",
        "mlp_dropout",
    ),
    "attention_dropout": ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"),
    "classifier_dropout": (
        "classifier_dropout",
        "classifier_dropout_prob",
        "cls_dropout",
        "seq_classif_dropout",
        "summary_last_dropout",
        "summary_first_dropout",
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
        return str(sample_encoder())
    return find_model(pretrained, "--model.pretrained")


def pin(pretrained: str) -> str:
    """`sft:NAME` as the folder that it means now: after the next `sft` run it would mean another model."""
    return find_model(pretrained, "--model.pretrained") if pretrained.startswith("sft:") else pretrained


def refuse_pickle(pretrained: str, allow_pickle: bool) -> None:
    """Refuse what holds its weights as a pickle only, where that can be told before any text is read."""
    check_weights(resolve(pretrained), allow_pickle, ALLOW_PICKLE)


@contextlib.contextmanager
def weights_source(pretrained: str, allow_pickle: bool, flag: str = ALLOW_PICKLE) -> Iterator[dict[str, Any]]:
    """The arguments of `from_pretrained` for a model's weights; inside, a pickle is refused in one line.

    Args:
        pretrained: A model's setting.
        allow_pickle: Whether a pickle is taken, too. torch's `weights_only` holds for them.
        flag: The flag that says so.
    """
    name = resolve(pretrained)
    check_weights(name, allow_pickle, flag)
    try:
        # None: safetensors, and where there are none, a pickle
        yield {**pretrained_arguments(name), "use_safetensors": None if allow_pickle else True}
    except OSError as error:
        if allow_pickle:
            raise
        if "cannot be loaded with `safetensors`" in str(error):  # transformers 5.23, modeling_utils.py
            raise UserError(
                only_pickled(name, "the Hub has none of it, but perhaps a pickle", flag)
            ) from None
        if _is_cached_as_pickle(name):  # and the Hub, which is not asked, may have more
            found = "found only pytorch_model.bin, a pickle, in the local cache"
            raise UserError(only_pickled(name, found, flag)) from None
        raise


def _is_cached_as_pickle(name: str) -> bool:
    arguments = pretrained_arguments(name)
    if Path(name).is_dir() or name.count("/") > 1:
        return False
    repository, revision = arguments["pretrained_model_name_or_path"], arguments.get("revision")
    return isinstance(try_to_load_from_cache(repository, "pytorch_model.bin", revision=revision), str)


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
        config = AutoConfig.from_pretrained(**pretrained_arguments(resolve(pretrained)))
    refuse_kernels(config, pretrained)
    refuse_quantised(config, pretrained)
    check_layers(config)
    return config


def set_dropout(config: PretrainedConfig, setting: str, value: float, place: str | None = None) -> None:
    """Set one of the `DROPOUTS` under the names that the model reads.

    Args:
        config: Changed in place.
        setting: Its name among ours.
        value: The share.
        place: Of the setting, where it is no flag, such as `sample.yaml, line 12`.

    Raises:
        UserError: The model has no such dropout.
    """
    head = setting == "classifier_dropout"
    own = [name for name in DROPOUTS[setting] if hasattr(config, name)]
    auto = AutoModelForSequenceClassification if head else AutoModel
    names = dropout_names(config, DROPOUTS[setting], auto)
    if names is None or not (names or head):  # BigBird reads it while it runs
        names = own
    if head:
        names = sorted(names, key=lambda name: name not in own)[:1]
    if not names:
        found = f"found {value}" + (f" in {place}" if place else "")
        raise UserError(f"{config.model_type} models have no {setting}, {found}; set --model.{setting}=null")
    for name in names:
        setattr(config, name, value)


def load_tokenizer(pretrained: str, sample_config: str = "sample.yaml") -> PreTrainedTokenizerBase:
    """The model's fast tokenizer."""
    quiet()
    with loading(pretrained, "tokenizer", sample_config):
        tokenizer: Any = AutoTokenizer.from_pretrained(**pretrained_arguments(resolve(pretrained)))
        tokenizer.encode("a")  # some damage to its files shows only here
        if tokenizer.is_fast and not _has_tokenizer_json(pretrained):
            # As a checkpoint and model/ will have it. transformers 5.23 makes RemBERT's of its sentencepiece
            # model without [CLS] and [SEP] (tokenization_rembert.py), and adds them when it reads that again.
            tokenizer = tokenizer_from_files(tokenizer_files(tokenizer))
    if not tokenizer.is_fast:
        raise UserError(f"expected a fast tokenizer (tokenizer.json) for {pretrained}, found a slow one")
    config = load_config(pretrained, sample_config)
    check_vocabulary(config, tokenizer, pretrained)
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(f"expected a tokenizer with a padding token for {pretrained}, found none")
        tokenizer.pad_token = tokenizer.eos_token  # as usual for decoders; what is padding is masked
        warn(f"{pretrained} has no padding token: its end of text, {tokenizer.eos_token!r}, is taken")
    fit_to_model(tokenizer, config, pretrained)
    return tokenizer


def _has_tokenizer_json(pretrained: str) -> bool:
    arguments = pretrained_arguments(resolve(pretrained))
    name, revision = arguments["pretrained_model_name_or_path"], arguments.get("revision")
    if Path(name).is_dir():
        return (Path(name) / "tokenizer.json").is_file()
    return isinstance(try_to_load_from_cache(name, "tokenizer.json", revision=revision), str)


def load_classifier(
    pretrained: str, config: PretrainedConfig, allow_pickle: bool = False, head: Head | None = None
) -> PreTrainedModel:
    """The encoder's weights under a classifier head, in float32 whatever the folder holds.

    transformers 5 loads in the checkpoint's own dtype: a float16 folder would train in float16.

    Args:
        pretrained: The model's setting.
        config: With our classes.
        allow_pickle: Whether a pickle is taken, too.
        head: What becomes of the folder's head; by default it is loaded as it is, where the shapes are ours.

    Raises:
        UserError: The folder holds anything else than the whole encoder.
    """
    quiet()
    with loading(pretrained, "model"), weights_source(pretrained, allow_pickle) as source:
        net, info = AutoModelForSequenceClassification.from_pretrained(
            **source,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_report(net, info, pretrained)
    if head is not None:
        settle(net, head, info, pretrained)
    return net


def load_masked_lm(
    pretrained: str,
    config: PretrainedConfig,
    sample_config: str,
    allow_pickle: bool = False,
    flag: str = ALLOW_PICKLE,
) -> tuple[PreTrainedModel, list[str]]:
    """The weights under a masked-LM head, in float32; and the names of the head's that the folder lacks."""
    quiet()
    weights = weights_source(pretrained, allow_pickle, flag)
    with loading(pretrained, "model", sample_config), weights as source:
        net, info = AutoModelForMaskedLM.from_pretrained(
            **source,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    return net, check_report(net, info, pretrained, task_head=False)


def classifier_from_config(config: PretrainedConfig) -> PreTrainedModel:
    """A classifier of this shape, whose weights are about to be replaced by a checkpoint's."""
    quiet()
    refuse_kernels(config, "the checkpoint's encoder")
    refuse_without_classifier(config, "the checkpoint's encoder")
    check_layers(config)
    return AutoModelForSequenceClassification.from_config(
        config, dtype=torch.float32, trust_remote_code=False
    )


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The tokenizer as file name -> text, to travel inside a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        files = [path for path in Path(name).iterdir() if path.name in TOKENIZER_FILES]
        return {path.name: path.read_text(encoding="utf-8") for path in files}


def tokenizer_from_files(files: dict[str, str]) -> PreTrainedTokenizerBase:
    """The tokenizer of `tokenizer_files`: nothing else is written, and no code that it names is run."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        for name in TOKENIZER_FILES & files.keys():
            text = files[name]
            if name == "tokenizer_config.json":
                values = json.loads(text)
                # Nor is a file read that lies elsewhere.
                kept = {k: v for k, v in values.items() if k != "auto_map" and not k.endswith("_file")}
                text = json.dumps(kept)
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
