"""The flags of a run rather than of its data, model or trainer, and what `--help` says first."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from lit_ft import __version__, runs
from lit_ft.console import warn
from lit_ft.settings.arguments import first_config_stem

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

NonFinitePolicy = Literal["stop", "skip"]
FullDiskPolicy = Literal["stop", "go_on"]
DEFAULT_SEED = 42
OWN_FLAGS = {  # command -> its own switches, with their help
    "predict": {
        "calibrate": "Divide the logits by the temperature that `fit` found on the validation texts, so that "
        "the probabilities say how often the model is right. The predicted classes stay the same.",
        "overwrite": "Replace any file at data.predict_output, except the one that is read. By default only "
        "an earlier prediction of the same input is replaced.",
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
        "The validation figure that chooses the best checkpoint, such as val/loss or val/accuracy.",
    ),
    "on_nonfinite": (
        NonFinitePolicy,
        "stop",
        "What fit does where a step's loss or gradient is no number: stop, or skip the step, say which rows "
        "it had, and count it; it stops all the same after 5 in a row, or and at over 1 % of a run.",
    ),
    "on_full_disk": (
        FullDiskPolicy,
        "stop",
        "What fit does where a checkpoint cannot be written: stop, or go on with the one before it.",
    ),
    "ckpt_path": (
        str | None,
        None,
        "In fit the checkpoint to go on from, none by default; else the one to measure, best by default. "
        "A file, or best or last of the newest run of this name.",
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
    """Say when somebody's own texts are about to meet the sample's encoder, which nobody asked for.

    Args:
        config: Of `fit`, `check` or `sft`.
        args: The command line.
        doing: What is done with the encoder.
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
