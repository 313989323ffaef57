"""A learned weight per term: the noisier a loss, the less it counts."""

from typing import final

import torch
from torch import Tensor, nn

from pipeline.balances.balance import Balance

FURTHEST = 4.0  # a log-variance beyond which a term would be lost, or drown the others


@final
class Uncertainty(Balance):
    """`exp(-s) L + s` with a learned log-variance s per term (Kendall et al., 1705.07115): at its best, s = log L.

    A term that is absent from a batch, at 0, takes no part in it.
    """

    def __init__(self, *, terms: list[str]):
        super().__init__(terms)
        self.log_variance = nn.Parameter(torch.zeros(len(terms)))

    def forward(self, losses: Tensor) -> Tensor:
        with torch.no_grad():
            self.log_variance.clamp_(-FURTHEST, FURTHEST)  # clamping only what is used would leave it stuck, without gradient
        return (losses.detach() > 0) * (torch.exp(-self.log_variance) * losses + self.log_variance)
