"""The flags of the run itself, not of its data, model or trainer, and what `--help` says first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lit_ft import __version__, runs
from lit_ft.console import warn
from lit_ft.settings.arguments import first_config_stem

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

NonFinitePolicy = Literal["stop", "skip"]
FullDiskPolicy = Literal["stop", "go_on"]
Kept = Literal["all", "model", "figures"]  # of a run that is one of many
DEFAULT_SEED = 42
OWN_FLAGS = {  # command -> its own switches, with their help
    "fit": {
        "estimate": "Only say how long the run will take and how much memory it needs: trains ten steps on "
        "short, middle and long batches, and keeps nothing.",
    },
    "predict": {
        "calibrate": "Divide the logits by the temperature that `fit` found on the validation texts, so that "
        "the probabilities say how often the model is right. The predicted classes stay the same.",
        "overwrite": "Replace any file at data.predict_output, except the one that is read. By default only "
        "an earlier prediction of the same input is replaced.",
    },
    "repeat": {
        "seeds": "Runs of each fold, with the seeds seed_everything, seed_everything + 1, ...",
        "folds": "Folds of the training texts: each is left out of training once, chooses nothing, and is "
        "measured by the runs that never saw it. 1 for none: then only the seeds differ.",
        "shares": "Shares of the training texts to train on, such as 0.25,0.5,1: the learning curve.",
        "jobs": "Runs at a time. GPUs, or the threads of a CPU, are divided among them.",
        "keep": "What stays of a run that has ended and was measured: the model folder; all, checkpoints "
        "too; or figures, the files of figures and texts alone.",
    },
    "search": {
        "space": "What is searched: a YAML of ranges, {low: 1e-5, high: 3e-4, log: true}, and lists under "
        "the keys of fit; `default` makes one for the task and the model.",
        "trials": "Runs with other settings; the first has your own. More lengthen a search that has ended.",
        "seeds": "New seeds with which the best settings and your own run again, to see what the best ones "
        "are worth; 0 for none.",
        "jobs": "Runs at a time. GPUs, or the threads of a CPU, are divided among them.",
    },
    "check": {
        "json": "Print one JSON document instead of the tables.",
        "strict": "Exit with code 1 if splits share texts, equal texts have different labels, or classes are "
        "not classes: names that look the same, placeholders for a missing label, a header among the rows.",
    },
}
RUN_FLAGS: dict[str, tuple[Any, Any, str]] = {  # flag -> type, default, help
    "seed_everything": (
        int,
        DEFAULT_SEED,
        "The run's seed: the new head's weights, the order of the batches, dropout.",
    ),
    "name": (str | None, None, "The run's name; by default that of the first --config, or `default`."),
    "monitor": (
        str,
        "val/loss",
        "The validation metric that chooses the best checkpoint, such as val/loss or val/accuracy.",
    ),
    "baselines": (
        bool,
        True,
        "Fit word counts on the training texts first, in 3 s, or 5 % of the run's time up to 60 s. They, and "
        "always answering the commonest class, are measured on the same texts as the model.",
    ),
    "on_nonfinite": (
        NonFinitePolicy,
        "stop",
        "What fit does if the loss or a gradient of a step is not finite: stop, or skip the step and name "
        "its rows. With `skip` the run still stops after 5 such steps in a row, or when more than 1 % of its "
        "steps were skipped.",
    ),
    "on_full_disk": (
        FullDiskPolicy,
        "stop",
        "What fit does if a checkpoint cannot be written: stop, or go on with the one before it.",
    ),
    "ckpt_path": (
        str | None,
        None,
        "For fit the checkpoint to resume from, by default none; for the other commands the one to use, by "
        "default best. A file, or best or last of the newest run of this name.",
    ),
}


def add_run_flags(parser: "ArgumentParser") -> None:
    """Add `RUN_FLAGS`."""
    for flag, (kind, default, text) in RUN_FLAGS.items():
        parser.add_argument(f"--{flag}", type=kind, default=default, help=text)


def run_name(given: str | None, args: list[str]) -> str:
    """A run's name, checked: by default that of the first config, else `default`."""
    return runs.check_name(given or first_config_stem(args) or "default")


def warn_of_sample_encoder(config: Any, args: list[str], doing: str = "training") -> None:
    """Warn if the user's own texts meet the sample's encoder, which was not asked for.

    Args:
        config: The settings of `fit`, `check` or `sft`.
        args: The command line.
        doing: What the command does with the encoder, for the message.
    """
    own_texts = config.data.train_path or config.data.source not in (None, "sample")
    asked = any(arg.partition("=")[0] in ("--model.pretrained", "--model") for arg in args)
    if config.model.pretrained == "sample" and own_texts and not asked:
        warn(f"{doing} `sample`, a tiny BERT with untrained weights: set --model.pretrained to another model")


def introduction(command: str, shown: Sequence[str]) -> dict[str, Any]:
    """A parser's arguments: what `--help` shows, and the first line of a `config.yaml`.

    Args:
        command: The command, such as `fit`.
        shown: The settings that `--help` explains; `--help_all` explains all of them.
    """
    return {
        "usage": f"python -m lit_ft {command} [--config NAME_OR_FILE] [--key value ...]",
        "description": f"The settings of {command}. Flags win over configs, later configs over earlier ones.",
        "shown": shown,
        "dump_header": [f"python -m lit_ft {command} --config THIS_FILE, lit_ft {__version__}"],
    }
