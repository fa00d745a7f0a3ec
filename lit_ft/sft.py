"""`sft`: adapt a model to texts by masked-word prediction. No torch until the work begins."""

from typing import Any

from jsonargparse import Namespace

from lit_ft import runs
from lit_ft.__main__ import first_config_stem
from lit_ft.flags import check_seed, introduction
from lit_ft.parser import OneLineErrors
from lit_ft.sft_settings import SftSettings, check_bounds


def make_parser() -> OneLineErrors:
    """The parser of `sft`'s command line and YAML files."""
    parser = OneLineErrors(prog="lit_ft", **introduction("sft"))
    parser.add_argument("--config", action="config", help="YAML file or packaged config; later ones win.")
    parser.add_class_arguments(SftSettings)
    return parser


def parse(args: list[str]) -> tuple[SftSettings, str]:
    """The settings of a command line, checked, and as YAML that runs the same again."""
    parser = make_parser()
    found = parser.parse_args(args)
    found.name = runs.check_name(found.name or first_config_stem(args) or "default")
    settings = _build(parser, found)
    check_seed(settings.seed_everything)
    check_bounds(settings)
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
    from lit_ft.sft_run import run  # a second's worth of libraries, not needed for --help

    return run(settings, resolved, args)
