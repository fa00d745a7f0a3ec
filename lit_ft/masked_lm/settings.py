"""The settings of `sft`, whose docstrings are its `--help`. Imports no heavy library."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lit_ft.errors import UserError
from lit_ft.settings.bounds import ABOVE_0, BOUNDS, COUNT, SHARE, check_bounds
from lit_ft.settings.flags import DEFAULT_SEED, FullDiskPolicy, NonFinitePolicy

SAMPLE_CONFIG = "sample_sft.yaml"  # what an error names as needing no network


@dataclass
class DataSettings:
    """The texts.

    Args:
        source: Where the texts come from: a dataset on the Hugging Face Hub such as `stanfordnlp/imdb`, a
            local dataset folder, or `sample`, the embedded reviews. Not read if `train_path` is given.
        subset: Name of the Hub dataset's subset (its configuration), if it has several.
        train_split: Name of the Hub dataset's split to train on.
        validation_split: Name of the Hub dataset's split to evaluate on. Without one, a part of the
            training texts is held out (`validation_share`).
        train_path: File or glob to train on: .csv, .tsv, .jsonl, .json, .parquet, or .txt with one text per
            line.
        validation_path: File or glob to evaluate on; by default a part of the training texts is held out.
        text_column: Name of the column that holds the text, or of several, `[subject, body]`, which are
            joined in this order into one text. With `layout: truncate`, the longest one is cut first.
        text_separator: What stands between the values of several text columns. By default a line break: it
            adds no word of its own, and so it is how people write a subject and a body. BERT's tokenizers
            read it as a space. (`\\n` in a shell is a line break, too.)
        column_names: Put each text column's name before its value, `subject: ...`. The names are never cut.
        pair_column: Name of the column of second texts, so that the settings of `fit` can be used as they
            are: here it is one more column to join.
        group_column: Name of a column of what texts have in common, such as their author, thread or product.
            Texts of a group are never divided between training and validation, if that is held out; groups
            that given splits share are counted in a warning. One of several text columns may be it, as the
            query of pairs.
        validation_share: Share of the training texts held out for evaluation, if no other texts are given.
            Equal texts stay on one side.
        split_seed: Chooses which texts are held out. It is separate from the run's seed, so that runs with
            different seeds are evaluated on the same texts.
        unescape: Undo the escapes of `yelp_review_full`: a backslash and an n become a line break, a
            backslash and a quote become a quote.
        strip_html_breaks: Turn `<br />` into a line break.
        on_empty: What to do with rows without text: drop them (counted in a warning), or stop.
        layout: `pack` joins the texts and cuts them into full blocks, so that nothing is padded;
            `truncate` keeps one text per row, cut at `max_tokens`, and groups rows of similar length.
        max_tokens: Tokens per block, or of the longest row; special tokens included.
        mask_probability: Share of the tokens to predict. Of these, 80 % are masked, 10 % replaced by a
            random token, and 10 % left unchanged.
        whole_words: Choose whole words and mask all their pieces, instead of single pieces.
        batch_size: Rows per training step, on each device.
        eval_batch_size: Rows per evaluation step, on each device.
        num_workers: Processes that prepare batches during training; 0 prepares them in the training process.
    """

    source: str | None = None
    subset: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    train_path: str | None = None
    validation_path: str | None = None
    text_column: list[str] | str = "text"
    text_separator: str = "\n"
    column_names: bool = False
    pair_column: str | None = None
    group_column: str | None = None
    validation_share: float = 0.05
    split_seed: int = 0
    unescape: bool = False
    strip_html_breaks: bool = False
    on_empty: Literal["drop", "stop"] = "drop"
    layout: Literal["pack", "truncate"] = "pack"
    max_tokens: int = 256
    mask_probability: float = 0.15
    whole_words: bool = False
    batch_size: int = 32
    eval_batch_size: int = 64
    num_workers: int = 0


@dataclass
class ModelSettings:
    """The model and its optimizer.

    Args:
        pretrained: The model to start from: a Hub name such as `bert-base-cased` (`name@revision` pins it), a
            model folder, `sample` (a tiny BERT made on the spot), or `sft:NAME`, the model of the newest
            `sft` run of that name. A folder without a masked-LM head gets a new one.
        allow_pickle: Read `pytorch_model.bin` if there is no `model.safetensors`. Only weights are read from
            it, by torch's restricted reader; still, use a pickle only from a source that you trust.
        learning_rate: AdamW's peak learning rate.
        weight_decay: AdamW's decoupled weight decay; it skips biases and normalisation weights.
        warmup_share: Share of all optimizer steps in which the learning rate rises from 0 to its peak. It
            then falls linearly to 0 at the last step.
        hidden_dropout: Dropout after the embeddings and in each layer; default: the encoder's own.
        attention_dropout: Dropout on attention weights; default: the encoder's own. 0 is faster.
    """

    pretrained: str = "sample"
    allow_pickle: bool = False
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    hidden_dropout: float | None = None
    attention_dropout: float | None = None


@dataclass
class Trial:
    """What `verify-resume` has a run do to itself.

    Attributes:
        epoch_steps: Optimizer steps of an epoch: the training rows beyond them are not used.
        signal: The number of a signal that the process sends itself; 0 for none.
        step: Optimizer steps taken before that signal.
    """

    epoch_steps: int
    signal: int = 0
    step: int = 0


@dataclass
class SftSettings:
    """A masked-LM fine-tuning run.

    Args:
        data: The texts.
        model: The model and its optimizer.
        seed_everything: The run's seed: a new head's weights, the order of the rows, their masks, dropout.
        name: The run's name; by default that of the first --config, or `default`.
        ckpt_path: The checkpoint to resume from: `last` for the newest one of this name, or a checkpoint
            folder.
        num_train_epochs: Number of passes over the texts; may be a fraction.
        max_steps: Stop after this many optimizer steps, whatever `num_train_epochs` says; -1 sets no limit.
        gradient_accumulation_steps: Batches per optimizer step.
        precision: `32-true` computes in float32; `bf16-mixed` multiplies in bfloat16, with the weights in
            float32. By default `bf16-mixed` if the hardware multiplies bfloat16 itself, else `32-true`.
        logging_steps: Optimizer steps between two points of the training curves.
        eval_strategy: When to evaluate during training: every `eval_steps`, at the end of each epoch, or not
            at all (`no`). The run always ends with an evaluation.
        eval_steps: Optimizer steps between two evaluations, if `eval_strategy` is `steps`.
        eval_on_start: Also evaluate before the first step, for a comparison of before and after.
        save_steps: Optimizer steps between two checkpoints. One is also saved at the end, and every 5 minutes
            if saving takes under 3 % of the time.
        save_total_limit: How many of the newest checkpoints to keep.
        probes: Texts with one or more [MASK]. The model's best candidates are written to TensorBoard after
            every evaluation, and to the console at the end of the run.
        on_nonfinite: What to do if the loss or a gradient of a step is not finite: stop, or skip the step and
            name its rows. With `skip` the run still stops after 5 such steps in a row, or when more than 1 %
            of its steps were skipped.
        on_full_disk: What to do if a checkpoint cannot be written: stop, or go on with the one before it.
        trainer_args: Any other field of TRL's SFTConfig, such as `{optim: adafactor}`.
    """

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    seed_everything: int = DEFAULT_SEED
    name: str | None = None
    ckpt_path: str | None = None
    num_train_epochs: float = 1.0
    max_steps: int = -1
    gradient_accumulation_steps: int = 1
    precision: Literal["32-true", "bf16-mixed"] | None = None
    logging_steps: int = 20
    eval_strategy: Literal["no", "steps", "epoch"] = "epoch"
    eval_steps: int = 500
    eval_on_start: bool = True
    save_steps: int = 500
    save_total_limit: int = 2
    probes: list[str] = field(default_factory=list)
    on_nonfinite: NonFinitePolicy = "stop"
    on_full_disk: FullDiskPolicy = "stop"
    trainer_args: dict[str, Any] = field(default_factory=dict)
    trial: Trial | None = field(default=None, init=False)  # of verify-resume; no setting


# What `--help` explains of the settings; the rest is in `--help_all`.
SHOWN = (
    *("seed_everything", "name", "ckpt_path", "num_train_epochs", "max_steps"),
    *("gradient_accumulation_steps", "precision", "eval_strategy", "eval_steps", "save_steps", "probes"),
    *("data.source", "data.train_path", "data.validation_path", "data.text_column"),
    *("data.validation_share", "data.layout", "data.max_tokens", "data.mask_probability"),
    *("data.whole_words", "data.batch_size", "data.num_workers"),
    *("model.pretrained", "model.learning_rate", "model.weight_decay", "model.warmup_share"),
    *("model.attention_dropout", "trainer_args"),
)
# Setting -> field of SFTConfig, with fit's name where fit has one.
TRAINER_FIELDS = {
    "data.batch_size": "per_device_train_batch_size",
    "data.eval_batch_size": "per_device_eval_batch_size",
    "data.num_workers": "dataloader_num_workers",
    "model.learning_rate": "learning_rate",
    "model.weight_decay": "weight_decay",
    "model.warmup_share": "warmup_steps",  # transformers 5 takes a number below 1 as a share
    "seed_everything": "seed",
    "num_train_epochs": "num_train_epochs",
    "max_steps": "max_steps",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "precision": "bf16",
    "logging_steps": "logging_steps",
    "eval_strategy": "eval_strategy",
    "eval_steps": "eval_steps",
    "eval_on_start": "eval_on_start",
    "save_steps": "save_steps",
    "save_total_limit": "save_total_limit",
}
# Fields of SFTConfig that other settings decide, which trainer_args must not give.
DECIDED = {
    **{name: f"--{setting}" for setting, name in TRAINER_FIELDS.items()},
    "output_dir": "--name",
    "overwrite_output_dir": "nothing: every run has a folder of its own",
    "resume_from_checkpoint": "--ckpt_path",
    "train_sampling_strategy": "--data.layout",
    "logging_dir": "--name",
    "run_name": "--name",
    "report_to": "nothing: TensorBoard always gets the curves",
    "do_eval": "--eval_strategy",
}
SFT_BOUNDS = {
    **BOUNDS,
    "data.mask_probability": SHARE,
    "num_train_epochs": (ABOVE_0, math.inf),
    "gradient_accumulation_steps": COUNT,
    "logging_steps": COUNT,
    "eval_steps": COUNT,
    "save_steps": COUNT,
    "save_total_limit": COUNT,
}


def value_of(settings: SftSettings, key: str) -> Any:
    """The value behind a key such as `data.batch_size`."""
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def all_keys() -> list[str]:
    """The key of every setting, such as `data.batch_size` or `name`."""
    groups = {"data": DataSettings, "model": ModelSettings}
    nested = [f"{group}.{f.name}" for group, cls in groups.items() for f in fields(cls)]
    return nested + [f.name for f in fields(SftSettings) if f.init and f.name not in groups]


def check_numbers(settings: SftSettings) -> None:
    """Refuse numbers that no run could use."""
    check_bounds({key: value_of(settings, key) for key in SFT_BOUNDS}, SFT_BOUNDS)
    if settings.max_steps < 1 and settings.max_steps != -1:
        raise UserError(f"expected max_steps of at least 1, or -1 for no limit, found {settings.max_steps}")


def trainer_settings(settings: SftSettings, resumed: bool) -> dict[str, Any]:
    """The fields of SFTConfig that follow from the settings.

    Args:
        settings: The parsed and checked settings.
        resumed: Whether the run resumes from a checkpoint.
    """
    for name, value in settings.trainer_args.items():
        if name in DECIDED:
            raise UserError(f"trainer_args.{name}={value!r} has a setting of its own; use {DECIDED[name]}")
    values = {name: value_of(settings, key) for key, name in TRAINER_FIELDS.items()}
    values["bf16"] = settings.precision == "bf16-mixed"
    values["eval_on_start"] = settings.eval_on_start and not resumed  # transformers repeats it on a resume
    # Packed rows all have the same length: there is nothing to group.
    values["train_sampling_strategy"] = "random" if settings.data.layout == "pack" else "group_by_length"
    values["disable_tqdm"] = False  # transformers would decide by its log level
    return {**values, **settings.trainer_args}
