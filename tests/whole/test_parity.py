"""`fit` with `course.yaml` is the course's hand-written loop, step for step."""

import csv

import pytest
import torch
from conftest import review, write_csv
from lightning import Callback
from text_pairs import PAIRS, write_pairs
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

SEEN: dict[str, list] = {}


class Record(Callback):
    """Notes the rows and the loss of every step, and the last weights."""

    def on_train_start(self, trainer, pl_module) -> None:
        SEEN.update(ids=[], losses=[])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        SEEN["ids"].append(batch["input_ids"].tolist())
        SEEN["losses"].append(outputs["loss"].item())

    def on_train_end(self, trainer, pl_module) -> None:
        SEEN["weights"] = {k: v.detach().clone() for k, v in pl_module.net.named_parameters()}


PADDED = {"padding": "max_length", "truncation": True, "max_length": 64}


def course_loop(folder, texts, labels, order, num_epochs):
    """The loop as courses write it: nothing of lit_ft in it. `order` stands for the shuffle.

    `texts` are a list of texts, or two of pairs.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(*texts, **PADDED, return_tensors="pt")
    rows = [
        {"labels": torch.tensor(y), **{k: v[i] for k, v in encoded.items()}} for i, y in enumerate(labels)
    ]
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len({*labels}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    num_training_steps = num_epochs * len(rows) // 2
    schedule = LambdaLR(optimizer, lambda step: 1 - step / num_training_steps)
    losses = []
    model.train()
    for batch in DataLoader(rows, batch_size=2, sampler=order):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, dict(model.named_parameters())


FILES = {"texts": ("text",), "pairs": ("first", "second")}


@pytest.mark.parametrize("columns", FILES.values(), ids=FILES)
def test_fit_is_the_course_loop(columns, lit_ft, work, encoder, tmp_path_factory):
    # Few rows: keys' biases have no gradient but noise, which AdamW scales up step by step.
    write_csv(work / "train.csv", [(i % 5 + 1, review(i % 5 + 1, i // 5)) for i in range(40)])
    paths = ["--data.train_path", "train.csv", "--data.validation_path", "test.csv"]
    if len(columns) == 2:
        write_pairs(work / "train.csv", 40)
        paths = [
            "--data.train_path",
            "train.csv",
            "--data.validation_path",
            "train.csv",
            *PAIRS,
            "--data.ordered",
            "false",
        ]
    with open("train.csv", newline="") as file:
        reviews = list(csv.DictReader(file))
    classes = sorted({r["label"] for r in reviews})
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("classifier")  # with a head, so that both start from the same one
    settings = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": len(classes)}
    config = AutoConfig.from_pretrained(encoder, initializer_range=0.02, **settings)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    code, _, err = lit_ft(
        "fit", "--config", "course.yaml", "--data.source", "null", *paths, "--data.max_tokens", "64",
        "--model.pretrained", str(folder), "--trainer.max_epochs", "2", "--trainer.callbacks",
        '[{"class_path": "test_parity.Record"}]', "--trainer.accelerator", "cpu",
    )  # fmt: skip
    assert code == 0, err

    texts = [[r[column] for r in reviews] for column in columns]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = tokenizer(*texts, **PADDED)["input_ids"]
    # Rows with equal texts have equal labels, so any of them may stand for the one that fit took.
    order = [rows.index(ids) for batch in SEEN["ids"] for ids in batch]
    labels = [classes.index(r["label"]) for r in reviews]
    losses, weights = course_loop(folder, texts, labels, order, num_epochs=2)

    assert len(losses) == len(SEEN["losses"]) == 40
    assert sum(losses[20:]) < sum(losses[:20])  # it learns: the comparison is of something
    torch.testing.assert_close(SEEN["losses"], losses, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        SEEN["weights"], {k: v.detach() for k, v in weights.items()}, rtol=0, atol=1e-6
    )
