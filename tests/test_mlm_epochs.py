"""What changes with the epoch: the rows' order and masks."""

from mlm_tiny import make_trainer

from lit_ft.masking import IGNORED


def test_every_epoch_has_its_own_masks_and_order(tmp_path):
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": 4}
    trainer = make_trainer(tmp_path, count=8, settings=settings)
    seen, compute_loss = [], trainer.compute_loss

    def record(model, inputs, **kwargs):
        originals = inputs["input_ids"].where(inputs["labels"] == IGNORED, inputs["labels"])
        seen.extend(zip(originals.tolist(), inputs["labels"].tolist(), strict=True))
        return compute_loss(model, inputs, **kwargs)

    trainer.compute_loss = record
    trainer.train()
    pad = trainer.processing_class.pad_token_id
    ids = [tuple(i for i in row if i != pad) for row, _ in seen]
    given = sorted(tuple(row) for row in trainer.train_dataset["input_ids"])
    assert sorted(ids[:8]) == given and sorted(ids[8:]) == given  # every row once an epoch
    assert ids[:8] != ids[8:]
    masks = [tuple(i for i, label in enumerate(labels) if label != IGNORED) for _, labels in seen]
    first, second = (dict(zip(ids[k : k + 8], masks[k : k + 8], strict=True)) for k in (0, 8))
    assert sum(first[row] != second[row] for row in given) >= 7
