"""How fast `fit` trains beside the loop that courses teach and Hugging Face's Trainer: real tokens a second.

    python scripts/bench_fit.py --data.train_path train.csv --model.pretrained ENCODER [--json bench.json]
    python scripts/bench_fit.py --quick                 # embedded reviews, tiny BERT: indicative only

Each recipe runs in a fresh process, five steps to warm up, each once a round, in three rounds; figures are
medians. All cut at 512 tokens, with the encoder's own dropouts; `fit as shipped` has no attention dropout, as
our configs. `bare` steps our model over our batches in a plain loop: the rest is Lightning's share and ours.
"""

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_common import ROOT, Clock, Enough, Row, interleave, report, run_child

MAX_TOKENS = 512
TRAINER = {  # recipe -> what TrainingArguments get
    "hf default": {"per_device_train_batch_size": 8},
    "hf best, bf16": {
        "per_device_train_batch_size": 32,
        "train_sampling_strategy": "group_by_length",
        "optim": "adamw_torch_fused",
        "bf16": True,
    },
}
TRAINER["hf best, fp32"] = {**TRAINER["hf best, bf16"], "bf16": False}
RECIPES = ("course", *TRAINER, "fit", "fit as shipped", "bare")


def read(path: str) -> tuple[list[str], list[int]]:
    """Texts and labels from 0 of a csv with the columns text and label."""
    csv.field_size_limit(1 << 30)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = [int(row["label"]) for row in rows]
    return [row["text"] for row in rows], [label - min(labels) for label in labels]


def course(options: argparse.Namespace, clock: Clock) -> None:
    """The loop that courses teach: two texts a batch, padded to the cap, float32."""
    import torch
    from torch.optim import AdamW
    from torch.utils.data import DataLoader
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

    texts, labels = read(options.train_path)
    tokenizer = AutoTokenizer.from_pretrained(options.pretrained)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModelForSequenceClassification.from_pretrained(
        options.pretrained, num_labels=max(labels) + 1, dtype=torch.float32
    ).to(device)

    def collate(rows: list[int]) -> dict[str, Any]:
        chosen = [texts[i] for i in rows]
        batch = tokenizer(
            chosen, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return {**batch, "labels": torch.tensor([labels[i] for i in rows])}

    loader: Any = DataLoader(range(len(texts)), shuffle=True, batch_size=2, collate_fn=collate)  # type: ignore[arg-type]
    optimizer = AdamW(model.parameters(), lr=5e-5)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=3 * len(loader))
    model.train()
    for batch in loader:
        batch = {key: value.to(device) for key, value in batch.items()}
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.step(batch["attention_mask"])


