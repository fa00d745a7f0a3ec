"""`--model.pretrained` -> config, tokenizer and weights: the only module that loads models.

A folder without the whole encoder is refused: transformers would initialise the rest at random.
"""

import contextlib
import functools
import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
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

from lit_ft.console import warn
from lit_ft.errors import UserError, unusable
from lit_ft.hub import hub_errors
from lit_ft.models.blueprint import base_names, dropout_names
from lit_ft.models.checks import (
    check_layers,
    check_vocabulary,
    refuse_kernels,
    refuse_quantised,
    refuse_without_classifier,
)
from lit_ft.models.heads import Head, settle
from lit_ft.models.inputs import fit_to_model
from lit_ft.models.names import check_weights, find_model, only_pickled, pretrained_arguments
from lit_ft.sample.encoder import sample_encoder

# The files of a fast tokenizer that a checkpoint keeps, all of them text.
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
# The names that configs use for each dropout; the model itself shows which of them it reads. Only one of the
# classifier's is set: XLM and XLNet have one before the head and one elsewhere.
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
    """Silence transformers' progress bars and loading reports: a new classifier head is always 'missing'."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.ERROR)


def resolve(pretrained: str) -> str:
    """The folder or Hub name behind a `pretrained` setting.

    `sample` is the tiny BERT of the embedded reviews, built on first use; `sft:NAME` is the model of the
    newest masked-LM run of that name. Anything else is returned as it is.
    """
    if pretrained == "sample":
        quiet()  # the first use builds and saves it
        return str(sample_encoder())
    return find_model(pretrained, "--model.pretrained")


def pin(pretrained: str) -> str:
    """`sft:NAME` as the folder it refers to now: after the next `sft` run it would be another model."""
    return find_model(pretrained, "--model.pretrained") if pretrained.startswith("sft:") else pretrained


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model: found once, its config read once.

    Attributes:
        name: The `pretrained` setting, for messages.
        place: The folder or Hub name behind it.
        sample_config: The config that needs no network, named when the Hub cannot be reached.
        allow_pickle: Whether weights may come as a pickle; torch reads it with `weights_only`.
        pickle_flag: The flag that allows it.
    """

    name: str
    place: str
    sample_config: str = "sample.yaml"
    allow_pickle: bool = False
    pickle_flag: str = ALLOW_PICKLE

    @classmethod
    def of(cls, name: str, **others: Any) -> "Pretrained":
        """Find the model behind a `pretrained` setting."""
        return cls(name, resolve(name), **others)

    def refuse_pickle(self) -> None:
        """Refuse a folder with only a pickle, before any text is read. A Hub name passes."""
        check_weights(self.place, self.allow_pickle, self.pickle_flag)

    @functools.cached_property
    def config(self) -> PretrainedConfig:
        """The model's config, read once; changes to it apply to the weights loaded later."""
        with self._loading("model"):
            config = AutoConfig.from_pretrained(**pretrained_arguments(self.place))
        refuse_kernels(config, self.name)
        refuse_quantised(config, self.name)
        check_layers(config)
        return config

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's fast tokenizer."""
        quiet()
        with self._loading("tokenizer"):
            tokenizer: Any = AutoTokenizer.from_pretrained(**pretrained_arguments(self.place))
            tokenizer.encode("a")  # some damaged files fail only here
            if tokenizer.is_fast and not _has_file(self.place, "tokenizer.json"):
                # Read it again as a checkpoint and model/ will hold it: transformers 5.23
                # (tokenization_rembert.py) builds RemBERT's from a sentencepiece model without [CLS] and
                # [SEP], and adds them when it reads the saved files.
                tokenizer = tokenizer_from_files(tokenizer_files(tokenizer))
        if not tokenizer.is_fast:
            raise UserError(f"expected a fast tokenizer (tokenizer.json) for {self.name}, found a slow one")
        check_vocabulary(self.config, tokenizer, self.name)
        if tokenizer.pad_token_id is None:
            if tokenizer.eos_token_id is None:
                raise UserError(f"expected a tokenizer with a padding token for {self.name}, found none")
            tokenizer.pad_token = tokenizer.eos_token  # usual for decoders; padding is masked
            warn(f"{self.name} has no padding token: its end of text, {tokenizer.eos_token!r}, is used")
        fit_to_model(tokenizer, self.config, self.name)
        return tokenizer

    def classifier(self, config: PretrainedConfig | None = None, head: Head | None = None) -> PreTrainedModel:
        """The encoder's weights with a classifier head, in float32 whatever the folder holds.

        Args:
            config: The model's config with our classes; by default the folder's own.
            head: What to do with the folder's head; by default it is loaded if the shapes match.

        Raises:
            UserError: The folder does not hold exactly the whole encoder.
        """
        net, info = self._load(AutoModelForSequenceClassification, config or self.config)
        check_report(net, info, self.name)
        if head is not None:
            settle(net, head, info, self.name)
        return net

    def masked_lm(self) -> tuple[PreTrainedModel, list[str]]:
        """The model with a masked-LM head, in float32, and the head weights that the folder lacks."""
        net, info = self._load(AutoModelForMaskedLM, self.config)
        return net, check_report(net, info, self.name, task_head=False)

    def _load(self, auto: Any, config: PretrainedConfig) -> tuple[PreTrainedModel, dict[str, Any]]:
        """A model in float32 and its loading report; transformers 5 would keep a folder's float16."""
        quiet()
        weights = weights_source(self.place, self.allow_pickle, self.pickle_flag)
        with self._loading("model"), weights as source:
            return auto.from_pretrained(
                **source,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )

    @contextlib.contextmanager
    def _loading(self, part: str) -> Iterator[None]:
        """Turn any error of a folder or the Hub into one line; `part` is model or tokenizer."""
        what = f"{part} '{self.name}'" if part == "model" else f"{part} of '{self.name}'"
        with unusable(f"the {what}", "load or save it again, or set another model"):
            with hub_errors(what, self.sample_config):
                yield


