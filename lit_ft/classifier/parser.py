"""The settings that `fit`, `validate`, `test`, `predict` and `check` share: data, model, trainer."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Union, get_args

from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lit_ft.classifier.data import YelpDataModule
from lit_ft.classifier.model import BertClassifier
from lit_ft.settings.parser import OneLineErrors

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the batch sampler shards; Lightning's cannot wrap it
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,  # setup() has read, checked and tokenised every row by then
    "log_every_n_steps": 10,
    "max_epochs": 3,  # Lightning's own default is 1000
}

# What `--help` explains of the settings; the rest is in `--help_all`.
SHOWN_OF_RUN = ("name", "ckpt_path")
SHOWN_OF_DATA = ("data.source", "data.text_column", "data.label_column", "data.num_workers")
SHOWN_OF_TRAINER = ("trainer.accelerator", "trainer.devices", "trainer.precision")
FIT = (
    *SHOWN_OF_RUN,
    *("seed_everything", "monitor", "baselines"),
    *SHOWN_OF_DATA,
    *("data.train_path", "data.validation_path", "data.test_path", "data.label_names", "data.ordered"),
    *("data.validation_share", "data.max_tokens", "data.batch_size", "data.token_budget"),
    *("model.pretrained", "model.learning_rate", "model.weight_decay", "model.class_weights"),
    *SHOWN_OF_TRAINER,
    *("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches"),
    "trainer.val_check_interval",
)
MEASURE = (*SHOWN_OF_RUN, *SHOWN_OF_DATA, "data.eval_batch_size", "model.decide", *SHOWN_OF_TRAINER)
SHOWN = {
    "fit": ("estimate", *FIT),
    "check": ("json", "strict", *FIT),
    "validate": ("data.validation_path", *MEASURE),
    "test": ("data.test_path", *MEASURE),
    "predict": (
        "data.predict_path",
        "data.predict_output",
        "data.predict_probabilities",
        "calibrate",
        "overwrite",
        *MEASURE,
    ),
}

TRAINER_HELP = {  # in place of Lightning's texts that are not true here
    "max_epochs": "Stop after this many epochs. The learning rate falls to 0 at the end of the run, so that "
    "an end is required, here or in max_steps.",
    "precision": "32-true computes in float32; bf16-mixed multiplies matrices in bfloat16, with weights in "
    "float32. By default bf16-mixed if the hardware multiplies bfloat16 itself, else 32-true.",
    "max_steps": "Stop after this many optimizer steps; -1 sets no limit, so that only max_epochs counts.",
    "val_check_interval": "How often to validate: an int counts training batches, a float is a share of the "
    "epoch. To count batches over epochs set check_val_every_n_epoch to null.",
    "max_time": "Stop after this time, DD:HH:MM:SS or a mapping such as {hours: 1}. The learning rate is not "
    "0 then: its schedule follows max_epochs or max_steps.",
    "logger": "Loggers in addition to the run's own TensorBoard log; false turns that off too.",
    "default_root_dir": "Has no effect here: runs are in runs/NAME of the working folder.",
    "check_val_every_n_epoch": "Validate only every n-th epoch; null lets an int of val_check_interval "
    "count batches over epochs.",
}
# :class:`~a.b.C` -> C, :ref:`text <target>` -> text: the Sphinx marks of Lightning's docstrings.
ROLE = re.compile(r":[a-z:]+:`(?:~(?:[\w.]*\.)?([^`<]+?)|([^`<]+?))(?:\s*<[^>`]*>)?`")


class Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with one-line errors."""


def add_groups(parser: LightningArgumentParser) -> None:
    """Add the groups, ours before the Trainer's, so that `--help` begins with them."""
    parser.add_lightning_class_args(YelpDataModule, "data")
    parser.add_lightning_class_args(BertClassifier, "model")
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})
    for action in parser._actions:
        if hasattr(action, "_typehint"):
            action._typehint = int_first(action._typehint)
            if action.dest.startswith("trainer.") and hasattr(action, "extra_help"):
                action.extra_help = partial(without_ours, action.extra_help)
        if action.dest.startswith("trainer.") and isinstance(action.help, str):
            text = TRAINER_HELP.get(action.dest.removeprefix("trainer."))
            action.help = text or plain(action.help)


def int_first(hint: Any) -> Any:
    """A Union that tries int before float, so that 1 is one batch and not the whole epoch.

    Lightning writes `Optional[Union[int, float]]`, for which Python's cache of types hands out the
    `Optional[Union[float, int]]` of a library that was imported earlier, as the two compare equal.
    """
    members = list(get_args(hint))
    if int not in members or float not in members or members.index(int) < members.index(float):
        return hint
    members.remove(int)
    members.insert(members.index(float), int)
    return Union[tuple(members)]  # noqa: UP007


def without_ours(listed: Callable[[], str]) -> str:
    """The known classes of a setting, without those of this package, which fit adds itself."""
    return re.sub(r"(, |(?<=: ))lit_ft\.[\w.]+", "", listed())


def plain(text: str) -> str:
    """A docstring without Sphinx's marks, and without its own note of the default, which argparse adds."""
    text = ROLE.sub(lambda found: found[1] or found[2], text)
    text = re.sub(r"\s*Default: ``[^`]*``\.", "", text)
    return text.replace("``", "`")


def link_groups(parser: LightningArgumentParser) -> None:
    """Link the settings that two places share, which are given once."""
    parser.link_arguments("model.pretrained", "data.tokenizer")
    parser.link_arguments("seed_everything", "data.seed")
