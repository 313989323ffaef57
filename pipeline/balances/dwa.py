"""More weight for what learns slowly."""

from typing import final

import torch
from torch import Tensor

from pipeline.balances.balance import Balance
from pipeline.project.class_spec import Count, Positive


@final
class DWA(Balance):
    """Dynamic weight average: `T softmax(r / temperature)`, r the ratio of a term's last two means (1803.10704).

    every: updates per mean, which counts those whose batch has the term; a term that none has keeps its last mean. Until
    there are two means, every weight is 1.
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
            seen_losses = torch.stack(self.seen)
            mean = seen_losses.sum(0) / (seen_losses > 0).sum(0)
            self.means = [*self.means[-1:], torch.where(mean.isnan(), self.means[-1], mean) if self.means else mean]
            self.seen = []
            if len(self.means) == 2:
                ratio = (self.means[1] / self.means[0]).nan_to_num(nan=1.0)
                self.weights = len(self.terms) * torch.softmax(ratio / self.temperature, dim=0)
        return self.weights * losses
