"""`sft`: adapt a model to your texts by masked-word prediction. Imports torch only to run."""

import re
from argparse import SUPPRESS
from typing import Any, NoReturn

from jsonargparse import Namespace

from lit_ft import hub
from lit_ft.commands.early import check_files, tell_loading
from lit_ft.data.column_names import check_names, listed_columns
from lit_ft.masked_lm.settings import SAMPLE_CONFIG, SHOWN, SftSettings, Trial, check_numbers
from lit_ft.reliability import run_owner
from lit_ft.settings.flags import introduction, run_name, warn_of_sample_encoder
from lit_ft.settings.parser import OneLineErrors


class SftParser(OneLineErrors):
    """Explains the one value of `sft` that YAML misreads: `no`."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Explain how to write `no`."""
        if 'Parser key "eval_strategy"' in message and re.search(r"(Got|Given) value: False", message):
            found = 'expected one of "no", steps, epoch, found false, as YAML reads a bare no'
            self._leave(f'eval_strategy: {found}; write it in quotes: "no"', ex)
        super().error(message, ex)


def make_parser() -> OneLineErrors:
    """The parser of `sft`'s command line and YAML files."""
    parser = SftParser(prog="lit_ft", **introduction("sft", SHOWN))
    parser.add_argument("--config", action="config", help="YAML file or packaged config; later ones win.")
    parser.add_class_arguments(SftSettings)
    parser.add_argument("--trial", type=Trial | None, default=None, help=SUPPRESS)  # of verify-resume
    return parser


def parse(args: list[str]) -> tuple[SftSettings, str]:
    """The checked settings of a command line, and the same as YAML, which repeats the run."""
    parser = make_parser()
    found = parser.parse_args(args)
    found.name = run_name(found.name, args)
    trial = found.pop("trial")
    settings = _build(parser, found)
    settings.trial = trial and Trial(**vars(trial))
    check_numbers(settings)
    lasting = found.clone()
    lasting.pop("config", None)
    lasting.pop("ckpt_path")
    return settings, parser.dump(lasting, skip_unset=False, skip_validation=True, format="yaml")


def _build(parser: OneLineErrors, found: Namespace) -> SftSettings:
    values: dict[str, Any] = vars(parser.instantiate(found))
    return SftSettings(**{key: value for key, value in values.items() if key != "config"})


def main(command: str, args: list[str]) -> int:
    """Run `sft` and return the exit code."""
    settings, resolved = parse(args)
    if settings.ckpt_path is None:
        warn_of_sample_encoder(settings, args)
    wanted = {"model": settings.model.pretrained}
    if settings.ckpt_path is not None and hub.names_hub(wanted.pop("model")):
        hub.go_offline_if_unreachable()  # it may resume without the Hub, or start fresh
    if settings.data.source and not settings.data.train_path:
        wanted["dataset"] = settings.data.source
    columns = listed_columns(settings.data.text_column)
    check_names(columns, settings.data.pair_column, None)
    for split in ("train", "validation"):
        flag = f"--data.{split}_path"
        check_files(flag, getattr(settings.data, f"{split}_path"), columns, pair=settings.data.pair_column)
    hub.check_cached(wanted, SAMPLE_CONFIG)
    tell_loading(command, args, settings.name)
    from lit_ft.masked_lm.run import run

    try:
        return run(settings, resolved, args)
    finally:
        run_owner.release()
