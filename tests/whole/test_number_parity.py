"""A fit of numbers is the loop that people write around transformers' regression head, step for step."""

import numpy as np
import pytest
import torch
from conftest import review, write_csv
from test_parity import PADDED, SEEN, Record
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

STARS = np.arange(40) % 5 + 1
START = "--trainer.callbacks=[{class_path: test_number_parity.RecordFromStart}]"


class RecordFromStart(Record):
    """Notes the weights before the first step, too: the head is new, and drawn at random."""

    def on_train_start(self, trainer, pl_module) -> None:
        super().on_train_start(trainer, pl_module)
        SEEN["start"] = {k: v.detach().clone() for k, v in pl_module.net.state_dict().items()}


@pytest.mark.parametrize("loss", ["mse", "huber"])
def test_a_fit_of_numbers_is_the_plain_loop(loss, lit_ft, work, encoder, tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("small")  # BERT's own scale: losses near 1, and rounding to match
    AutoModel.from_config(AutoConfig.from_pretrained(encoder, initializer_range=0.02)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    texts = [review(int(star), i // 5) for i, star in enumerate(STARS)]
    write_csv(work / "train.csv", [(f"{star * 2.5}", text) for star, text in zip(STARS, texts, strict=True)])
    none = [f"--model.{name}_dropout=0" for name in ("hidden", "attention", "classifier")]
    code, _, err = lit_ft(
        "fit", "--config", "course.yaml", "--data.source", "null", "--data.train_path", "train.csv",
        "--data.validation_path", "train.csv", "--data.max_tokens", "64", "--model.pretrained", str(folder),
        "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", "--data.task", "regression",
        "--data.ordered", "auto", "--model.loss", loss, *none, START,
    )  # fmt: skip
    assert code == 0, err

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    encoded = tokenizer(texts, **PADDED, return_tensors="pt")
    rows = encoded["input_ids"].tolist()
    order = [[rows.index(ids) for ids in batch] for batch in SEEN["ids"]]  # equal texts have equal labels
    targets = torch.tensor((STARS - STARS.mean()) / STARS.std(), dtype=torch.float32)

    head = {"num_labels": 1, "problem_type": "regression", "hidden_dropout_prob": 0.0}
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, attention_probs_dropout_prob=0.0, **head
    )
    model.load_state_dict(SEEN["start"])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    schedule = LambdaLR(optimizer, lambda step: 1 - step / len(order))
    losses = []
    for batch in order:
        found = model(**{name: values[batch] for name, values in encoded.items()}, labels=targets[batch])
        mean = found.loss
        if loss == "huber":
            mean = torch.nn.functional.huber_loss(found.logits.squeeze(-1), targets[batch])
        mean.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(mean.item())

    assert len(losses) == 40 and sum(losses[20:]) < sum(losses[:20])
    torch.testing.assert_close(SEEN["losses"], losses, rtol=0, atol=1e-6)
    for name, weight in model.named_parameters():
        if not name.endswith("key.bias"):  # no gradient but noise, which AdamW scales up
            torch.testing.assert_close(SEEN["weights"][name], weight.detach(), rtol=0, atol=1e-6)
