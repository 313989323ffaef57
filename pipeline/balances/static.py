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
    constant = torch.zeros((1, shape[0]) + (1,) * (len(shape) - 1), device=target.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=50, line_search_fn="strong_wolfe")
    seen: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(constant.expand(len(target), *shape), target).mean()
        value.backward()
        seen.append(value.item())
        return value

    optimizer.step(closure)
    with torch.no_grad():
        found = loss(constant.expand(len(target), *shape), target).mean().item()
    if not math.isfinite(found):  # a loss that standardises is steep at zeros, where this begins: the search may leap too far
        found = min(filter(math.isfinite, seen), default=math.nan)
    return max(found, 1e-6)
