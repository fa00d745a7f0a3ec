"""One masked-LM run from its settings to its results: what `sft` does once the command line is read."""

import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    ProgressCallback,
    TrainerState,
    set_seed,
)
from trl import SFTConfig

from lit_ft import hub, mlm_data, pretrained, runs
from lit_ft.candidates import print_candidates
from lit_ft.console import say, warn
from lit_ft.errors import UserError
from lit_ft.export import export_model, say_where
from lit_ft.loss_curve import draw_losses
from lit_ft.masking import MaskingCollator, check_masked_lm
from lit_ft.mlm_arguments import check_devices, training_arguments
from lit_ft.mlm_callbacks import StopOnSignal, TensorBoardWriter
from lit_ft.mlm_progress import MaskedLMProgress
from lit_ft.mlm_resume import STATE, check_resume, find_checkpoint, state_of
from lit_ft.mlm_trainer import MaskedLMTrainer
from lit_ft.probes import Probes, check_probes, fill_probes
from lit_ft.sft_settings import SftSettings, trainer_settings

SCALARS = ("loss", "masked_accuracy", "perplexity")


def run(settings: SftSettings, resolved: str) -> int:
    """Train, evaluate, and leave the run folder.

    Args:
        settings: As parsed and checked.
        resolved: The same as YAML, for `config.yaml`.

    Returns:
        The exit code: 0, or 128 and the number of the signal that ended the run early.
    """
    _quiet()
    assert settings.name is not None
    checkpoint = find_checkpoint(settings.name, settings.ckpt_path)
    if checkpoint is not None:
        step, total = state_of(checkpoint)
        say(f"resuming at step {step} of {total} from {checkpoint}")
    args = _arguments(settings, resumed=checkpoint is not None)
    check_devices(args)
    if checkpoint is not None:
        check_resume(checkpoint, resolved, args.world_size)
    source = settings.model.pretrained if checkpoint is None else str(checkpoint)
    if pretrained.needs_hub(source) or mlm_data.needs_hub(settings.data):
        hub.go_offline_if_unreachable()
    with args.main_process_first(desc="reading and tokenising"):  # the others then find it in the cache
        config = pretrained.load_config(source, mlm_data.SAMPLE_CONFIG)
        tokenizer = pretrained.load_tokenizer(source, mlm_data.SAMPLE_CONFIG)
        check_masked_lm(config, tokenizer, source)
        pretrained.check_max_tokens(config, settings.data.max_tokens)
        check_probes(settings.probes, tokenizer, config)
        for name in ("hidden_dropout", "attention_dropout"):
            if (value := getattr(settings.model, name)) is not None:
                pretrained.set_dropout(config, name, value)
        collator = MaskingCollator(
            tokenizer,
            probability=settings.data.mask_probability,
            whole_words=settings.data.whole_words,
            seed=settings.seed_everything,
        )
        train_rows, eval_rows = mlm_data.prepare_rows(settings.data, tokenizer)
        set_seed(settings.seed_everything)  # a new head draws its weights
        model, missing = pretrained.load_masked_lm(source, config, mlm_data.SAMPLE_CONFIG)
    if missing:
        warn(f"{source} lacks {len(missing)} weights of the masked-LM head: they start untrained")

    folder = _run_folder(settings.name, checkpoint, args)
    args.output_dir = str(folder / runs.CHECKPOINTS)
    if args.process_index == 0:
        (folder / runs.CONFIG).write_text(resolved, encoding="utf-8")
    stop, board = StopOnSignal(), TensorBoardWriter(folder)
    callbacks = [stop, board, *([Probes(settings.probes, tokenizer, board)] if settings.probes else [])]
    trainer = MaskedLMTrainer(model, args, tokenizer, collator, train_rows, eval_rows, callbacks)
    for bar in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(bar)
    if not args.disable_tqdm:
        trainer.add_callback(MaskedLMProgress())
    try:
        if checkpoint is not None and step == total:
            _take_up_finished(trainer, checkpoint)
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if stop.signal_received is None:
            _finish(trainer, settings, folder, model, tokenizer)
        else:
            step = trainer.state.global_step
            say(
                f"stopped by {signal.Signals(stop.signal_received).name} at step {step}, saved in "
                f"{folder / runs.CHECKPOINTS / f'checkpoint-{step}'}; go on with the same command and "
                "--ckpt_path last"
            )
    finally:
        board.close()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return stop.exit_code