def trainer(options: argparse.Namespace, clock: Clock, recipe: str) -> None:
    """Hugging Face's Trainer: as run_classification.py configures it, or with its best flags for this."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        default_data_collator,
    )

    texts, labels = read(options.train_path)
    tokenizer = AutoTokenizer.from_pretrained(options.pretrained)
    padded = recipe == "hf default"
    rows = Dataset.from_dict({"text": texts, "label": labels}).map(
        lambda batch: tokenizer(
            batch["text"],
            truncation=True,
            max_length=MAX_TOKENS,
            padding="max_length" if padded else False,
        ),
        batched=True,
        remove_columns=["text"],
    )
    model = AutoModelForSequenceClassification.from_pretrained(
        options.pretrained, num_labels=max(labels) + 1, dtype=torch.float32
    )

    class Timed(Trainer):
        def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            # The step before has ended, its optimizer too, and this batch has been fetched.
            if (mask := getattr(self, "mask", None)) is not None:
                clock.step(mask)
            self.mask = inputs["attention_mask"]
            return super().training_step(model, inputs, *args, **kwargs)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, num_train_epochs=3, report_to="none", **TRAINER[recipe])
        collator = default_data_collator if padded else DataCollatorWithPadding(tokenizer)
        Timed(model, arguments, train_dataset=rows, data_collator=collator).train()


def fit_args(options: argparse.Namespace, recipe: str) -> list[str]:
    """The flags of `fit` for a recipe."""
    own_dropouts = [] if recipe == "fit as shipped" else ["--model.attention_dropout", "null"]
    return [
        *("--config", "yelp_local.yaml", "--data.train_path", options.train_path, "--data.max_tokens", "512"),
        *("--model.pretrained", options.pretrained, *own_dropouts),
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
    """Our model and our batches in a plain loop."""
    import torch
    import yaml
    from torch.nn import functional as F

    from lit_ft.data import YelpDataModule
    from lit_ft.machine import automatic_precision
    from lit_ft.model import BertClassifier
    from lit_ft.optim import linear_decay, parameter_groups

    shipped = yaml.safe_load((ROOT / "configs/yelp_local.yaml").read_text(encoding="utf-8"))["data"]
    own = {"train_path": options.train_path, "max_tokens": MAX_TOKENS, "tokenizer": options.pretrained}
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
    """Measure one recipe in this process."""
    import json

    clock, recipe = Clock(options.seconds, options.steps), options.child
    os.chdir(tempfile.mkdtemp(prefix="bench-"))
    try:
        if recipe in ("course", "bare"):
            (course if recipe == "course" else bare)(options, clock)
        else:
            (trainer if recipe in TRAINER else fit)(options, clock, recipe)
    except Enough:
        pass
    print(json.dumps(clock.figures()))


def ratios(rows: dict[str, Row]) -> dict[str, float]:
    """What is compared; a peer's best is the faster of its precisions here."""
    speed = {recipe: row.tokens_per_second for recipe, row in rows.items()}
    best = max((recipe for recipe in rows if recipe.startswith("hf best")), key=speed.__getitem__)
    return {
        "course": speed["fit"] / speed["course"],
        "course_as_shipped": speed["fit as shipped"] / speed["course"],
        "hf_default": speed["fit"] / speed["hf default"],
        "hf_best": speed["fit"] / speed[best],
        "peak_memory": rows["fit"].peak_bytes / rows[best].peak_bytes,
        "overhead": 1 - speed["fit"] / speed["bare"],
    }


def write_sample(folder: str) -> str:
    """The embedded reviews as a csv."""
    from lit_ft.sample import make_reviews

    path = str(Path(folder) / "train.csv")
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "text"))
        writer.writerows((label, text) for text, label in zip(*make_reviews("train"), strict=True))
    return path


def set_defaults(options: argparse.Namespace, folder: str) -> None:
    """Where no texts or encoder are named, the embedded ones; all as full paths."""
    if options.train_path is None:
        options.train_path = write_sample(folder)
    if options.pretrained is None:
        from lit_ft.sample import sample_encoder

        options.pretrained = str(sample_encoder())
    options.train_path = str(Path(options.train_path).resolve())
    options.pretrained = str(Path(options.pretrained).resolve())


def main() -> int:
    """Measure all recipes and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data.train_path", dest="train_path")
    parser.add_argument("--model.pretrained", dest="pretrained")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="to measure a recipe, each round")
    parser.add_argument("--steps", type=int, default=8, help="to measure at least")
    parser.add_argument("--quick", action="store_true", help="one short round: indicative only")
    parser.add_argument("--json", help="file to write, too")
    parser.add_argument("--child", choices=RECIPES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return 0
    if options.quick:
        options.rounds, options.seconds, options.steps = 1, 4, 2
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    set_defaults(options, tempfile.mkdtemp(prefix="bench-"))
    args = ["--data.train_path", options.train_path, "--model.pretrained", options.pretrained]
    args += ["--seconds", str(options.seconds), "--steps", str(options.steps)]
    rows = interleave(RECIPES, options.rounds, lambda recipe: run_child(__file__, recipe, args))
    quick = "One short round: indicative only. " if options.quick else ""
    best = max(("hf best, bf16", "hf best, fp32"), key=lambda name: rows[name].tokens_per_second)
    note = f"{quick}Hugging Face's best is `{best}` here."
    report(list(rows.values()), ratios(rows), options.json, note)
    return 0


if __name__ == "__main__":
    sys.exit(main())
