"""`check`: look through the data of a run before any training. Takes what `fit` takes, and writes nothing."""

import json
import sys

from lit_ft import runs
from lit_ft.__main__ import first_config_stem
from lit_ft.batch_settings import check_unpadded
from lit_ft.check_report import inspect
from lit_ft.check_table import table
from lit_ft.classifier_parser import Parser, add_groups, link_groups
from lit_ft.console import quiet, silence_libraries
from lit_ft.data import YelpDataModule
from lit_ft.flags import add_run_flags, check_seed, introduction, warn_of_sample_encoder
from lit_ft.model import BertClassifier


def make_parser() -> Parser:
    """The parser of `fit`'s settings and of our two switches."""
    parser = Parser(prog="python -m lit_ft", **introduction("check"))
    parser.add_argument("-c", "--config", action="config", help="A YAML file; later ones win.")
    parser.add_argument("--json", action="store_true", help="Print one JSON document in place of the tables.")
    strict = (
        "Exit code 1 where splits share texts, equal texts have different labels, or classes are none: names "
        "that look the same, stand-ins for a missing label, a header among the rows."
    )
    parser.add_argument("--strict", action="store_true", help=strict)
    add_run_flags(parser)
    add_groups(parser)
    link_groups(parser)
    return parser


def main(command: str, args: list[str]) -> int:
    """Run `check` and return the exit code: 1 with `--strict` where the data is not sound."""
    silence_libraries()
    config = make_parser().parse_args(args)
    check_seed(config.seed_everything)
    runs.check_name(config.name or first_config_stem(args) or "default")
    BertClassifier(**config.model.as_dict())  # loads no weights, but refuses what it would refuse in fit
    data = YelpDataModule(**config.data.as_dict())
    check_unpadded(data.hparams, config.model.compile)
    warn_of_sample_encoder(config, args, "counting the tokens of")
    with quiet():
        report = inspect(data.hparams)
    text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False) if config.json else table(report)
    sys.stdout.write(text + "\n")
    return 1 if config.strict and not report.sound else 0