@contextlib.contextmanager
def weights_source(name: str, allow_pickle: bool, flag: str = ALLOW_PICKLE) -> Iterator[dict[str, Any]]:
    """The arguments of `from_pretrained` for a model's weights; inside, a refused pickle is one line.

    Args:
        name: A folder or Hub name.
        allow_pickle: Whether weights may come as a pickle.
        flag: The flag that allows it.
    """
    check_weights(name, allow_pickle, flag)
    try:
        # None: safetensors, or else a pickle
        yield {**pretrained_arguments(name), "use_safetensors": None if allow_pickle else True}
    except OSError as error:
        if allow_pickle:
            raise
        if "cannot be loaded with `safetensors`" in str(error):  # transformers 5.23, modeling_utils.py
            raise UserError(
                only_pickled(name, "the Hub does not have it, but perhaps a pickle", flag)
            ) from None
        if not Path(name).is_dir() and _has_file(
            name, "pytorch_model.bin"
        ):  # the Hub, offline, may have more
            found = "found only pytorch_model.bin, a pickle, in the local cache"
            raise UserError(only_pickled(name, found, flag)) from None
        raise


def _has_file(name: str, file: str) -> bool:
    """Whether a folder has a file, or the local cache of a Hub name."""
    if Path(name).is_dir() or name.count("/") > 1:
        return (Path(name) / file).is_file()
    arguments = pretrained_arguments(name)
    repository, revision = arguments["pretrained_model_name_or_path"], arguments.get("revision")
    return isinstance(try_to_load_from_cache(repository, file, revision=revision), str)


def set_dropout(config: PretrainedConfig, setting: str, value: float, place: str | None = None) -> None:
    """Set one of the `DROPOUTS` under the names that the model reads.

    Args:
        config: The model's config, changed in place.
        setting: Our name of the dropout.
        value: Probability of dropping.
        place: File and line of a setting that is no flag, such as `sample.yaml, line 12`.

    Raises:
        UserError: The model has no such dropout.
    """
    head = setting == "classifier_dropout"
    own = [name for name in DROPOUTS[setting] if hasattr(config, name)]
    auto = AutoModelForSequenceClassification if head else AutoModel
    names = dropout_names(config, DROPOUTS[setting], auto)
    if names is None or not (names or head):  # BigBird reads it in its forward pass
        names = own
    if head:
        names = sorted(names, key=lambda name: name not in own)[:1]
    if not names:
        found = f"found {value}" + (f" in {place}" if place else "")
        raise UserError(f"{config.model_type} models have no {setting}, {found}; set --model.{setting}=null")
    for name in names:
        setattr(config, name, value)


def classifier_from_config(config: PretrainedConfig) -> PreTrainedModel:
    """A classifier with this config, for a checkpoint's weights."""
    quiet()
    refuse_kernels(config, "the checkpoint's encoder")
    refuse_without_classifier(config, "the checkpoint's encoder")
    check_layers(config)
    return AutoModelForSequenceClassification.from_config(
        config, dtype=torch.float32, trust_remote_code=False
    )


