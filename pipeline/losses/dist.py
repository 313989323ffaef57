"""Correlation of predictions, within a position and within a class: a stronger teacher is asked for no exact match."""

from typing import final

import torch
from torch import Tensor

from pipeline.losses.loss import Loss, decorrelation
from pipeline.project.class_spec import Positive


@final
class DIST(Loss):
    """`beta (1 - Pearson over classes) + gamma (1 - Pearson over the batch, class by class)` (2205.10536).

    Of probabilities at `temperature`, times its square. Positions of a map count as rows of the batch.
    """

    def __init__(self, *, beta: float = 1.0, gamma: float = 1.0, temperature: Positive = 1.0):
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        s, t = (torch.softmax(x / self.temperature, dim=1) for x in (student, target))
        between, within = (decorrelation(s, t, dims) for dims in ((1,), (0, *range(2, s.dim()))))
        return self.temperature**2 * (self.beta * between + self.gamma * within)
