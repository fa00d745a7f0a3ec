"""`fit`, `validate`, `test` and `predict`: Lightning's CLI with our data and model, and a run's results."""

import argparse
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from lit_ft import hub, runs
from lit_ft.classifier import baselines, batch_settings, estimate, own_callbacks, trainer_settings
from lit_ft.classifier.blame import is_check, of_class, told
from lit_ft.classifier.callbacks import Tracking, check_defined, mode_of
from lit_ft.classifier.checkpoints import RunSettings, StepSeed, disk_errors, with_checkpoint_io
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.nonfinite import FiniteSteps
from lit_ft.classifier.optim import check_evaluation, check_schedule
from lit_ft.classifier.parser import SHOWN, TRAINER_DEFAULTS, Parser, add_groups, link_groups
from lit_ft.classifier.predictions import prediction_writer
from lit_ft.classifier.progress import RunBar
from lit_ft.classifier.results import leave_results, print_table, record_evaluation
from lit_ft.classifier.resume import (
    locate,
    open_checkpoint,
    rebuild,
    refuse_weights_alone,
    restored,
    take_over_settings,
    taken_over,
)
from lit_ft.classifier.stopping import MemoryGuard, check_processes, ending_together, refuse_lightnings_nodes
from lit_ft.classifier.tracking import RunLogger, loggers, take_back
from lit_ft.classifier.trial import check_strategy, refuse_special_tokens, try_classifier
from lit_ft.console import say, silence_libraries, warn
from lit_ft.errors import UserError, as_user_error
from lit_ft.launcher import global_rank
from lit_ft.machine import automatic_precision, bfloat16_advice, command_line, device_type, provenance
from lit_ft.models.checks import check_max_tokens
from lit_ft.models.load import Pretrained, pin
from lit_ft.models.names import needs_hub
from lit_ft.reliability import run_owner
from lit_ft.reliability.checkpoints import lasting, refuse_other_settings
from lit_ft.settings import flags
from lit_ft.settings.arguments import configs_dir, without_flags
from lit_ft.settings.bounds import check_bounds
from lit_ft.settings.config_file import places_of
from lit_ft.speed import unpadded

RUN_VARIABLE = "LIT_FT_RUN"  # tells the processes that Lightning starts their run folder


