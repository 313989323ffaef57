"""How sure a teacher is of one class, and how it ranks the others: weighted apart, as in KL they are not."""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.losses.loss import Loss, per_row
from pipeline.project.class_spec import Positive


@final
class DKD(Loss):
    """`T^2 (alpha TCKD + beta NCKD)`: KL of "this class or another", and KL among the others (2203.08679).

    "This class" is the label's in the paper; knowledge carries none, so here it is the teacher's likeliest, which is the
    label's wherever the teacher is right. With alpha = 1, and beta the teacher's mass on the others, it would be KL.
    """

    def __init__(self, *, alpha: float = 1.0, beta: float = 8.0, temperature: Positive = 4.0):
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        best = target.argmax(1, keepdim=True)
        chosen = torch.zeros_like(target, dtype=torch.bool).scatter(1, best, True)
        (one_s, among_s), (one_t, among_t) = (self.split(x / self.temperature, best, chosen) for x in (student, target))
        parts = self.alpha * kl(one_s, one_t) + self.beta * kl(among_s, among_t)
        return self.temperature**2 * per_row(parts)

    def split(self, logits: Tensor, best: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the class and of all others together, (B, 2, *grid); of each other among them, (B, C, *grid)."""
        log_p = F.log_softmax(logits, 1)
        rest = log_p.masked_fill(chosen, -torch.inf).logsumexp(1, keepdim=True)  # one minus the first would cancel
        return torch.cat([log_p.gather(1, best), rest], 1), (log_p - rest).masked_fill(chosen, 0)


def kl(log_s: Tensor, log_t: Tensor) -> Tensor:
    return (log_t.exp() * (log_t - log_s)).sum(1, keepdim=True)
