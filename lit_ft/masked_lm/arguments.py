"""TRL's SFTConfig for masked-LM training: refuses fields that would be ignored, or break a promise."""

from dataclasses import fields
from difflib import get_close_matches
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments, get_scheduler
from trl import SFTConfig

from lit_ft.errors import UserError
from lit_ft.settings.config_file import as_found
from lit_ft.settings.keys import type_words

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
    "include_num_input_tokens_seen": "non_padding",  # survives a resume, unlike TRL's own num_tokens
    "average_tokens_across_devices": True,
    "restore_callback_states_from_checkpoint": False,  # else a run that a signal stopped would stop again
    "logging_nan_inf_filter": False,  # it hides non-finite losses, and waits for the GPU in each batch
}

# SFTConfig's own fields are about causal models and chat data; here they would be silently ignored.
CAUSAL_ONLY = ({f.name for f in fields(SFTConfig)} - {f.name for f in fields(TrainingArguments)}) | {
    "label_smoothing_factor",
    "use_liger_kernel",
}
CAUSAL_ONLY -= {"activation_offloading"}
# Fields of TrainingArguments that our trainer does not use; they would be silently ignored as well.
CAUSAL_ONLY |= set(
    "batch_eval_metrics do_predict do_train eval_accumulation_steps eval_do_concat_batches "
    "eval_use_gather_object include_for_metrics label_names length_column_name liger_kernel_config "
    "prediction_loss_only use_cache".split()
)
# Fields that would break a promise of the run, unless they have their default -> why.
BREAKING = {
    "accelerator_config": "batches are shared so that the number of processes does not change the result",
    "auto_find_batch_size": "the run would have other steps than its settings say; lower --data.batch_size",
    "bf16_full_eval": "it would cast the weights themselves to bfloat16; use --precision=bf16-mixed",
    "dataloader_drop_last": "it would drop rows, also in evaluations",
    "dataloader_in_order": "the order of the batches would differ from run to run",
    "debug": "use --on_nonfinite, which finds the step and its rows",
    "enable_jit_checkpoint": "SIGTERM and Ctrl-C save a checkpoint already",
    "fp16_full_eval": "it would cast the weights themselves to float16; use --precision=bf16-mixed",
    "ignore_data_skip": "a resumed run would train on rows a second time",
    "local_rank": "torchrun sets it",
    "parallelism_config": "the model is not split over devices",
    "save_on_each_node": "only process 0 writes the run",
    "save_only_model": "such a checkpoint cannot be resumed; RUN/model holds the weights alone",
}
# Prefixes of fields that would upload the run.
SENDING = ("push_to_hub", "hub_", "trackio_", "project")
METRICS = ("loss", "masked_accuracy", "perplexity")
NEED_THE_MODEL = ("galore", "apollo", "lomo")  # optimizers that cannot be tried on a single weight
INSTEAD = {
    "max_length": "--data.max_tokens",
    "packing": "--data.layout",
    "dataset_text_field": "--data.text_column",
    "model_init_kwargs": "--model.pretrained",
}


def check_devices(args: TrainingArguments) -> None:
    """Refuse several GPUs in one process: torch's DataParallel would use them and miscount the tokens."""
    if args.n_gpu > 1:
        raise UserError(
            f"expected one GPU per process, found {args.n_gpu}; start with "
            f"`torchrun --nproc_per_node {args.n_gpu} -m lit_ft sft ...` or set CUDA_VISIBLE_DEVICES=0"
        )


def check_hardware(args: TrainingArguments) -> None:
    """Refuse what accelerate 1.15 would refuse after the run folder is made, or silently ignore."""
    if args.fsdp and args.world_size == 1:
        raise UserError(
            f"expected several processes for trainer_args.fsdp={args.fsdp!r}, found one; start with "
            "`torchrun --nproc_per_node N -m lit_ft sft ...` or remove it"
        )
    if args.fp16 and args.device.type == "cpu":
        raise UserError(
            "trainer_args.fp16=True: float16 needs a GPU, found none; remove it, or set --precision"
        )


