"""The figures of a sample of the training texts: beside validation's they tell learning from memorising."""

from collections import Counter
from typing import Any

import numpy as np
import torch

from lit_ft.classifier import batch_settings

MOST_ROWS = 200  # a standard error of 3 points; no more than the validation has rows
ROWS_AT_ONCE = 50
SEED = 0  # of a generator of its own


def on_training_texts(trainer: Any, model: Any, most: int) -> dict[str, float]:
    """Answer training texts with the weights of this moment, without dropout. Every process answers all.

    For the end of a validation. Nothing is drawn from the run's random streams, and no weight changes.

    Args:
        trainer: Of the running fit.
        model: The BertClassifier.
        most: Texts to answer, at most.

    Returns:
        `rows`, and what the kind of label counts of them, such as how many are answered `right`.
    """
    datamodule = trainer.datamodule
    rows = datamodule.splits["train"].rows
    count = min(most, MOST_ROWS, len(rows))
    chosen = np.random.default_rng(SEED).choice(len(rows), count, replace=False)
    chosen = chosen[np.argsort(rows.lengths[chosen], kind="stable")]  # similar lengths together
    collate = batch_settings.padding_collator(datamodule.hparams, datamodule.tokenizer)
    assert not model.training  # Lightning ends a validation before it goes on to train
    totals: Counter[str] = Counter()
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for start in range(0, count, ROWS_AT_ONCE):
            batch = collate([rows[int(i)] for i in chosen[start : start + ROWS_AT_ONCE]])
            batch = trainer.strategy.batch_to_device(batch)
            totals.update(model.kind.trained(model, model.logits_of(batch), batch["labels"]))
    return {"rows": count, **totals}
