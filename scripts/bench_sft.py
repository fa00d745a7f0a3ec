"""How fast `sft` trains beside Hugging Face's Trainer as run_mlm.py configures it: real tokens a second.

    python scripts/bench_sft.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench_sft.py --quick                 # embedded reviews, tiny BERT: indicative only

Blocks of 512 tokens, 8 a step, 15 % masked, the model's own dropouts, the same precision: run_mlm.py's
settings in both. Each recipe runs in a fresh process, five steps to warm up, each once a round, in three
rounds; figures are medians.
"""

import argparse
import json
import os
import sys
import tempfile
from itertools import chain
from typing import Any

import bench_common
import bench_reviews
from bench_common import Clock, Enough, Row, interleave, report, run_child

BLOCK, BATCH = 512, 8
RECIPES = ("run_mlm", "sft")


def run_mlm(options: argparse.Namespace, clock: Clock) -> None:
    """Joined texts in blocks, every position decoded."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForMaskedLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    from lit_ft.machine import automatic_precision

    tokenizer = AutoTokenizer.from_pretrained(options.pretrained)
    texts = Dataset.from_dict({"text": bench_reviews.read(options.train_path)[0]})
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

    class Timed(Trainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            if (mask := getattr(self, "mask", None)) is not None:
                clock.step(mask)  # the step before has ended
            self.mask = inputs["attention_mask"]
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        half = automatic_precision() == "bf16-mixed"
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=3, report_to="none", bf16=half
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        Timed(model, arguments, train_dataset=rows, data_collator=collator).train()


def sft(options: argparse.Namespace, clock: Clock) -> None:
    """Our command line, with nothing but a clock added."""
    from lit_ft.__main__ import main
    from lit_ft.mlm_trainer import MaskedLMTrainer

    step = MaskedLMTrainer.training_step

    def timed(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if (mask := getattr(trainer, "mask", None)) is not None:
            clock.step(mask)
        trainer.mask = inputs["attention_mask"]
        return step(trainer, model, inputs, *args, **kwargs)

    MaskedLMTrainer.training_step = timed  # type: ignore
    args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
    args += ["--data.max_tokens", str(BLOCK), "--data.batch_size", str(BATCH), "--eval_strategy", "no"]
    main(["sft", *args, "--num_train_epochs", "3"])


def child(options: argparse.Namespace) -> None:
    """Measure one recipe in this process."""
    clock = Clock(options.seconds, options.steps)
    os.chdir(tempfile.mkdtemp(prefix="bench-"))
    try:
        (run_mlm if options.child == "run_mlm" else sft)(options, clock)
    except Enough:
        pass
    print("\n" + json.dumps(clock.figures()))  # on a line of its own, below a progress bar


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """What is compared."""
    return {"run_mlm": rows["sft"].tokens_per_second / rows["run_mlm"].tokens_per_second}


def main() -> int:
    """Measure both and print the table."""
    parser = bench_common.parser_of(__doc__, RECIPES)
    bench_common.add_window(parser, steps=4)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.quick:
        options.rounds, options.seconds, options.steps = 1, 4, 2
    bench_common.prepare_environment()
    bench_reviews.set_defaults(options, tempfile.mkdtemp(prefix="bench-"))
    args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
    args += ["--seconds", str(options.seconds), "--steps", str(options.steps)]
    rows = interleave(RECIPES, options.rounds, lambda recipe: run_child(__file__, recipe, args))
    quick = "One short round: indicative only." if options.quick else ""
    report(list(rows.values()), ratios(rows), options.json, quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
