"""What `repeat` and `search` share: settings parsed once, texts read once, the machine divided."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from lit_ft import hub, runs
from lit_ft.classifier import trainer_settings
from lit_ft.classifier.batch_settings import check_unpadded
from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.loss import weights_of
from lit_ft.classifier.model import BertClassifier
from lit_ft.classifier.parser import SHOWN, Parser, add_groups, link_groups
from lit_ft.console import warn
from lit_ft.errors import UserError
from lit_ft.launcher import number_of, started_by
from lit_ft.machine import device_type, free_memory_gb, memory_gb
from lit_ft.models.load import Pretrained, pin
from lit_ft.models.names import needs_hub
from lit_ft.reliability import run_owner
from lit_ft.reliability.checkpoints import lasting
from lit_ft.reliability.jobs import Ended, Job, places, run_jobs
from lit_ft.settings.arguments import without_flags
from lit_ft.settings.bounds import check_bounds
from lit_ft.settings.config_file import keys_of_configs
from lit_ft.settings.flags import OWN_FLAGS, add_run_flags, introduction, run_name, warn_of_sample_encoder

PLAN, LOGS = "plan.json", "logs"  # in the folder of a repeat or a search
OF_THE_ENCODER = ("model.pretrained", "model.hidden_dropout", "model.attention_dropout")
OF_EACH_RUN = ("data.folds", "data.fold", "data.train_share")  # each run of a repeat has its own


@dataclass
class Start:
    """The settings that all runs start from, and the data that they read.

    Attributes:
        args: Flags of `fit`, with every config resolved to a file, without the command's own.
        config: The same, parsed.
        settings: Those that a result depends on, as plain values.
        name: Of the runs.
        data: The splits, read and tokenised.
        measured: What `test` measures of each run, as prefixes: `fold`, `test`, both or nothing.
    """

    args: list[str]
    config: Namespace
    settings: dict[str, Any]
    name: str
    data: YelpDataModule
    measured: tuple[str, ...]

    def fingerprint(self, more: Any) -> str:
        """A hash of the settings, of the data as it was read, and of `more`: other ones are other results."""
        read = {name: split.fingerprint for name, split in self.data.splits.items() if name != "fold"}
        return run_owner.fingerprint({"settings": self.settings, "data": read, "more": more})

    def check(self, config: Namespace, key: str) -> None:
        """Refuse what `fit` would refuse before it trains on these texts and labels.

        Args:
            config: Other settings of `fit`, parsed.
            key: The one that differs, such as `model.loss`.
        """
        group, labels = key.partition(".")[0], self.data.labels
        assert labels is not None
        if group == "data":
            check_unpadded(YelpDataModule(**config.data.as_dict()).hparams, config.model.compile)
        elif group == "trainer":
            trainer_settings.check_trainer_settings(config.trainer, self.args, "fit")
        elif group == "model":
            model = BertClassifier(**config.model.as_dict())
            model.check_settings(labels)
            counts, rows = self.data.class_counts(), len(self.data.splits["train"].rows)
            weights_of(config.model.class_weights, labels.names, counts, rows, labels.task)
            if key in OF_THE_ENCODER:
                pickle = config.model.allow_pickle
                model.start_from(Pretrained.of(config.model.pretrained, allow_pickle=pickle))


def make_parser(command: str, own: Mapping[str, tuple[Any, Any]]) -> Parser:
    """The parser of `fit`'s settings and of the command's own flags.

    Args:
        command: `repeat` or `search`.
        own: Flag -> its type and default; `OWN_FLAGS` has its help.
    """
    parser = Parser(prog="python -m lit_ft", **introduction(command, (*own, *SHOWN["fit"])))
    parser.add_argument("-c", "--config", action="config", help="A YAML file; later ones win.")
    for name, (kind, default) in own.items():
        parser.add_argument(f"--{name}", type=kind, default=default, help=OWN_FLAGS[command][name])
    add_run_flags(parser)
    add_groups(parser)
    link_groups(parser)
    return parser


def start(
    command: str,
    args: list[str],
    own: Mapping[str, tuple[Any, Any]],
    of_data: Callable[[Namespace], dict[str, Any]],
) -> Start:
    """Parse the settings, then read and tokenise the texts, which the runs find in the cache.

    Args:
        command: `repeat` or `search`.
        args: The command line after it, with every config resolved to a file.
        own: As in `make_parser`.
        of_data: The parsed settings -> settings of the data in place of the config's.

    Raises:
        UserError: A mistake at which each run would stop.
    """
    by = started_by()
    if by is not None and not (by[0] == "srun" and number_of("SLURM_NTASKS") == 1):
        raise UserError(
            f"{command} starts the processes of its runs itself, found one started by {by[0]}; start it "
            "without, with --jobs or --trainer.devices"
        )
    parser = make_parser(command, own)
    config = parser.parse_args(args)
    for key in keys_of_configs(args) & own.keys():  # a config is that of each run, and fit does not know it
        raise UserError(
            f"{key} is a flag of {command}, not a setting of its runs: take it out of the config, and "
            f"write --{key}={config[key]}"
        )
    _refuse_settings_of_a_run(command, config, own)
    trainer_settings.as_plain_values(config.trainer)  # the settings are written as YAML below
    trainer_settings.check_trainer_settings(config.trainer, args, "fit")
    name, given = run_name(config.name, args), without_flags(args, *(f"--{flag}" for flag in own))
    config.model.pretrained = config.data.tokenizer = pin(config.model.pretrained)
    BertClassifier(**config.model.as_dict())  # loads no weights, but makes the checks of fit
    data = YelpDataModule(**{**config.data.as_dict(), **of_data(config)})
    Machine(config.jobs, config.trainer.accelerator).divided()
    check_unpadded(data.hparams, config.model.compile)
    warn_of_sample_encoder(config, args)
    has_test = data.text_source.origin("test") is not None
    stages = ["fit", "test"] if has_test else ["fit"]
    if needs_hub(config.model.pretrained) or any(map(data.reads_hub, stages)):
        hub.go_offline_if_unreachable()
    with _own_flags(own):
        for stage in stages:
            data.setup(stage)
    values = yaml.safe_load(parser.dump(config, skip_none=False, format="yaml"))
    kept = lasting({key: values[key] for key in ("monitor", "data", "model", "trainer")})
    for key in OF_EACH_RUN:
        kept["data"].pop(key.removeprefix("data."), None)
    measured = (("fold",) if data.hparams["fold"] else ()) + (("test",) if has_test else ())
    given.append(f"--model.pretrained={config.model.pretrained}")  # the newest `sft:NAME` may change
    return Start(given, config, kept, name, data, measured)


@contextlib.contextmanager
def _own_flags(own: Mapping[str, Any]) -> Iterator[None]:
    """Let an error name the command's own flags in place of settings that it refuses."""
    try:
        yield
    except UserError as error:
        told = str(error)
        for setting, flag in {"--data.folds=null": "--folds=1", "--data.folds": "--folds"}.items():
            told = told.replace(setting, flag) if "folds" in own else told
        if told == str(error):
            raise
        raise UserError(told) from error


