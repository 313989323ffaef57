"""Weights that make losses of different kinds comparable."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.losses.sparse import Sparse


def constant_loss(loss: Callable[[Tensor, Any], Tensor], shape: tuple[int, ...], target: Tensor | Sparse) -> float:
    """The loss of the best constant predictor: one value a channel, the same in every row and at every position.

    loss: (prediction, target) -> (B,). shape: of a row's prediction, (C, *grid). target: (B, ...). A loss divided by
    this is about 1 before anything is learnt, whatever its kind: static balance, after which weights are plain numbers.
    """
    losses: list[float] = []
    for start in torch.zeros(shape[0]), torch.linspace(-1, 1, shape[0]):  # a loss that standardises leaps from zeros, or stays
        constant = start.to(target.device).view(1, -1, *[1] * (len(shape) - 1)).requires_grad_()
        optimizer = torch.optim.LBFGS([constant], max_iter=50, line_search_fn="strong_wolfe")

        def closure(constant: Tensor = constant) -> Tensor:
            value = loss(constant.expand(len(target), *shape), target).mean()
            [constant.grad] = torch.autograd.grad(value, [constant])
            losses.append(value.item())
            return value

        optimizer.step(closure)
    return max(min(filter(math.isfinite, losses), default=math.nan), 1e-6)
