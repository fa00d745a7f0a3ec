"""How fast `predict` and `validate` are beside transformers' pipeline: real tokens a second.

    python scripts/bench/predict.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench/predict.py --quick             # embedded reviews, tiny BERT: indicative only

One model (of a `fit` of one step), the first texts of the file, cut at 512 tokens, in the same precision.
Each recipe runs in a fresh process, in three interleaved rounds; figures are medians. Timed is the whole
pass over the texts, tokenising included (our caches are empty), without imports and loading the model.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import common
import flags
import reviews
from clock import Clock
from common import MAX_TOKENS, TOKEN_BUDGET, Row, interleave, run_child
from flops import add_utilisation, forward_flops

RECIPES = ("pipeline", "predict", "validate")
ASKED = {"predict": "at least 2", "validate": "at least 2"}


def fit_args(options: argparse.Namespace) -> list[str]:
    """The flags that all of our commands share."""
    return [
        *("--config", "yelp_local.yaml", "--model.pretrained", options.pretrained, "--name", "bench"),
        *("--data.train_path", options.train_path, "--data.max_tokens", str(MAX_TOKENS)),
        *(
            "--data.token_budget",
            str(TOKEN_BUDGET),
        ),  # what is predicted does not depend on who shares a batch
    ]


def pipeline(options: argparse.Namespace, clock: Clock) -> None:
    """transformers' text-classification pipeline."""
    import torch
    import transformers

    from lit_ft.machine import automatic_precision

    texts, _ = reviews.read(options.train_path)
    half = automatic_precision() == "bf16-mixed"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = transformers.pipeline("text-classification", options.run + "/model", device=device)
    pipe.model.register_forward_hook(
        lambda module, args, kwargs, output: clock.step(kwargs["attention_mask"]), with_kwargs=True
    )
    clock.start()
    with torch.autocast(device, torch.bfloat16, enabled=half):
        for _ in pipe(texts, batch_size=32, truncation=True, max_length=MAX_TOKENS):
            pass


def ours(options: argparse.Namespace, clock: Clock, command: str) -> None:
    """Our command line, with nothing but a clock added."""
    from lit_ft.classifier.data import YelpDataModule
    from lit_ft.classifier.model import BertClassifier

    name = f"{command}_step" if command == "predict" else "validation_step"
    setup, step = YelpDataModule.setup, getattr(BertClassifier, name)

    def timed_setup(data: Any, stage: str) -> None:
        clock.start()
        setup(data, stage)

    def timed_step(module: Any, batch: Any, index: int) -> Any:
        result = step(module, batch, index)
        clock.step(batch["attention_mask"])
        return result

    YelpDataModule.setup = timed_setup  # type: ignore
    setattr(BertClassifier, name, timed_step)
    data = "predict" if command == "predict" else "validation"
    more = ["--ckpt_path", options.run + "/checkpoints/last.ckpt", f"--data.{data}_path", options.train_path]
    common.run_ours([command, *fit_args(options), *more])


def child(options: argparse.Namespace) -> None:
    """Measure one recipe in this process."""
    clock = Clock(warm_up=0)
    if options.child == "pipeline":
        common.measure(lambda: pipeline(options, clock), clock)
    else:
        common.set_own_environment()
        common.measure(lambda: ours(options, clock, options.child), clock)


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """What is compared."""
    speed = {recipe: row.tokens_per_second for recipe, row in rows.items()}
    return {name: speed[name] / speed["pipeline"] for name in ("predict", "validate")}


def first_rows(path: str, num_rows: int, target: Path) -> str:
    """The first rows of a csv, as another."""
    texts, labels = reviews.read(path)
    with open(target, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        writer.writerows(zip(labels[:num_rows], texts[:num_rows], strict=True))
    return str(target)


def make_model(options: argparse.Namespace, folder: Path) -> str:
    """The run of a `fit` of one step, in a process of its own, which leaves this one's environment alone."""
    sys.stderr.write("a model to predict with: fit, one step\n")
    short = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"]
    call = [sys.executable, "-m", "lit_ft", "fit", *fit_args(options), *short]
    done = subprocess.run(call, cwd=folder, env=common.with_caches(folder), stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has said why
    return str(folder / "runs/bench/version_0")


def main() -> int:
    """Measure all recipes and print the table."""
    parser = flags.parser_of(__doc__, RECIPES)
    parser.add_argument("--rows", type=int, default=1000, help="texts to predict")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.quick:
        options.rounds, options.rows = 1, 200
    flags.check_least(options, rounds=1, rows=100)  # a model comes out of them, too
    flags.check_inputs(options)
    with common.workplace() as folder:
        reviews.set_defaults(options, str(folder))
        options.train_path = first_rows(options.train_path, options.rows, folder / "rows.csv")
        args = ["--run", make_model(options, folder), "--data.train_path", options.train_path]
        args += ["--model.pretrained", options.pretrained]
        rows = interleave(RECIPES, options.rounds, lambda recipe: run_child(__file__, recipe, args))
        note = add_utilisation(rows.values(), options.pretrained, forward_flops)
    quick = "One short round: indicative only. " if options.quick else ""
    note = f"{quick}{options.rows} texts. {note}"
    common.report(list(rows.values()), ratios(rows), ASKED, options.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
