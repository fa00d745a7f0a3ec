"""How fast `fit` trains beside the loop that courses teach and Hugging Face's Trainer: real tokens a second.

    python scripts/bench/fit.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench/fit.py --quick                 # embedded reviews, tiny BERT: indicative only

Each recipe runs in a fresh process, five steps to warm up, each once a round, in three rounds; figures are
medians. All cut at 512 tokens, all but the loop and Trainer's defaults in the precision that `fit` chooses
here. `fit` has the encoder's own dropouts, as its peers, and a token budget, on a GPU a larger one and
`model.compile`; `fit as shipped` is configs/yelp_local.yaml with nothing but paths and the cap of 512. No
recipe validates, saves or ends while it is measured. `bare` steps the model of `fit` over its batches in a
plain loop: the rest of `fit` is Lightning's share and ours.
"""

import argparse
import json
import sys
from functools import partial
from itertools import chain
from typing import Any

import common
import flags
from clock import Clock
from common import EPOCHS, MAX_TOKENS, ROOT, TOKEN_BUDGET, Row, interleave, run_child
from flops import add_utilisation, training_flops
from peers import TRAINER, course, trainer
from reviews import set_defaults

ON_A_GPU = "fit, attention dropout 0"  # as shipped: what fused attention kernels gain
OURS = ("fit", ON_A_GPU, "fit as shipped", "bare")
RECIPES = ("course", *TRAINER, *OURS)
ASKED = {
    "course": "at least 10",
    "course_as_shipped": "at least 15",
    "hf_default": "at least 12",
    "hf_best": "at least 1.3",
    "peak_memory": "at most 0.6",
    "overhead": "at most 0.05",
    "real_share": "at least 0.95",
}
ASKED_ON_A_GPU = {
    **dict.fromkeys(ASKED, "nothing"),
    "course": "at least 40",
    "hf_best": "at least 1.5",
    "flop_utilisation": "at least 0.40",
    "flop_utilisation_attention_dropout_0": "at least 0.40",
    "overhead": "at most 0.05",
    "real_share": "at least 0.95",
}
# Of `fit` and `bare`: tokens of a step, and texts at most. A step of 4,096 tokens leaves a GPU idle.
BUDGETS = {"cpu": (TOKEN_BUDGET, 32), "cuda": (65_536, 1_024)}
# How long a run is, not what its steps are. The peers have no warm-up either.
ENDLESS = ["--trainer.max_epochs", str(EPOCHS), "--model.warmup_share", "0"]
ENDLESS += ["--trainer.limit_val_batches", "0"]


def fit_args(options: argparse.Namespace, recipe: str) -> list[str]:
    """The flags of `fit` for a recipe."""
    args = ["--config", "yelp_local.yaml", "--data.train_path", options.train_path]
    args += ["--model.pretrained", options.pretrained, "--data.max_tokens", str(MAX_TOKENS)]
    if recipe == "fit as shipped":
        return args
    args += ["--data.token_budget", str(options.token_budget), "--data.batch_size", str(options.batch_size)]
    if options.compile:
        args += ["--model.compile", "true", "--data.padding", "none"]
    attention = "0" if recipe == ON_A_GPU else "null"
    return [*args, "--model.attention_dropout", attention, "--model.hidden_dropout", "null"]