def tokenizer_files(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """The tokenizer as file name -> text, to be kept in a checkpoint."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        files = [path for path in Path(name).iterdir() if path.name in TOKENIZER_FILES]
        return {path.name: path.read_text(encoding="utf-8") for path in files}


def tokenizer_from_files(files: dict[str, str]) -> PreTrainedTokenizerBase:
    """The tokenizer from `tokenizer_files`; no other file is written, and no code that it names is run."""
    quiet()
    with tempfile.TemporaryDirectory() as folder:
        for name in TOKENIZER_FILES & files.keys():
            text = files[name]
            if name == "tokenizer_config.json":
                values = json.loads(text)
                # Without paths, so that no file elsewhere is read.
                kept = {k: v for k, v in values.items() if k != "auto_map" and not k.endswith("_file")}
                text = json.dumps(kept)
            (Path(folder) / name).write_text(text, encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


# Buffers that older versions of transformers saved and newer ones compute.
BUFFERS = ("position_ids", "token_type_ids", "inv_freq", "masked_bias", "num_batches_tracked")
SHOWN = 2  # weight names in a message


def check_report(
    net: PreTrainedModel, info: Mapping[str, Any], folder: str, task_head: bool = True
) -> list[str]:
    """Refuse weights that are not the whole encoder; only the head and a pooler may be new.

    Args:
        net: The loaded model.
        info: The loading report, `output_loading_info` of `from_pretrained`.
        folder: The model's name.
        task_head: Whether head weights may have another shape, as a classifier's with other classes do.

    Returns:
        The head weights that the folder lacks, sorted.

    Raises:
        UserError: Encoder weights are missing, left over or have another shape.
    """
    own, prefix = set(net.state_dict()), f"{net.base_model_prefix}."
    encoder = {key for key in own if key.startswith(prefix)} or own & base_names(net.config)

    def is_encoder(key: str) -> bool:
        return key in encoder and "pooler" not in key

    missing = sorted(filter(is_encoder, info["missing_keys"]))
    shapes = sorted(
        (key, tuple(found), tuple(expected))
        for key, found, expected in info["mismatched_keys"]
        if is_encoder(key) or not task_head
    )
    number = f"of {sum(map(is_encoder, own))} weights of the encoder"
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} {number} are not in its files ({_some(missing)}): they would start "
            f"untrained; {_fix(missing, info['unexpected_keys'])}"
        )
    if shapes:
        key, found, expected = shapes[0]
        raise UserError(
            f"{folder}: expected {key} of shape {expected} by its config.json, found {found} in its files"
            + (f", and {len(shapes) - 1} more like it" if len(shapes) > 1 else "")
            + "; save model and config again together, or set another model"
        )
    if left := _left_over(net, prefix, info["unexpected_keys"]):
        raise UserError(
            f"{folder}: its files hold {len(left)} weights of the encoder that its config.json has no place "
            f"for ({_some(left)}); save model and config again together, or set another model"
        )
    return sorted(key for key in info["missing_keys"] if key not in encoder)


def _left_over(net: PreTrainedModel, prefix: str, keys: Collection[str]) -> list[str]:
    """Encoder weights that were not loaded; not other tasks' heads, nor extras of the bare model."""
    children = {name for name, _ in net.base_model.named_children()}
    found = [
        key
        for key in sorted(keys)
        if (key.startswith(prefix) or key.partition(".")[0] in children)  # a bare model has no prefix
        and "pooler" not in key
        and key.rpartition(".")[2] not in BUFFERS
    ]
    known = base_names(net.config) if found else set()
    return [key for key in found if key.removeprefix(prefix) not in known]


def _fix(missing: Collection[str], unexpected: Collection[str]) -> str:
    """What to do about missing weights; names the prefix if that is all that differs."""
    for bare in (False, True):  # a bare model's names have no prefix
        for name in missing:
            ending = name.partition(".")[2] if bare else name
            for key in unexpected:
                if ending and key.endswith(f".{ending}"):
                    return (
                        f"their names begin with '{key.removesuffix(ending)}' there: save the inner model "
                        "with its save_pretrained, or rename them"
                    )
    return "save the whole model again with save_pretrained, or set another model"


def _some(names: Collection[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:SHOWN]) + (", ..." if len(shown) > SHOWN else "")