def _quiet() -> None:
    """Leave our own lines, the bars and errors."""
    pretrained.quiet()
    for name in ("accelerate", "trl", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|accelerate|trl)\..*")


def _arguments(settings: SftSettings, resumed: bool) -> SFTConfig:
    """SFTConfig, its own complaints as one line; its folder is set once data and model are there."""
    values = trainer_settings(settings, resumed)
    try:
        return training_arguments(str(runs.RUNS), values)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"trainer settings: {error}") from error


def _take_up_finished(trainer: MaskedLMTrainer, checkpoint: Path) -> None:
    """Where training had ended already: its record; the weights came with the model.

    transformers 5.23 (trainer.py, _run_epoch) would train one step more, where `max_steps` ended it.
    """
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    trainer.state.is_world_process_zero = trainer.is_world_process_zero()


def _run_folder(name: str, checkpoint: Path | None, args: SFTConfig) -> Path:
    """The checkpoint's run, or a new one: made by the first process, told to the others."""
    if checkpoint is not None:
        folder = runs.run_of(checkpoint)
        assert folder is not None
        return folder
    told: list[Any] = [str(runs.new_run(name)) if args.process_index == 0 else None]
    return Path(broadcast_object_list(told)[0])


def _finish(
    trainer: MaskedLMTrainer,
    settings: SftSettings,
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Evaluate, then write `metrics.json`, `loss.png` and `model/`, and say what came out."""
    evaluated = [entry["step"] for entry in trainer.state.log_history if "val/loss" in entry]
    if trainer.state.global_step not in evaluated[-1:]:
        trainer.evaluate()
    if not trainer.is_world_process_zero():
        return
    log: list[dict[str, Any]] = trainer.state.log_history
    train = [entry for entry in log if "train/loss" in entry]
    validation = [entry for entry in log if "val/loss" in entry]
    metrics = {f"val/{name}": validation[-1][f"val/{name}"] for name in SCALARS}
    if validation[0]["step"] == 0:
        metrics |= {f"initial/{name}": validation[0][f"val/{name}"] for name in SCALARS}
    metrics |= {"step": trainer.state.global_step, "train/tokens_seen": trainer.state.num_input_tokens_seen}
    if train:
        metrics["train/loss"] = train[-1]["train/loss"]
    runs.add_metrics(folder, metrics)
    points = [{"epoch": entry["epoch"], "loss": entry["train/loss"]} for entry in train]
    draw_losses(folder / runs.LOSS_CURVE, points, validation)
    export_model(folder, model, model.state_dict(), tokenizer, tokenizer.model_max_length, "head")
    _print_results(metrics, train, folder)
    if settings.probes:
        say("")
        print_candidates(settings.probes, fill_probes(settings.probes, model, tokenizer))


def _print_results(metrics: dict[str, Any], train: list[dict[str, Any]], folder: Path) -> None:
    say(f"\nheld-out texts, after step {metrics['step']:,} (perplexity is of the masked tokens)")
    for name in SCALARS:
        before = metrics.get(f"initial/{name}")
        was = "" if before is None else f"   (before: {before:.4f})"
        say(f"  {f'val/{name}':<20} {metrics[f'val/{name}']:.4f}{was}")
    speeds = sorted(entry["train/tokens_per_second"] for entry in train)
    median = f", {speeds[len(speeds) // 2]:,.0f} a second (median)" if speeds else ""
    say(f"  tokens trained on    {metrics['train/tokens_seen']:,}{median}")
    say_where(folder)