def _refuse_settings_of_a_run(command: str, config: Namespace, own: Mapping[str, Any]) -> None:
    """Refuse what such a command sets itself, and what leaves texts unmeasured."""
    check_bounds({"seed_everything": config.seed_everything})
    if config.ckpt_path is not None:
        raise UserError(f"{command} resumes its own runs; leave out --ckpt_path={config.ckpt_path}")
    for key in OF_EACH_RUN:
        name = key.removeprefix("data.")
        if config.data[name] not in (None, 1.0):
            mend = {"data.folds": "folds", "data.train_share": "shares"}.get(key)
            advice = f"set --{mend} instead" if mend in own else "leave it out"
            raise UserError(f"{command} sets {key} of each run itself, found {config.data[name]}; {advice}")
    limit = config.trainer.limit_test_batches
    in_part = {
        "fast_dev_run": bool(config.trainer.fast_dev_run),
        "overfit_batches": bool(config.trainer.overfit_batches),
        "limit_test_batches": limit is not None
        and not (isinstance(limit, float) and limit == 1),  # 1: one batch
    }
    for name in filter(in_part.get, in_part):
        raise UserError(
            f"{command} measures every text of the runs that it compares, found trainer.{name}="
            f"{config.trainer[name]}; leave it out"
        )


def newest_with(name: str, kind: str, settings: str) -> Path | None:
    """The newest `runs/<name>/<kind>_<n>` whose plan is of these settings."""
    for folder in runs.folders(name, kind):
        try:
            if json.loads((folder / PLAN).read_text(encoding="utf-8")).get("settings") == settings:
                return folder
        except (ValueError, AttributeError):
            warn(f"{folder / PLAN} is damaged: this {kind} cannot be continued, and is left as it is")
        except OSError:
            continue
    return None


@dataclass
class Machine:
    """How many runs take place at a time, and what each has of the machine.

    Attributes:
        jobs: Runs at a time.
        accelerator: `trainer.accelerator`.
        largest_gb: The most memory that a run has taken so far, in 10^9 bytes.
    """

    jobs: int
    accelerator: Any = "auto"
    largest_gb: float = 0.0
    _told: bool = False

    def divided(self) -> tuple[int, list[list[str]]]:
        """The threads of each run, and the GPUs of each place, as CUDA_VISIBLE_DEVICES names them.

        Raises:
            UserError: There are fewer GPUs or cores than `jobs`.
        """
        cores = len(os.sched_getaffinity(0)) if LINUX else os.cpu_count()
        gpus = visible_gpus() if device_type(self.accelerator) == "cuda" else []
        asked = os.environ.get("OMP_NUM_THREADS", "")
        threads, seen = places(self.jobs, len(gpus), cores or 1, int(asked) if asked.isdecimal() else None)
        return threads, [[gpus[i] for i in of] for of in seen]

    def run(self, jobs: Iterable[Job]) -> Iterator[Ended]:
        """Run jobs, as many at a time as asked for and as there is memory for.

        Raises:
            Stopped: By a signal, when the runs have saved and ended.
        """
        threads, gpus = self.divided()

        def environment(place: int) -> dict[str, str]:
            if self.jobs == 1 or not gpus[place]:
                return {}
            return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[place])}

        yield from run_jobs(jobs, self.jobs, threads if self.jobs > 1 else None, environment, self._may_start)

    def ended(self, run: Path) -> None:
        """Note the memory that a run took."""
        self.largest_gb = max(self.largest_gb, runs.read_metrics(run).get("train/peak_memory_gb") or 0.0)

    def _may_start(self, running: int) -> bool:
        """Whether there is memory for a run beside others: the most that one took, else half its share."""
        on_host = device_type(self.accelerator) != "cuda"
        needed = self.largest_gb if self.largest_gb and on_host else memory_gb("cpu") / self.jobs / 2
        enough = free_memory_gb() >= needed
        if not enough and not self._told:
            self._told = True
            warn(
                f"{free_memory_gb():.1f} GB of memory are free, and a run may need {needed:.1f}: fewer than "
                f"--jobs={self.jobs} run at a time"
            )
        return enough


LINUX = hasattr(os, "sched_getaffinity")


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]
