import math

import torch
from torch.nn import functional as F

from pipeline.balance import constant_loss
from pipeline.losses.loss import per_row


def bce(pred, target):
    return per_row(F.binary_cross_entropy_with_logits(pred, target, reduction="none"))


def test_constant_loss_of_labels_is_their_entropy():
    target = torch.zeros(100, 2)
    target[:25, 0] = 1
    target[:50, 1] = 1
    entropies = [-(p * math.log(p) + (1 - p) * math.log(1 - p)) for p in (0.25, 0.5)]
    assert abs(constant_loss(bce, (2,), target) - sum(entropies) / 2) < 1e-5


def test_constant_loss_of_values_is_their_variance():
    target = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    variance = target.transpose(0, 1).flatten(1).var(1, correction=0).mean().item()
    squared = lambda pred, target: per_row((pred - target) ** 2)  # noqa: E731
    assert abs(constant_loss(squared, (3, 4, 4), target) - variance) < 1e-5


def test_a_task_without_variance_does_not_divide_by_zero():
    assert constant_loss(bce, (2,), torch.zeros(10, 2)) > 0