def check_value(name: str, value: Any) -> Any:
    """The value of a field of SFTConfig in the field's type; YAML and flags give any value."""
    if value is False and name.endswith("_strategy"):  # as YAML reads a bare no
        value = "no"
    hint = next(f.type for f in fields(SFTConfig) if f.name == name)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=hint)
    try:
        return parser.parse_object({name: value})[name]
    except (ArgumentError, TypeError, ValueError):
        expected = type_words(hint)
        raise UserError(
            f"expected {expected} for trainer_args.{name}, found {as_found(str(value))}"
        ) from None


def check_metric(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with `metric_for_best_model` under transformers' name, and whether greater is better."""
    given = settings.get("metric_for_best_model")
    if given is None:
        return settings
    name = given.removeprefix("val/").removeprefix("eval_")
    if name not in METRICS:
        known = ", ".join(f"val/{metric}" for metric in METRICS)
        raise UserError(f"expected one of {known} for trainer_args.metric_for_best_model, found {given!r}")
    greater = {"greater_is_better": name == "masked_accuracy"}  # transformers only looks whether it is a loss
    return {**greater, **settings, "metric_for_best_model": f"eval_{name}"}


def check_optimizer(args: TrainingArguments) -> None:
    """Build optimizer and schedule for a single weight, so that their errors come before any work."""
    if any(part in str(args.optim) for part in NEED_THE_MODEL):
        return
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
    optimizer = kind([torch.nn.Parameter(torch.zeros(1, 1))], **options)
    kwargs: Any = args.lr_scheduler_kwargs
    get_scheduler(args.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=kwargs)


def check_loader(args: TrainingArguments) -> None:
    """Build a loader, so that its errors come before any work."""
    DataLoader(
        [0],  # type: ignore[arg-type]
        num_workers=args.dataloader_num_workers,
        multiprocessing_context=args.dataloader_multiprocessing_context,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor if args.dataloader_num_workers else None,
    )


def training_arguments(output_dir: str, settings: dict[str, Any]) -> SFTConfig:
    """SFTConfig for MaskedLMTrainer: `settings` override our DEFAULTS, which override TRL's.

    Args:
        output_dir: The folder of the checkpoints.
        settings: Fields of SFTConfig; unknown ones and those without a meaning for a masked LM are refused.
    """
    known = {f.name: f.default for f in fields(SFTConfig) if f.init}
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise UserError(f"expected fields of TRL's SFTConfig in trainer_args, found '{name}'{hint}")
        if name.startswith(SENDING):  # without its value, which may be a token
            raise UserError(
                f"trainer_args.{name}: nothing is sent anywhere; remove it, and upload RUN/model yourself"
            )
        if name in CAUSAL_ONLY or name in REQUIRED:
            instead = f"use {INSTEAD[name]}" if name in INSTEAD else "remove it"
            raise UserError(
                f"trainer_args.{name}={settings[name]!r} means nothing to masked-LM training; {instead}"
            )
    settings = {name: check_value(name, value) for name, value in settings.items()}
    for name, reason in BREAKING.items():
        if settings.get(name, known[name]) != known[name]:
            raise UserError(f"trainer_args.{name}={settings[name]!r}: {reason}; remove it")
    settings = check_metric(settings)
    defaults = {
        **DEFAULTS,
        "dataloader_pin_memory": torch.cuda.is_available(),  # without a GPU torch only warns
        "use_cpu": not torch.accelerator.is_available(),  # else transformers refuses bfloat16 on a CPU
    }
    if "gradient_checkpointing" in settings:  # the older name, which transformers 5.23 drops if both are set
        defaults["activation_checkpointing"] = settings["gradient_checkpointing"]
    return SFTConfig(output_dir=output_dir, **{**defaults, **settings, **REQUIRED})
