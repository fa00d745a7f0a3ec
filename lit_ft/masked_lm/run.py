"""One masked-LM run from its settings to its results: `sft` after the command line is parsed."""

import logging
import os
import re
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate.utils import broadcast_object_list
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState, set_seed
from trl import SFTConfig

from lit_ft import runs
from lit_ft.console import say, silence_writer_threads, warn
from lit_ft.errors import UserError
from lit_ft.launcher import global_rank, number_of
from lit_ft.machine import automatic_precision, bfloat16_advice, command_line, device_type, provenance
from lit_ft.masked_lm.arguments import (
    check_devices,
    check_hardware,
    check_loader,
    check_optimizer,
    training_arguments,
)
from lit_ft.masked_lm.candidates import Probes, check_probes
from lit_ft.masked_lm.checkpoints import SaveByClock
from lit_ft.masked_lm.data import prepare_rows
from lit_ft.masked_lm.gains import WordLosses
from lit_ft.masked_lm.masking import (
    MaskingCollator,
    check_architecture,
    check_masked_lm,
    check_masks,
    tell_of_words,
)
from lit_ft.masked_lm.progress import EvaluationLines, RunBar
from lit_ft.masked_lm.resume import (
    PREFIX,
    STATE,
    check_resume,
    find_start,
    fingerprint,
    is_sealed,
    newest_checkpoint,
)
from lit_ft.masked_lm.settings import SAMPLE_CONFIG, SftSettings, Trial, trainer_settings
from lit_ft.masked_lm.stopping import StopOnSignal
from lit_ft.masked_lm.tracking import FiguresFirst, TensorBoardWriter
from lit_ft.masked_lm.trainer import MaskedLMTrainer
from lit_ft.masked_lm.trial import try_masked_lm
from lit_ft.models.checks import check_max_tokens, take_padding_token
from lit_ft.models.load import Pretrained, quiet, set_dropout
from lit_ft.reliability import run_owner
from lit_ft.reliability.processes import is_lost, leave_lost, refuse_taken_port
from lit_ft.reliability.signals import interrupted
from lit_ft.report.tensorboard import command_text
from lit_ft.settings.arguments import configs_dir
from lit_ft.settings.config_file import places_of
from lit_ft.speed import host
from lit_ft.speed.attention import attend_in_pieces


