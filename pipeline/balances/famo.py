"""Terms fall at one rate: more weight for what has fallen least, from the losses alone."""

from typing import final

import torch
from torch import Tensor, nn

from pipeline.balances.balance import Balance

LEAST = 1e-8  # a loss that has a logarithm


@final
class FAMO(Balance):
    """`sum_i c z_i log L_i`, z = softmax(w) and c = T / sum(z / L) both held; w falls with what a term has gained (2306.03792).

    The gain, the fall of log L, is measured from one batch to the next instead of by a second pass over the same one: what
    batches differ by cancels as they go on. A term that is absent from a batch, at 0, takes no part in it.

    learning_rate, decay: of Adam on w.
    """

    last: Tensor  # (T,): of the batch before; 0 where there was none

    def __init__(self, *, terms: list[str], learning_rate: float = 0.025, decay: float = 0.001):
        super().__init__(terms)
        self.w = nn.Parameter(torch.zeros(len(terms)), requires_grad=False)  # trained here, not with the student
        self.adam = torch.optim.Adam([self.w], lr=learning_rate, weight_decay=decay)
        self.register_buffer("last", torch.zeros(len(terms)))
        self.begun = False  # by itself: to ask `last` is to wait for a GPU

    def forward(self, losses: Tensor) -> Tensor:
        present = losses.detach() > 0
        if self.training:
            self.learn(torch.where(present, losses.detach(), self.last))
        z = torch.softmax(self.w, 0) * present
        c = present.sum() / (z / losses.detach().clamp(min=LEAST)).sum().clamp(min=LEAST)
        return c * z * losses.clamp(min=LEAST).log()

    def learn(self, losses: Tensor) -> None:
        gain = torch.where(self.last > 0, self.last.clamp(min=LEAST).log() - losses.clamp(min=LEAST).log(), 0)
        z = torch.softmax(self.w, 0)
        if self.begun:
            self.w.grad = z * (gain - (z * gain).sum())
            self.adam.step()
        self.last, self.begun = losses, True
