"""The loss of a batch: weighted by the rows' own labels, smoothed evenly, never 0 / 0."""

import pytest
import torch
from torch.nn import functional as F

from lit_ft.classifier.loss import mean_over_processes, weights_of
from lit_ft.errors import UserError
from lit_ft.tasks import cross_entropy

LABELS = torch.tensor([0, 2, 1, 0, 2, 2, 1])
LOGITS = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)) * 3
WEIGHTS = torch.tensor([0.3, 2.0, 5.0])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weights, smoothing", [(None, 0.0), (None, 0.1), (WEIGHTS, 0.0)])
def test_each_alone_is_torchs_own_bit_for_bit(weights, smoothing, reduction):
    found, expected = (
        loss(LOGITS.clone().requires_grad_())
        for loss in (
            lambda z: (z, cross_entropy(z, LABELS, weights, smoothing, reduction)),
            lambda z: (
                z,
                F.cross_entropy(z, LABELS, weights, reduction=reduction, label_smoothing=smoothing),
            ),
        )
    )
    assert torch.equal(found[1], expected[1])
    gradients = [torch.autograd.grad(loss, z)[0] for z, loss in (found, expected)]
    assert torch.equal(*gradients)


def test_both_by_hand():
    targets = 0.9 * torch.eye(3)[LABELS] + 0.1 / 3
    losses, own = -(targets * LOGITS.log_softmax(-1)).sum(-1), WEIGHTS[LABELS]
    torch.testing.assert_close(cross_entropy(LOGITS, LABELS, WEIGHTS, 0.1, "sum"), (own * losses).sum())
    mean = cross_entropy(LOGITS, LABELS, WEIGHTS, 0.1, "mean")
    torch.testing.assert_close(mean, (own * losses).sum() / own.sum())


@pytest.mark.parametrize("classes, every", [(2, 33), (5, 300)])
def test_a_rare_class_does_not_draw_all_rows(classes, every):
    """1,500 rows that one feature separates, few of the last class, balanced weights and smoothing."""
    labels = torch.arange(1500) % (classes - 1)
    labels[::every] = classes - 1
    features = torch.eye(classes)[labels]
    weights = weights_of("balanced", ["name"] * classes, torch.bincount(labels).tolist())
    layer = torch.nn.Linear(classes, classes)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(layer(features), labels, weights, 0.1, "mean").backward()
        optimizer.step()
    assert (layer(features).argmax(-1) == labels).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("step_weight", [None, 3.5])
def test_a_batch_of_weightless_rows_has_loss_and_gradient_0(smoothing, step_weight):
    logits, labels, weights = LOGITS.clone().requires_grad_(), LABELS * 0 + 1, torch.tensor([1.0, 0.0, 1.0])
    total = cross_entropy(logits, labels, weights, smoothing, "sum")
    shared = mean_over_processes(total, len(labels), weights[labels], 1, step_weight)
    for loss in (cross_entropy(logits, labels, weights, smoothing, "mean"), shared):
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, logits, retain_graph=True)[0].any()


def test_weights_that_leave_nothing_to_learn():
    with pytest.raises(UserError, match=r"found \[0.0, 0.0, 1.0\] for 5, 5, 0 rows: nothing would be"):
        weights_of([0.0, 0.0, 1.0], ["a", "b", "c"], [5, 5, 0])
