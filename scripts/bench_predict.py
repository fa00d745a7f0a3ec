"""How fast `predict` and `validate` are beside transformers' pipeline: real tokens a second.

    python scripts/bench_predict.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench_predict.py --quick             # embedded reviews, tiny BERT: indicative only

One model (of a `fit` of one step), the first texts of the file, cut at 512 tokens, in the same precision.
Each recipe runs in a fresh process, in three interleaved rounds; figures are medians. Timed is the whole
pass over the texts, tokenising included (our caches are empty), without imports and loading the model.
"""

import argparse
import contextlib
import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_common
import bench_reviews
from bench_common import Clock, Row, interleave, report, run_child

RECIPES = ("pipeline", "predict", "validate")


class Whole(Clock):
    """A clock of everything from its start to the end of the last batch."""

    def start(self) -> None:
        """Begin, before the texts are tokenised."""
        import resource

        self.begun = time.perf_counter()
        self.faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def step(self, attention_mask: Any) -> None:
        """Count a batch that has been computed."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ended = time.perf_counter()
        self.done += 1
        self.tokens += int(attention_mask.sum())
        self.computed += attention_mask.numel()


def fit_args(options: argparse.Namespace) -> list[str]:
    """The flags that all of our commands share."""
    return [
        *("--config", "yelp_local.yaml", "--model.pretrained", options.pretrained, "--name", "bench"),
        *("--data.train_path", options.train_path, "--data.max_tokens", "512"),
        *("--data.token_budget", "4096"),  # what is predicted does not depend on who shares a batch
    ]


def pipeline(options: argparse.Namespace, clock: Whole) -> None:
    """transformers' text-classification pipeline."""
    import torch
    import transformers

    from lit_ft.machine import automatic_precision

    texts, _ = bench_reviews.read(options.train_path)
    half = automatic_precision() == "bf16-mixed"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = transformers.pipeline("text-classification", options.run + "/model", device=device)
    pipe.model.register_forward_hook(
        lambda module, args, kwargs, output: clock.step(kwargs["attention_mask"]), with_kwargs=True
    )
    clock.start()
    with torch.autocast(device, torch.bfloat16, enabled=half):
        for _ in pipe(texts, batch_size=32, truncation=True, max_length=512):
            pass


def ours(options: argparse.Namespace, clock: Whole, command: str) -> None:
    """Our command line, with nothing but a clock added."""
    from lit_ft.__main__ import main
    from lit_ft.data import YelpDataModule
    from lit_ft.model import BertClassifier

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
    if code := main([command, *fit_args(options), *more]):
        raise SystemExit(code)


def child(options: argparse.Namespace) -> None:
    """Measure one recipe in this process."""
    folder = tempfile.mkdtemp(prefix="bench-")
    os.chdir(folder)
    os.environ["LIT_FT_CACHE"] = os.environ["HF_DATASETS_CACHE"] = folder
    clock = Whole(0, 0)
    if options.child == "pipeline":
        pipeline(options, clock)
    else:
        ours(options, clock, options.child)
    print("\n" + json.dumps(clock.figures()))  # on a line of its own, below a progress bar


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """What is compared."""
    speed = {recipe: row.tokens_per_second for recipe, row in rows.items()}
    return {name: speed[name] / speed["pipeline"] for name in ("predict", "validate")}


def first_rows(path: str, num_rows: int, target: Path) -> str:
    """The first rows of a csv, as another."""
    texts, labels = bench_reviews.read(path)
    with open(target, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        writer.writerows(zip(labels[:num_rows], texts[:num_rows], strict=True))
    return str(target)


def main() -> int:
    """Measure all recipes and print the table."""
    parser = bench_common.parser_of(__doc__, RECIPES)
    parser.add_argument("--rows", type=int, default=1000, help="texts to predict")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.quick:
        options.rounds, options.rows = 1, 200
    bench_common.prepare_environment()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    bench_reviews.set_defaults(options, str(folder))
    options.train_path = first_rows(options.train_path, options.rows, folder / "rows.csv")

    from lit_ft.__main__ import main as lit_ft

    os.chdir(folder)
    sys.stderr.write("a model to predict with: fit, one step\n")
    with contextlib.redirect_stdout(sys.stderr):  # the table is all that goes to stdout
        short = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "1"]
        if code := lit_ft(["fit", *fit_args(options), *short]):
            return code
    args = ["--run", str(folder / "runs/bench/version_0"), "--data.train_path", options.train_path]
    args += ["--model.pretrained", options.pretrained]
    rows = interleave(RECIPES, options.rounds, lambda recipe: run_child(__file__, recipe, args))
    quick = "One short round: indicative only. " if options.quick else ""
    report(list(rows.values()), ratios(rows), options.json, f"{quick}{options.rows} texts.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
