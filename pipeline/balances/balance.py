"""How much each term of a loss counts as training goes on: the abstract balance."""

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
        """Scalar losses of the terms in one update, (T,) -> what to minimise for each, (T,). Called once per update."""

    def backward(self, losses: list[Tensor], shared: list[nn.Parameter]) -> None:
        """Fill in gradients. losses: of the terms, weighted. shared: parameters that more than one term trains."""
        torch.stack(losses).sum().backward()
