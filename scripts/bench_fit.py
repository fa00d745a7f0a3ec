"""How fast `fit` trains beside the loop that courses teach and Hugging Face's Trainer: real tokens a second.

    python scripts/bench_fit.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench_fit.py --quick                 # embedded reviews, tiny BERT: indicative only

Each recipe runs in a fresh process, five steps to warm up, each once a round, in three rounds; figures are
medians. All cut at 512 tokens, with the encoder's own dropouts; `fit as shipped` has no attention dropout, as
our configs. `bare` steps our model over our batches in a plain loop: the rest is Lightning's share and ours.
"""

import argparse
import json
import os
import sys
import tempfile
from typing import Any

from bench_common import (
    ROOT,
    Clock,
    Enough,
    Row,
    add_window,
    interleave,
    parser_of,
    prepare_environment,
    report,
    run_child,
)
from bench_flops import config_of, matrix_product_peak, training_flops
from bench_peers import MAX_TOKENS, TRAINER, course, trainer
from bench_reviews import set_defaults

RECIPES = ("course", *TRAINER, "fit", "fit as shipped", "bare")
MOST_TEXTS = 48  # in a step, of short ones
PEAK = "peak"  # not a recipe: what the matrix products of this machine reach


def fit_args(options: argparse.Namespace, recipe: str) -> list[str]:
    """The flags of `fit` for a recipe."""
    own_dropouts = [] if recipe == "fit as shipped" else ["--model.attention_dropout", "null"]
    return [
        *("--config", "yelp_local.yaml", "--data.train_path", options.train_path),
        *("--data.max_tokens", str(MAX_TOKENS), "--data.token_budget", str(options.token_budget)),
        *("--data.batch_size", str(MOST_TEXTS), "--model.pretrained", options.pretrained, *own_dropouts),
    ]


def fit(options: argparse.Namespace, clock: Clock, recipe: str) -> None:
    """Our command line, with nothing but a clock added."""
    from lightning import Callback

    from lit_ft import cli
    from lit_ft.__main__ import main

    class Timer(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            clock.step(batch["attention_mask"])

    callbacks = cli.Tracking.callbacks
    cli.Tracking.callbacks = lambda tracking: [*callbacks(tracking), Timer()]  # type: ignore[method-assign]
    main(["fit", *fit_args(options, recipe)])


def bare(options: argparse.Namespace, clock: Clock) -> None:
    """Our model and our batches in a plain loop, with the environment that our command line sets."""
    from lit_ft.__main__ import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    import torch
    import yaml
    from torch.nn import functional as F

    from lit_ft.data import YelpDataModule
    from lit_ft.machine import automatic_precision
    from lit_ft.model import BertClassifier
    from lit_ft.optim import linear_decay, parameter_groups

    shipped = yaml.safe_load((ROOT / "configs/yelp_local.yaml").read_text(encoding="utf-8"))["data"]
    own = {"train_path": options.train_path, "max_tokens": MAX_TOKENS, "tokenizer": options.pretrained}
    own |= {"token_budget": options.token_budget, "batch_size": MOST_TEXTS}
    data = YelpDataModule(**{**shipped, **own})
    data.setup("fit")
    assert data.labels is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = BertClassifier(options.pretrained)
    module.build(data.labels.names)
    module.to(device).train()
    optimizer = torch.optim.AdamW(parameter_groups(module, 0.01, False), lr=5e-5, fused=True)
    steps = 3 * data.num_train_batches()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_decay(steps, steps // 10))
    half = automatic_precision() == "bf16-mixed"
    for batch in data.train_dataloader():
        batch = {key: value.to(device) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            logits = module(**{key: value for key, value in batch.items() if key != "labels"})
            loss = F.cross_entropy(logits, batch["labels"])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.step(batch["attention_mask"])


def child(options: argparse.Namespace) -> None:
    """Measure one recipe, or the peak, in this process."""
    if options.child == PEAK:
        print(json.dumps(matrix_product_peak()))
        return
    clock, recipe = Clock(options.seconds, options.steps), options.child
    os.chdir(tempfile.mkdtemp(prefix="bench-"))
    try:
        if recipe in ("course", "bare"):
            (course if recipe == "course" else bare)(options, clock)
        else:
            (trainer if recipe in TRAINER else fit)(options, clock, recipe)
    except Enough:
        pass
    print("\n" + json.dumps(clock.figures()))  # on a line of its own, below a progress bar


def best_of(rows: dict[str, Row]) -> str:
    """The faster precision of Hugging Face's best flags."""
    tried = [recipe for recipe in rows if recipe.startswith("hf best")]
    return max(tried, key=lambda recipe: rows[recipe].tokens_per_second)


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """What is compared; a peer's best is the faster of its precisions here."""
    speed = {recipe: row.tokens_per_second for recipe, row in rows.items()}
    best = best_of(rows)
    return {
        "course": speed["fit"] / speed["course"],
        "course_as_shipped": speed["fit as shipped"] / speed["course"],
        "hf_default": speed["fit"] / speed["hf default"],
        "hf_best": speed["fit"] / speed[best],
        "peak_memory": rows["fit"].peak_bytes / rows[best].peak_bytes,
        "overhead": 1 - speed["fit"] / speed["bare"],
    }


def main() -> int:
    """Measure all recipes and print the table."""
    parser = parser_of(__doc__, (*RECIPES, PEAK))
    add_window(parser, steps=8)
    parser.add_argument("--data.token_budget", dest="token_budget", type=int, default=4096)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.quick:
        options.rounds, options.seconds, options.steps = 1, 4, 2
    prepare_environment()
    set_defaults(options, tempfile.mkdtemp(prefix="bench-"))
    args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
    args += ["--seconds", str(options.seconds), "--steps", str(options.steps)]
    args += ["--data.token_budget", str(options.token_budget)]
    from lit_ft.machine import multiplies_bfloat16

    # Where bfloat16 is emulated it is never the best, and takes minutes a step.
    recipes = [name for name in RECIPES if not name.endswith("bf16") or multiplies_bfloat16() is not False]
    rows = interleave(recipes, options.rounds, lambda recipe: run_child(__file__, recipe, args))
    peak = run_child(__file__, PEAK, args)["flops_per_second"]
    for row in rows.values():
        flops = training_flops(config_of(options), row.tokens_per_second, row.squares_per_second)
        row.flop_utilisation = flops / peak
    quick = "One short round: indicative only. " if options.quick else ""
    note = f"{quick}Hugging Face's best is `{best_of(rows)}` here; "
    note += f"matrix products reach {peak / 1e9:,.0f} GFLOP/s."
    report(list(rows.values()), ratios(rows), options.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
