"""What changes with the epoch: the rows' order and masks, and who of several processes has which."""

import numpy as np
import pytest
import torch
from mlm_tiny import make_trainer

from lit_ft.masked_lm.data import EpochSampler, ShareCollator, SharedBatches
from lit_ft.masked_lm.masking import IGNORED


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


@pytest.mark.parametrize("num_rows, batch_size, world_size", [(24, 4, 2), (25, 4, 2), (27, 2, 4), (3, 8, 4)])
def test_processes_share_the_batches_of_one(num_rows, batch_size, world_size):
    sampler = EpochSampler(np.arange(num_rows) % 7, batch_size * world_size, 1, group_by_length=True)
    sampler.set_epoch(3)
    order, total = list(sampler), batch_size * world_size
    one = [order[i : i + total] for i in range(0, num_rows, total)]
    shares = [SharedBatches(sampler, batch_size, rank, world_size) for rank in range(world_size)]
    assert {len(share) for share in shares} == {len(one)}
    for whole, *parts in zip(one, *shares, strict=True):
        assert sum(parts, []) == whole  # each row once, in the order of one process
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch_size


def test_a_share_without_rows_adds_nothing(tmp_path):
    """Neither loss nor gradient nor tokens; and the model runs, for whose gradients the others wait."""
    trainer = make_trainer(tmp_path)
    empty = ShareCollator(trainer.masking)([])
    loss = trainer.compute_loss(trainer.model, empty, num_items_in_batch=torch.tensor(5))
    loss.backward()
    gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
    assert loss.item() == 0 and trainer.window.sums.tolist() == [0] * 6
    assert empty["attention_mask"].sum() == 0 and empty["input_ids"].numel() == 0
    reference = trainer.compute_loss(trainer.model, trainer.masking([trainer.train_dataset[0]]))
    trainer.model.zero_grad()
    reference.backward()
    for name, parameter in trainer.model.named_parameters():
        assert (parameter.grad is None) == (gradients[name] is None), name  # DDP waits for the same ones
        assert gradients[name] is None or not gradients[name].any(), name
