"""How others train the same: the loop that courses teach, and Hugging Face's Trainer as its users set it."""

import argparse
import tempfile
from typing import Any

from bench_common import Clock
from bench_reviews import read

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
