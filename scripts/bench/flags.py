"""The flags that the benchmarks share, and what they refuse, before any process is started."""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def parser_of(description: str, recipes: Sequence[str]) -> argparse.ArgumentParser:
    """The flags that the benchmarks of recipes share."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data.train_path", dest="train_path", help="csv with columns text and label; default: generated")
    add("--model.pretrained", dest="pretrained", help="model folder; default: the embedded tiny BERT")
    add("--rounds", type=int, default=3, help="to run each recipe in, one after the other")
    add("--quick", action="store_true", help="one short round: indicative only")
    add("--json", help="file to write, too")
    add("--child", choices=recipes, help=argparse.SUPPRESS)
    return parser


def add_window(parser: argparse.ArgumentParser, steps: int) -> None:
    """The flags of how long training is measured."""
    parser.add_argument("--seconds", type=float, default=60, help="to measure a recipe, each round")
    parser.add_argument("--steps", type=int, default=steps, help="to measure at least")


def refuse(message: str) -> NoReturn:
    """End with one line."""
    sys.stderr.write(f"error: {message}\n")
    raise SystemExit(2)


def check_least(options: argparse.Namespace, **least: int) -> None:
    """Refuse numbers below these."""
    for name, value in least.items():
        if getattr(options, name) < value:
            refuse(f"expected --{name} of at least {value}, found {getattr(options, name)}")


def check_inputs(options: argparse.Namespace) -> None:
    """Refuse a model or texts that no recipe could read."""
    model, texts = options.pretrained, getattr(options, "train_path", None)
    if model is not None and not (Path(model) / "config.json").is_file():
        refuse(f"expected --model.pretrained as a local model folder (there is no network), found {model!r}")
    if texts is None:
        return
    if not Path(texts).is_file():
        refuse(f"expected --data.train_path as a csv file, found {texts!r}")
    with open(texts, newline="", encoding="utf-8", errors="replace") as file:
        names = next(csv.reader(file), [])
    if missing := [name for name in ("text", "label") if name not in names]:
        refuse(f"{texts}: expected the columns text and label, found no {' or '.join(missing)}: {names}")