def run(settings: SftSettings, resolved: str, given: Sequence[str]) -> int:
    """Train, evaluate, and write the run folder.

    Args:
        settings: The parsed and checked settings.
        resolved: The same as YAML, for `config.yaml`.
        given: The command line after `sft`.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the run early.
    """
    begun = time.monotonic()
    _quiet()
    assert settings.name is not None
    settled = fingerprint(resolved)
    start = find_start(settings.name, settings.ckpt_path, resolved)
    if start is not None:
        if global_rank() == 0:
            run_owner.own(start.run)
        say(f"resuming at step {start.step} of {start.total} from {start.checkpoint}")
    if settings.precision is None:  # a resumed run keeps its precision
        device = device_type("cpu" if settings.trainer_args.get("use_cpu") else "auto")
        settings.precision = automatic_precision(device) if start is None else start.precision
        resolved = re.sub(
            "^precision: null$", f"precision: {settings.precision}", resolved, flags=re.MULTILINE
        )
    args = _arguments(settings, resumed=start is not None)
    check_devices(args)
    check_hardware(args)
    told = global_rank(), max(1, number_of("WORLD_SIZE"))
    if told != (args.process_index, args.world_size):
        raise UserError(
            f"expected process {told[0]} of {told[1]} from RANK and WORLD_SIZE, found "
            f"{args.process_index} of {args.world_size}; start with "
            "`torchrun --nproc_per_node N -m lit_ft sft ...`"
        )
    if advice := bfloat16_advice(settings.precision, "--precision", args.device.type):
        warn(advice)
    if start is not None:
        check_resume(start, resolved, args.world_size)
    source = settings.model.pretrained if start is None else str(start.checkpoint)
    allow_pickle = settings.model.allow_pickle and start is None  # ours are safetensors
    pretrained = Pretrained.of(source, sample_config=SAMPLE_CONFIG, allow_pickle=allow_pickle)
    pretrained.refuse_pickle()
    with args.main_process_first(desc="reading and tokenising"):  # the others then find it in the cache
        config = pretrained.config
        check_architecture(config, source)
        tokenizer = pretrained.tokenizer()
        check_masked_lm(config, tokenizer, source)
        check_max_tokens(config, settings.data.max_tokens, tokenizer)
        take_padding_token(config, tokenizer, source)
        check_probes(settings.probes, tokenizer, config)
        places = places_of(list(given))
        for name in ("hidden_dropout", "attention_dropout"):
            if (value := getattr(settings.model, name)) is not None:
                set_dropout(config, name, value, places.get(f"model.{name}"))
        collator = MaskingCollator(
            tokenizer,
            probability=settings.data.mask_probability,
            whole_words=settings.data.whole_words,
            seed=settings.seed_everything,
        )
        rows = prepare_rows(settings.data, tokenizer)
        check_masks(rows.validation, collator.fixed())
        if settings.data.whole_words:
            tell_of_words(rows.train, collator)
        set_seed(settings.seed_everything)  # initialises the weights of a new head
        model, missing = pretrained.masked_lm()
    attend_in_pieces(model)
    host.prepare(args.device)
    if missing:
        warn(f"{source} lacks {len(missing)} weights of the masked-LM head: they are initialised at random")

    if start is None:
        try_masked_lm(model, collator, rows.train, settings.data.layout, source)
    folder = _new_run(settings.name, args) if start is None else start.run
    if start is None:
        say(f"run: {folder} (watch it: tensorboard --logdir runs)")
    args.output_dir = str(folder / runs.CHECKPOINTS)
    if args.process_index == 0:
        runs.write(folder / runs.CONFIG, resolved)
        run_owner.note_job(folder, settled)
    command, seed = command_line(["sft", *given], configs_dir()), settings.seed_everything
    origin = provenance(command, seed, args.device.type, args.world_size)
    texts = command_text(command, origin["hardware"], origin["versions"])
    stop, board = StopOnSignal(), TensorBoardWriter(folder, yaml.safe_load(resolved), texts)
    probes = Probes(settings.probes, tokenizer, board) if settings.probes else None
    callbacks = [
        FiguresFirst(),
        SaveByClock(),
        stop,
        board,
        EvaluationLines(),
        *([probes] if probes else []),
    ]
    train = rows.train
    if trial := settings.trial:
        batch = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        train = train.select(range(min(len(train), trial.epoch_steps * batch)))
        callbacks.append(SignalAtStep(trial))
    trainer = MaskedLMTrainer(
        model, args, tokenizer, collator, train, rows.validation, callbacks, settings.on_nonfinite
    )
    trainer.on_full_disk = settings.on_full_disk
    for bar in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(bar)
    progress = RunBar()
    if not args.disable_tqdm:
        trainer.add_callback(progress)
    try:
        with trainer.memory.named("--gradient_accumulation_steps"):
            if start is not None and start.step == start.total:
                _take_up_finished(trainer, start.checkpoint)
            else:
                trainer.train(resume_from_checkpoint=None if start is None else source)
            if not stop.signals.agreed:
                from lit_ft.masked_lm.results import leave_results  # imports matplotlib

                took = time.monotonic() - begun
                leave_results(trainer, settings, folder, tokenizer, rows, origin, took, probes)
            else:
                step = trainer.state.global_step
                saved = folder / runs.CHECKPOINTS / f"{PREFIX}{step}"
                left = f"saved in {saved}" if is_sealed(saved) else "which could not be saved"
                warn(stop.signals.stopped(step, left))
    except KeyboardInterrupt:  # the second signal
        progress.close()
        warn(interrupted(trainer.state.global_step, newest_checkpoint(folder / runs.CHECKPOINTS)))
        return 128 + signal.SIGINT
    except RuntimeError as error:
        if is_lost(error):
            progress.close()
            leave_lost(error)
        raise
    finally:
        stop.signals.give_back()
        progress.close()
        board.close()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return stop.signals.exit_code


class SignalAtStep(TrainerCallback):
    """Sends this process a trial's signal before an optimizer step, once."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self._sent = trial.signal == 0

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Send the signal."""
        if state.global_step == self.trial.step and not self._sent:
            self._sent = True
            os.kill(os.getpid(), self.trial.signal)


def _quiet() -> None:
    """Show our own lines, the bars and errors, and nothing else."""
    quiet()
    silence_writer_threads()
    for name in ("accelerate", "trl", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(torch|transformers|accelerate|trl)\..*")


def _arguments(settings: SftSettings, resumed: bool) -> SFTConfig:
    """Build SFTConfig, with its errors as one line; its folder is set when data and model are loaded."""
    values = trainer_settings(settings, resumed)
    try:
        args = training_arguments(str(runs.RUNS), values)
        check_optimizer(args)
        check_loader(args)
        return args
    except UserError:
        raise
    except (ImportError, OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        refuse_taken_port(error)
        given = ", ".join(f"trainer_args.{name}={value!r}" for name, value in settings.trainer_args.items())
        advice = f"; change or remove {given}" if given else ""
        raise UserError(f"trainer settings: {str(error).rstrip('. ')}{advice}") from error


def _take_up_finished(trainer: MaskedLMTrainer, checkpoint: Path) -> None:
    """Take over the state of a training that had ended already; its weights are in the model.

    transformers 5.23 (trainer.py, _run_epoch) would train one step too many if `max_steps` had ended it.
    """
    trainer.state = TrainerState.load_from_json(str(checkpoint / STATE))
    trainer.state.is_world_process_zero = trainer.is_world_process_zero()
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, (Probes, WordLosses)):
            callback.restore(trainer.state)
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is not None:
        trainer._load_best_model()


def _new_run(name: str, args: SFTConfig) -> Path:
    """A new run folder: process 0 makes it and tells the others."""
    told: list[Any] = [None]
    if args.process_index == 0:
        folder = runs.new_run(name)
        run_owner.own(folder)
        told = [str(folder)]
    return Path(broadcast_object_list(told)[0])