class ReviewCLI(LightningCLI):
    """One command over `YelpDataModule` and `BertClassifier`.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        args: The command line after it, with every config resolved to a file.
        into: The run folder of a fit, in place of the next `version_<n>`.
        more: Callbacks beside those of the settings, which `config.yaml` does not have.
    """

    def __init__(
        self, command: str, args: list[str], into: Path | None = None, more: Sequence[Callback] = ()
    ) -> None:
        self.command = command
        self.command_args = args
        self.begun = time.monotonic()
        self.run: Path | None = None
        self.into, self.more = into, more
        self.checkpoint: dict[str, Any] | None = None
        self.checkpoint_path: Path | None = None
        self.memory = MemoryGuard()
        with self.memory.named("--trainer.accumulate_grad_batches"):
            super().__init__(
                BertClassifier,
                YelpDataModule,
                parser_class=Parser,
                parser_kwargs={
                    "prog": "python -m lit_ft",
                    command: flags.introduction(command, SHOWN[command]),
                },
                save_config_callback=None,
                seed_everything_default=flags.DEFAULT_SEED,
                auto_configure_optimizers=False,
                trainer_defaults=TRAINER_DEFAULTS,
            )

    # ---- the command line ----------------------------------------------------------------------

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that runs, because each parser takes a second to build."""
        # We pass these to the Trainer ourselves. weights_only: checkpoints are never unpickled as code.
        ours = {"ckpt_path", "verbose", "return_predictions", "weights_only"}
        return {self.command: LightningCLI.subcommands()[self.command] | ours}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our own flags, in place of Lightning's `--seed_everything: bool | int`."""
        for name, text in flags.OWN_FLAGS.get(self.command, {}).items():
            # --estimate has no default, so that no config of fit holds a key that other commands lack.
            default = argparse.SUPPRESS if self.command == "fit" else False
            parser.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=default, help=text)
        flags.add_run_flags(parser)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our groups before the Trainer's."""
        add_groups(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Link the settings that two places share."""
        link_groups(parser)

    def _parse_ckpt_path(self) -> None:
        config = self.config[self.command]
        self.estimating = bool(config.get("estimate"))
        if self.estimating:
            estimate.check(config)
        trainer_settings.as_plain_values(config.trainer)  # the settings are written as YAML later
        self._find_checkpoint()
        trainer_settings.check_trainer_settings(config.trainer, self.command_args, self.command)
        if not trainer_settings.has_precision_plugin(config.trainer):
            device = device_type(config.trainer.accelerator)
            config.trainer.precision = config.trainer.precision or automatic_precision(device)
        if self.command == "fit":
            batch_settings.check_unpadded(config.data, config.model.compile)

    def _find_checkpoint(self) -> None:
        # Lightning 2.6.6 (cli.py) would let the checkpoint's hyper-parameters override YAML and flags.
        config = self.config[self.command]
        check_bounds({"seed_everything": config.seed_everything})
        refuse_lightnings_nodes(config.trainer.num_nodes, config.trainer.plugins)
        config.model.pretrained = config.data.tokenizer = pin(config.model.pretrained)
        self.name = flags.run_name(config.name, self.command_args)
        if self.estimating:  # not of the run that SLURM may have asked to resume
            return
        ckpt_path, path = config.ckpt_path or (None if self.command == "fit" else "best"), None
        if self.command == "fit":
            self.fingerprint = run_owner.fingerprint(lasting(self._settings()))
            if run_owner.is_requeued() and ckpt_path in (None, "last") and self.into is None:
                own = run_owner.runs_of_job(self.name, self.fingerprint)
                path = locate(self.name, "last", self.command, among=own)
                if path is None and ckpt_path is None:
                    say(run_owner.nothing_to_resume(self.name))
        if path is None and ckpt_path is None:
            return
        asked = config.ckpt_path is not None
        path = path or locate(self.name, str(ckpt_path), self.command, asked)
        if path is None:
            say(f"no checkpoint '{ckpt_path}' in {runs.RUNS / self.name}: starting fresh")
            return
        found = ckpt_path in (None, "best", "last")  # locate has verified its checksums already
        self.run = runs.run_of(path)
        if self.command == "fit" and self.run is not None and global_rank() == 0:
            run_owner.own(self.run)
        self.checkpoint, self.checkpoint_path = open_checkpoint(path, verified=found), path
        if self.command == "fit":
            then = self.checkpoint["settings"]["trainer"]["precision"]  # a run keeps its precision
            config.trainer.precision = config.trainer.precision or then
            refuse_weights_alone(self.checkpoint, path)
            refuse_other_settings(self.checkpoint, self._settings(), path)
            step, total = self.checkpoint["global_step"], self.checkpoint["num_training_steps"]
            say(f"resuming at step {step} of {total} from {path}")
        else:
            say(f"checkpoint: {path} (step {self.checkpoint['global_step']})")
            with restored(path):
                take_over_settings(self.checkpoint, path, config, self.command_args)
                self.parser.validate(self.config)

    def _dump(self) -> str:
        """The resolved config as YAML, which repeats the run."""
        config = self.config[self.command].clone()
        config.name = self.name
        for name in ("ckpt_path", "estimate"):
            config.pop(name, None)
        return self._parser(self.command).dump(config, skip_none=False, format="yaml")

    def _settings(self) -> dict[str, Any]:
        """The settings that a checkpoint stores, as plain values."""
        values = yaml.safe_load(self._dump())
        return {key: values[key] for key in ("seed_everything", "monitor", "data", "model", "trainer")}

    # ---- building --------------------------------------------------------------------------------

    def instantiate_classes(self) -> None:
        """Build data, weights, run folder and trainer, in this order: a mistake leaves nothing behind."""
        config = self.config[self.command]
        try:
            self.config_init = self.parser.instantiate_classes(self.config)
        except UserError:
            raise
        except (ImportError, TypeError, ValueError) as error:
            if (mistake := of_class(error)) is None:
                raise
            raise mistake from error

        self.callbacks = own_callbacks.as_list(self.config_init[self.command].trainer.callbacks)
        own_callbacks.check_callbacks(self.callbacks, config.trainer, self.command)
        self.datamodule: YelpDataModule = self.config_init[self.command].data
        self.model: BertClassifier = self.config_init[self.command].model
        from_hub = self.checkpoint is None and needs_hub(config.model.pretrained)
        if from_hub or self.datamodule.reads_hub(self.command):
            hub.go_offline_if_unreachable()
        self.start: dict[str, Any] = {"ckpt_path": self.checkpoint_path, "weights_only": True}
        if self.checkpoint is not None:
            rebuild(self.checkpoint, self.checkpoint_path, self.datamodule, self.model)
            check_max_tokens(self.model.net.config, config.data.max_tokens)
        else:
            pretrained = Pretrained.of(config.model.pretrained, allow_pickle=config.model.allow_pickle)
            pretrained.refuse_pickle()  # before the texts are read, and so is a wrong dropout
            self.datamodule.pretrained = self.model.start_from(pretrained, places_of(self.command_args))
        self.datamodule.setup(self.command)
        if self.checkpoint is None:
            data = self.datamodule
            self.model.build(data.labels, data.class_counts(), len(data.splits["train"].rows), data.tokenizer)
            try_classifier(self.model.net, self.datamodule, config.model.pretrained)
        refuse_special_tokens(self.model.net, self.datamodule)
        if (how := config.model.decide) != "mode":
            say(f"decided: {self.model.task.decisions[how]} (model.decide={how}), not the likeliest one")
        new = self.command == "fit" and self.run is None
        if new:
            flags.warn_of_sample_encoder(config, self.command_args)
            self.run = None if self.estimating else self._new_run()
        try:
            self.trainer = self.instantiate_trainer()
            trainer_settings.check_built(self.trainer, config.trainer)
            check_processes(self.trainer)
            check_strategy(self.model.net, self.trainer)
            device = self.trainer.strategy.root_device.type
            if advice := bfloat16_advice(self.trainer.precision, "--trainer.precision", device):
                warn(advice)
            if self.command == "fit":
                check_schedule(self.trainer, self.datamodule)
                unpadded.check_compile(config.model.compile, self.model.net, self.trainer)
            elif self.command in ("validate", "test"):
                check_evaluation(self.trainer, self.datamodule, self.command)
        except Exception as error:
            if new and self.run is not None and global_rank() == 0:
                run_owner.give_up(self.run)
            if isinstance(error, (MisconfigurationException, ValueError, TypeError)) or is_check(error):
                raise as_user_error(error) from error
            raise
        if new and self.run is not None:
            watch = " (watch it: tensorboard --logdir runs)" if config.trainer.logger is not False else ""
            say(f"run: {self.run}{watch}")

    def _new_run(self) -> Path:
        """The folder of this run: made by process 0, which tells the processes that Lightning starts."""
        if global_rank() != 0:  # with torchrun, Lightning broadcasts the path from process 0
            return Path(os.environ.get(RUN_VARIABLE, runs.RUNS / self.name))
        if self.into is not None:
            self.into.mkdir(parents=True)
        run = self.into or runs.new_run(self.name)
        run_owner.own(run)
        os.environ[RUN_VARIABLE] = str(run)
        return run

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with our callbacks and the user's."""
        settings, config = self.config[self.command], self.config_init[self.command].trainer
        plugins = with_checkpoint_io(config.plugins, settings.on_full_disk)
        if self.estimating:
            return self._estimating_trainer(settings, {**config, "plugins": plugins})
        callbacks: list[Any] = [self.memory, *self.callbacks]
        if self.command == "fit" and config.max_time is not None:
            # Lightning would put it after our callbacks, which need its decision.
            callbacks.append(Timer(config.max_time))
            own_callbacks.check_duration(callbacks[-1])
        theirs = any(isinstance(callback, ProgressBar) for callback in self.callbacks)
        if config.enable_progress_bar is not False and not theirs:
            callbacks.append(RunBar())
        if self.command == "fit":
            assert self.run is not None and self.datamodule.labels is not None
            given, kept = command_line([self.command, *self.command_args], configs_dir()), self._settings()
            asked = [settings.monitor, *(getattr(callback, "monitor", None) for callback in self.callbacks)]
            check_defined(asked, self.model.kind, self.datamodule.splits["validation"])
            names = settings.monitor, kept, given, settings.on_nonfinite, self.datamodule.labels
            self.tracking = Tracking(self.run, *names, callbacks[1:], self.checkpoint)
            callbacks += [StepSeed(settings.seed_everything)]
            callbacks += self.more
            callbacks += [RunSettings(kept, self._dump(), self.run / runs.CONFIG), *self.tracking.callbacks()]
        elif self.command == "predict":
            self.model.calibrate = settings.calibrate
            place = settings, self.run, self.checkpoint_path
            self.writer = prediction_writer(*place, self.model, self.datamodule)
            callbacks.append(self.writer)
        logger: Any = config.logger if config.logger is not True else False
        if self.run is not None and self.command == "fit":
            logger = loggers(config.logger, self.run, self.checkpoint)
        values = {**config, **kwargs, "callbacks": callbacks, "logger": logger or False, "max_time": None}
        values["default_root_dir"] = config.default_root_dir or self.run  # SLURM's plugin looks there
        values["plugins"] = plugins
        trainer = Trainer(**values)
        if self.command == "fit":
            device = trainer.strategy.root_device.type
            self.provenance = provenance(given, settings.seed_everything, device, trainer.world_size)
        return trainer

    def _estimating_trainer(self, settings: Any, values: dict[str, Any]) -> Trainer:
        """A trainer with the settings of the run that keeps nothing."""
        assert self.datamodule.labels is not None
        mode_of(settings.monitor, self.datamodule.labels)
        self.rehearsal = estimate.Rehearsal(self.begun)
        seed, finite = StepSeed(settings.seed_everything), FiniteSteps(settings.on_nonfinite)
        callbacks = [self.memory, seed, finite, self.rehearsal]
        return Trainer(**{**values, **estimate.NOTHING_KEPT, "callbacks": callbacks})

    def _given(self) -> list[Any]:
        """The user's own objects, which are named if one of them raises an error."""
        config = self.config_init[self.command].trainer
        plugins = config.plugins if isinstance(config.plugins, list) else [config.plugins]
        own = [logger for logger in self.trainer.loggers if not isinstance(logger, RunLogger)]
        timers = [callback for callback in self.trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        return [*self.callbacks, *timers, *own, self.trainer.profiler, *filter(None, plugins)]  # type: ignore[attr-defined]

    # ---- running -----------------------------------------------------------------------------------

    def fit(self, model: LightningModule, datamodule: LightningDataModule, **kwargs: Any) -> None:
        """Train; then write the metrics, the chart and the model folder of the best checkpoint."""
        if self.estimating:
            return self._estimate()
        assert self.run is not None
        if global_rank() == 0:
            run_owner.note_job(self.run, self.fingerprint)
        with self._giving_up(), disk_errors(self.run), ending_together(self.trainer):
            if global_rank() == 0 and self.config["fit"].baselines:
                place = self.run, self.trainer, self.model, self.datamodule
                self.tracking.dashboard.baselines = baselines.prepare(*place)
            try:
                with taken_over(self.checkpoint_path), told(self._given()):
                    self.trainer.fit(self.model, datamodule=self.datamodule, **self.start)
            except SystemExit as error:  # Lightning ends an interrupted run with exit code 1
                raise SystemExit(130) if self.tracking.preemption.interrupted else error from None
            except UserError:
                begun = self.trainer.fit_loop.epoch_loop.batch_progress.total.ready
                nothing = self.checkpoint is None and not begun
                nothing |= not (self.run / runs.CONFIG).is_file()  # which is written when training starts
                if nothing and self.trainer.is_global_zero:
                    take_back(self.run)
                raise
            self.tracking.save_last(self.trainer)
            self.tracking.preemption.stop_after_end(self.trainer)
            if self.trainer.is_global_zero:
                took = time.monotonic() - self.begun
                self.tracking.early_end.tell()
                leave_results(self.tracking, self.trainer, self.model, self.datamodule, self.provenance, took)

    def _estimate(self) -> None:
        """Train ten steps and say what the run will take."""
        with ending_together(self.trainer):
            try:
                self.trainer.fit(self.model, datamodule=self.datamodule)
            except SystemExit as error:
                if error.code == 1:  # Lightning's for Ctrl-C
                    raise KeyboardInterrupt from None
                if self.trainer.received_sigterm:
                    warn("stopped by SIGTERM: nothing is estimated")
                    raise SystemExit(143) from None
                raise
        left_out = estimate.left_out(self.config[self.command].trainer)
        for line in [*self.rehearsal.estimate(self.trainer, self.model).lines(), *left_out]:
            say(line)
        args = without_flags(self.command_args, "--estimate")
        say(f"next: {command_line([self.command, *args], configs_dir())}")

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Remove the folder of a run that fails before anything is written."""
        try:
            yield
        except Exception:
            if self.run is not None and global_rank() == 0:
                run_owner.give_up(self.run)
            raise

    def validate(self, model: LightningModule, datamodule: LightningDataModule, **kwargs: Any) -> None:
        """Measure the checkpoint on the validation split."""
        self._evaluate("val")

    def test(self, model: LightningModule, datamodule: LightningDataModule, **kwargs: Any) -> None:
        """Measure the checkpoint on the fold that its run left out, if any, and on the test split."""
        for split in self.datamodule.tested_splits():
            self.datamodule.tested = split
            self.model.measure(split)
            self._evaluate(split)

    def _evaluate(self, prefix: str) -> None:
        evaluate = self.trainer.validate if prefix == "val" else self.trainer.test
        with ending_together(self.trainer), told(self._given()):
            evaluate(self.model, datamodule=self.datamodule, verbose=False, **self.start)
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            say(f"fast_dev_run: {self.command} works; its metrics are from a few texts and were not saved")
            return
        assert self.checkpoint is not None and self.checkpoint_path is not None
        metrics: dict[str, Any] = {k: float(v) for k, v in self.trainer.callback_metrics.items()}
        if (matrix := self.model.confusion.get(tag := f"{prefix}/confusion_matrix")) is not None:
            metrics[tag] = matrix
        metrics[f"{prefix}/step"] = self.checkpoint["global_step"]
        if not self.trainer.is_global_zero:
            return
        if self.run is not None and (other := run_owner.owner(self.run)) is not None:
            print_table(prefix, metrics, self.model.scores, str(self.checkpoint_path))
            warn(f"{self.run} is being written by {other}: these metrics are shown, but not saved there")
        else:
            trained = self.checkpoint["settings"]
            place = self.run, prefix, self.model, self.datamodule
            known = None
            if self.run is not None and self.config[self.command].baselines:
                known = baselines.of_run(self.run, self.model.labels, self.model.kind.rivals)
            record_evaluation(*place, metrics, self.checkpoint_path, trained, known)

    def predict(self, model: LightningModule, datamodule: LightningDataModule, **kwargs: Any) -> None:
        """Write the predictions."""
        split = self.datamodule.splits["predict"]
        if len(split.rows):
            with ending_together(self.trainer), told(self._given()):
                start = {"return_predictions": False, **self.start}
                self.trainer.predict(self.model, None, self.datamodule, **start)
        elif self.trainer.is_global_zero:
            self.writer.write_header(split)
        say(f"predictions: {runs.shown(self.writer.path)}")
        if len(split.rows):
            say(f"predicted:   {self.writer.answers.summary()}")


def main(
    command: str, args: list[str], into: Path | None = None, more: Sequence[Callback] = ()
) -> int:
    """Run one of the four commands; `into` and `more` as in `ReviewCLI`."""
    silence_libraries()
    try:
        ReviewCLI(command, args, into, more)
    finally:
        run_owner.release()
    return 0
