"""How fast `sft` trains beside Hugging Face's Trainer as run_mlm.py configures it: real tokens a second.

    python scripts/bench/sft.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench/sft.py --quick                 # embedded reviews, tiny BERT: indicative only

Blocks of 512 tokens, 8 a step, 15 % masked, the model's own dropouts, the same precision: run_mlm.py's
settings in both; no recipe evaluates, saves or ends while it is measured. Each runs in a fresh process, five
steps to warm up, each once a round, in three rounds; figures are medians.
"""

import argparse
import sys
from itertools import chain

import common
import flags
import reviews
from clock import Clock
from common import EPOCHS, Row, interleave, run_child
from flops import add_utilisation, training_flops
from peers import time_steps, training_arguments

BLOCK, BATCH = 512, 8
RECIPES = ("run_mlm", "sft")
ASKED = {"run_mlm": "at least 1.4"}


def run_mlm(options: argparse.Namespace, clock: Clock) -> None:
    """Joined texts in blocks, every position decoded."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForMaskedLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
    )

    from lit_ft.machine import automatic_precision

    tokenizer = AutoTokenizer.from_pretrained(options.pretrained)
    texts = Dataset.from_dict({"text": reviews.read(options.train_path)[0]})
    tokens = texts.map(
        lambda batch: tokenizer(batch["text"], return_special_tokens_mask=True),
        batched=True,
        remove_columns=["text"],
    )

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {key: list(chain(*values)) for key, values in batch.items()}
        total = len(joined["input_ids"]) // BLOCK * BLOCK
        return {key: [ids[i : i + BLOCK] for i in range(0, total, BLOCK)] for key, ids in joined.items()}

    rows = tokens.map(group, batched=True)
    model = AutoModelForMaskedLM.from_pretrained(options.pretrained, dtype=torch.float32)

    time_steps(Trainer, clock)
    half = automatic_precision() == "bf16-mixed"
    arguments = training_arguments(per_device_train_batch_size=BATCH, bf16=half)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()


def sft(options: argparse.Namespace, clock: Clock) -> None:
    """Our command line, with nothing but a clock added."""
    from lit_ft.masked_lm.trainer import MaskedLMTrainer

    time_steps(MaskedLMTrainer, clock)
    args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
    args += ["--data.max_tokens", str(BLOCK), "--data.batch_size", str(BATCH)]
    args += ["--num_train_epochs", str(EPOCHS), "--model.warmup_share", "0", "--save_steps", "1000000"]
    common.run_ours(["sft", *args, "--eval_strategy", "no", "--eval_on_start", "false"])


def child(options: argparse.Namespace) -> None:
    """Measure one recipe in this process."""
    clock, run = Clock(options.seconds, options.steps), run_mlm
    if options.child == "sft":
        common.set_own_environment()
        run = sft
    common.measure(lambda: run(options, clock), clock)


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """What is compared."""
    return {"run_mlm": rows["sft"].tokens_per_second / rows["run_mlm"].tokens_per_second}


def main() -> int:
    """Measure both and print the table."""
    parser = flags.parser_of(__doc__, RECIPES)
    flags.add_window(parser, steps=4)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.quick:
        options.rounds, options.seconds, options.steps = 1, 2, 2
    flags.check_least(options, rounds=1, steps=1, seconds=0)
    flags.check_inputs(options)
    with common.workplace() as folder:
        reviews.set_defaults(options, str(folder))
        args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
        args += ["--seconds", str(options.seconds), "--steps", str(options.steps)]
        rows = interleave(RECIPES, options.rounds, lambda recipe: run_child(__file__, recipe, args))
        note = add_utilisation(rows.values(), options.pretrained, training_flops)
    quick = "One short round: indicative only. " if options.quick else ""
    common.report(list(rows.values()), ratios(rows), ASKED, options.json, quick + note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
