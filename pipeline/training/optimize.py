"""The training loop of one network: a teacher, a student, or the heads of either."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.batches.batches import Batch, tensors
from pipeline.batches.pools import Rows
from pipeline.training.objective import Objective

WARM_UP = 0.1  # share of the updates
CLIP = 5.0  # norm of the gradient
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW


class Diverged(ValueError):
    """A loss or a gradient is not finite: training cannot go on."""


@dataclass(frozen=True)
class Schedule:
    """How to train: AdamW, the rate rising linearly over the first tenth and falling to 0 as a cosine (1608.03983).

    precision: of the network's arithmetic, forward and back; weights, losses and moments are float32 (1710.03740).
    """

    updates: int
    learning_rate: float
    weight_decay: float
    precision: str = "float32"

    def rate(self, update: int) -> float:
        """Learning rate of an update in [0, updates), as a share of the highest."""
        warm = max(1, round(WARM_UP * self.updates))
        if update < warm:
            return (update + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (update - warm) / max(1, self.updates - warm)))


def optimize(
    objective: Objective, schedule: Schedule, knowledge: Iterator[Rows | Batch] | None, labelled: Iterator[Rows | Batch] | None
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """`schedule.updates` optimiser steps on the sum of the objective's terms; yields the count and the terms after each.

    Trains what requires a gradient, and leaves training and evaluation mode to the caller. Raises Diverged.
    """
    trained = [p for p in objective.parameters() if p.requires_grad]
    device = trained[0].device
    groups = decay_groups(trained, schedule.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=BETAS, eps=EPSILON, fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    for update in range(1, schedule.updates + 1):
        terms = objective(*(tensors(next(source), device) if source else {} for source in (knowledge, labelled)))
        optimizer.zero_grad()
        objective.backward(terms)
        for p in trained:
            if p.grad is None:  # a head without a label in this batch: its momentum goes on, as in a stack
                p.grad = torch.zeros_like(p)
        if not nn.utils.clip_grad_norm_(trained, CLIP).isfinite():
            raise Diverged(f"update {update}: the gradient is not finite; lower the learning rate")
        optimizer.step()
        rates.step()
        yield update, {name: term.detach() for name, term in terms.items()}


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict]:
    """Weights decay; biases and the scales of normalisation do not."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
