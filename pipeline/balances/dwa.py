"""More weight for what learns slowly."""

from typing import final

import torch
from torch import Tensor

from pipeline.balances.balance import Balance
from pipeline.class_spec import Count, Positive


@final
class DWA(Balance):
    """Dynamic weight average: `T softmax(r / temperature)`, r the ratio of a term's last two means (1803.10704).

    every: updates that a mean is taken over. Until there are two, all weigh 1.
    """

    def __init__(self, *, terms: list[str], every: Count = 50, temperature: Positive = 2.0):
        super().__init__(terms)
        self.every, self.temperature = every, temperature
        self.seen: list[Tensor] = []
        self.means: list[Tensor] = []
        self.register_buffer("weights", torch.ones(len(terms)))

    def forward(self, losses: Tensor) -> Tensor:
        if self.training:
            self.seen.append(losses.detach())
        if len(self.seen) == self.every:
            self.means = [*self.means[-1:], torch.stack(self.seen).mean(0)]
            self.seen = []
            if len(self.means) == 2:
                ratio = self.means[1] / self.means[0].clamp(min=1e-8)
                self.weights = len(self.terms) * torch.softmax(ratio / self.temperature, dim=0)
        return self.weights * losses