def fit(options: argparse.Namespace, clock: Clock, recipe: str) -> None:
    """Our command line, with nothing but a clock added."""
    from lightning import Callback

    from lit_ft.commands import fit as cli

    class Timer(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            clock.step(batch["attention_mask"], module.step_tokens)

    callbacks = cli.Tracking.callbacks
    cli.Tracking.callbacks = lambda tracking: [*callbacks(tracking), Timer()]  # type: ignore[method-assign]
    common.run_ours(["fit", *fit_args(options, recipe), *ENDLESS])


def bare(options: argparse.Namespace, clock: Clock) -> None:
    """The model and the batches of `fit` in a plain loop."""
    import torch
    import yaml
    from torch.nn import functional as F

    from lit_ft.classifier.data import YelpDataModule
    from lit_ft.classifier.model import BertClassifier, compiled_steps
    from lit_ft.classifier.optim import linear_decay, parameter_groups
    from lit_ft.machine import automatic_precision
    from lit_ft.speed import host

    shipped = yaml.safe_load((ROOT / "configs/yelp_local.yaml").read_text(encoding="utf-8"))["data"]
    own = {"train_path": options.train_path, "max_tokens": MAX_TOKENS, "tokenizer": options.pretrained}
    own |= {"token_budget": options.token_budget, "batch_size": options.batch_size}
    own |= {"padding": "none" if options.compile else "longest"}
    data = YelpDataModule(**{**shipped, **own})
    data.setup("fit")
    assert data.labels is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = BertClassifier(options.pretrained)
    module.build(data.labels)
    module.to(device).train()
    assert module.net is not None
    host.prepare(device)
    optimizer = torch.optim.AdamW(parameter_groups(module, 0.01, False), lr=5e-5, fused=True)
    steps = EPOCHS * data.num_train_batches()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, linear_decay(steps, 0))
    half = automatic_precision() == "bf16-mixed"
    loader = data.train_dataloader()
    logits_of: Any = module._logits
    if options.compile:
        logits_of, module.step_tokens = compiled_steps(module.net, data)
    for batch in chain.from_iterable(loader for _ in range(EPOCHS)):
        batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(logits_of(batch), batch["labels"])
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.step(batch["attention_mask"], module.step_tokens)


def child(options: argparse.Namespace) -> None:
    """Measure one recipe in this process."""
    clock, recipe = Clock(options.seconds, options.steps), options.child
    if recipe in OURS:
        common.set_own_environment()
    set_budget(options)
    of_many = partial(trainer if recipe in TRAINER else fit, recipe=recipe)
    run = {"course": course, "bare": bare}.get(recipe, of_many)
    common.measure(lambda: run(options, clock), clock)


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
        "real_share": rows["fit"].real_share,
    }


def on_a_gpu() -> bool:
    """Whether the recipes run on one."""
    import torch

    return torch.cuda.is_available()


def set_budget(options: argparse.Namespace) -> None:
    """Defaults of `fit` and `bare` on this device."""
    budget, most_texts = BUDGETS["cuda" if on_a_gpu() else "cpu"]
    options.token_budget = budget if options.token_budget is None else options.token_budget
    options.batch_size = most_texts if options.batch_size is None else options.batch_size
    options.compile = on_a_gpu() if options.compile is None else options.compile


def main() -> int:
    """Measure all recipes and print the table."""
    parser = flags.parser_of(__doc__, RECIPES)
    flags.add_window(parser, steps=8)
    add = parser.add_argument
    add("--data.token_budget", dest="token_budget", type=int, help="of `fit` and `bare`")
    add("--data.batch_size", dest="batch_size", type=int, help="the most texts of a step of `fit` and `bare`")
    add("--model.compile", dest="compile", type=json.loads, help="of `fit` and `bare`; default: on a GPU")
    add("--bert_base", action="store_true", help="bert-base's shape, random weights, the encoder's tokenizer")
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    set_budget(options)
    if options.quick:
        options.rounds, options.seconds, options.steps = 1, 2, 2
    flags.check_least(options, rounds=1, steps=1, seconds=0, batch_size=1, token_budget=MAX_TOKENS)
    flags.check_inputs(options)
    with common.workplace() as folder:
        set_defaults(options, str(folder))
        args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
        args += ["--seconds", str(options.seconds), "--steps", str(options.steps)]
        args += ["--data.token_budget", str(options.token_budget)]
        args += [
            "--data.batch_size",
            str(options.batch_size),
            "--model.compile",
            str(options.compile).lower(),
        ]
        from lit_ft.machine import automatic_precision

        other = "fp32" if automatic_precision() == "bf16-mixed" else "bf16"  # than that of `fit`, and slower
        recipes = [name for name in RECIPES if other not in name and (on_a_gpu() or name != ON_A_GPU)]
        rows = interleave(recipes, options.rounds, lambda recipe: run_child(__file__, recipe, args))
        note = add_utilisation(rows.values(), options.pretrained, training_flops)
    quick = "One short round: indicative only. " if options.quick else ""
    note = f"{quick}Hugging Face's best is `{best_of(rows)}` here. {note}"
    found, asked = ratios(rows), ASKED
    if on_a_gpu():
        found["flop_utilisation"] = rows["fit"].flop_utilisation or 0.0
        found["flop_utilisation_attention_dropout_0"] = rows[ON_A_GPU].flop_utilisation or 0.0
        asked = ASKED_ON_A_GPU
    common.report(list(rows.values()), found, asked, options.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
