"""How others train the same: the loop that courses teach, and Hugging Face's Trainer as its users set it."""

import argparse
from collections.abc import Sequence
from itertools import chain
from statistics import fmean
from typing import Any

from clock import Clock
from common import EPOCHS, MAX_TOKENS
from reviews import read

COMMON: dict[str, Any] = {  # nothing but steps while they are measured
    "output_dir": "out",
    "num_train_epochs": EPOCHS,
    "save_strategy": "no",
    "report_to": "none",
}
TRAINER: dict[str, dict[str, Any]] = {  # recipe -> what TrainingArguments get
    "hf default": {"per_device_train_batch_size": 8},
    "hf best, bf16": {
        "per_device_train_batch_size": 32,
        "train_sampling_strategy": "group_by_length",
        "optim": "adamw_torch_fused",
        "bf16": True,
    },
}
TRAINER["hf best, fp32"] = {**TRAINER["hf best, bf16"], "bf16": False}


def training_arguments(**own: Any) -> Any:
    """TrainingArguments that the recipes share, and a recipe's own."""
    import torch
    from transformers import TrainingArguments

    # transformers 5.23 refuses bf16 on a CPU unless told to use it.
    return TrainingArguments(**COMMON, use_cpu=not torch.cuda.is_available(), **own)


def mean_row(lengths: Sequence[int]) -> tuple[float, float]:
    """Mean length of a file's texts, and its mean square."""
    return fmean(lengths), fmean(length**2 for length in lengths)


def course(options: argparse.Namespace, clock: Clock) -> None:
    """The loop that courses teach: two texts a batch, padded to the cap, float32."""
    import torch
    from torch.optim import AdamW
    from torch.utils.data import DataLoader
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler

    texts, labels = read(options.train_path)
    tokenizer = AutoTokenizer.from_pretrained(options.pretrained)
    token_ids = tokenizer(texts, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    clock.mean_row = mean_row([len(ids) for ids in token_ids])
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
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=EPOCHS * len(loader))
    model.train()
    for batch in chain.from_iterable(loader for _ in range(EPOCHS)):
        batch = {key: value.to(device) for key, value in batch.items()}
        model(**batch).loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.step(batch["attention_mask"])


def time_steps(trainer: Any, clock: Clock) -> None:
    """Have the steps of a class of transformers' Trainers counted."""
    step = trainer.training_step

    def timed(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        # The step before has ended, its optimizer too, and this batch has been fetched.
        if (mask := getattr(self, "mask", None)) is not None:
            clock.step(mask)
        self.mask = inputs["attention_mask"]
        return step(self, model, inputs, *args, **kwargs)

    trainer.training_step = timed


def trainer(options: argparse.Namespace, clock: Clock, recipe: str) -> None:
    """Hugging Face's Trainer: as run_classification.py configures it, or with its best flags for this."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
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
    if padded:
        clock.mean_row = mean_row([sum(mask) for mask in rows["attention_mask"]])
    model = AutoModelForSequenceClassification.from_pretrained(
        options.pretrained, num_labels=max(labels) + 1, dtype=torch.float32
    )

    time_steps(Trainer, clock)
    arguments = training_arguments(**TRAINER[recipe])
    collator = default_data_collator if padded else DataCollatorWithPadding(tokenizer)
    Trainer(model, arguments, train_dataset=rows, data_collator=collator).train()
