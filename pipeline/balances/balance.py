"""What each term of a loss counts for while training goes on: the abstract balance."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Balance(nn.Module, ABC):
    """terms: names of the loss's terms, each already divided by the loss of its best constant predictor (static.py)."""

    random = False  # whether it draws random numbers, in an order that threads would change

    def __init__(self, terms: list[str]):
        super().__init__()
        self.terms = terms

    @abstractmethod
    def forward(self, losses: Tensor) -> Tensor:
        """Of one update: scalar losses of the terms, (T,), -> what to minimise of each, (T,). Called once an update."""

    def backward(self, losses: list[Tensor], shared: list[nn.Parameter]) -> None:
        """Fill in gradients. losses: of the terms, weighted. shared: what more than one term trains."""
        torch.stack(losses).sum().backward()
