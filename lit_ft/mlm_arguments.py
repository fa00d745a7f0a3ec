"""The arguments of masked-LM training: TRL's SFTConfig, with what fits and without what would be ignored."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import torch
from transformers import TrainingArguments
from trl import SFTConfig

from lit_ft.errors import UserError

# TRL 1.16 (sft_config.py, base_config.py) sets these for language models of billions of parameters.
DEFAULTS: dict[str, Any] = {
    "activation_checkpointing": False,
    "bf16": False,
    "learning_rate": 5e-5,
    "report_to": "none",
}

# What MaskedLMTrainer relies on.
REQUIRED: dict[str, Any] = {
    "dataset_kwargs": {"skip_prepare_dataset": True},
    "remove_unused_columns": False,
    "include_num_input_tokens_seen": "non_padding",  # survives a resume; TRL's own num_tokens does not
    "average_tokens_across_devices": True,
    "logging_nan_inf_filter": False,  # it hides what check_finite looks at, and waits for the GPU each batch
}

# SFTConfig's own fields are about causal models and chat data: here they would be ignored without a word.
CAUSAL_ONLY = ({f.name for f in fields(SFTConfig)} - {f.name for f in fields(TrainingArguments)}) | {
    "label_smoothing_factor",
    "use_liger_kernel",
}
CAUSAL_ONLY -= {"activation_offloading"}
INSTEAD = {
    "max_length": "--data.max_tokens",
    "packing": "--data.layout",
    "dataset_text_field": "--data.text_column",
    "model_init_kwargs": "--model.pretrained",
}


def check_devices(args: TrainingArguments) -> None:
    """Refuse several GPUs in one process: torch's DataParallel would take them, and miscount the tokens."""
    if args.n_gpu > 1:
        raise UserError(
            f"expected one GPU a process, found {args.n_gpu}; start with "
            f"`torchrun --nproc_per_node {args.n_gpu} -m lit_ft sft ...` or set CUDA_VISIBLE_DEVICES=0"
        )


def training_arguments(output_dir: str, settings: dict[str, Any]) -> SFTConfig:
    """SFTConfig for MaskedLMTrainer: `settings` over our DEFAULTS over TRL's.

    Args:
        output_dir: Where the checkpoints go.
        settings: Fields of SFTConfig; one that is unknown, or means nothing to a masked LM, is refused.
    """
    known = {f.name for f in fields(SFTConfig) if f.init}
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise UserError(f"expected fields of TRL's SFTConfig in trainer_args, found '{name}'{hint}")
        if name in CAUSAL_ONLY or name in REQUIRED:
            instead = f"use {INSTEAD[name]}" if name in INSTEAD else "remove it"
            raise UserError(
                f"trainer_args.{name}={settings[name]!r} means nothing to masked-LM training; {instead}"
            )
    defaults = {
        **DEFAULTS,
        "dataloader_pin_memory": torch.cuda.is_available(),  # without a GPU torch only warns
        "use_cpu": not torch.accelerator.is_available(),  # else transformers refuses bfloat16 on a CPU
    }
    if (
        "gradient_checkpointing" in settings
    ):  # the older name, which transformers 5.23 drops where both are set
        defaults["activation_checkpointing"] = settings["gradient_checkpointing"]
    return SFTConfig(output_dir=output_dir, **{**defaults, **settings, **REQUIRED})
