"""The command line that `fit` and its kin share with `check`: the groups data, model and trainer."""

from lightning import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lit_ft.data import YelpDataModule
from lit_ft.model import BertClassifier
from lit_ft.parser import OneLineErrors

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the batch sampler shards; Lightning's cannot wrap it
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,  # setup() has already read, checked and tokenised every row
    "log_every_n_steps": 10,
    "max_epochs": 3,  # Lightning's own default is 1000
}


class Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with one-line errors."""


def add_groups(parser: LightningArgumentParser) -> None:
    """Our groups before the Trainer's, so that `--help` begins with what is ours."""
    parser.add_lightning_class_args(YelpDataModule, "data")
    parser.add_lightning_class_args(BertClassifier, "model")
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.set_defaults({f"trainer.{key}": value for key, value in TRAINER_DEFAULTS.items()})


def link_groups(parser: LightningArgumentParser) -> None:
    """Settings that two places share are given once."""
    parser.link_arguments("model.pretrained", "data.tokenizer")
    parser.link_arguments("seed_everything", "data.seed")
