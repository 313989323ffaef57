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
        is_best = torch.zeros_like(target, dtype=torch.bool).scatter(1, best, True)
        (pair_s, others_s), (pair_t, others_t) = (self.split(x / self.temperature, best, is_best) for x in (student, target))
        divergence = self.alpha * kl(pair_s, pair_t) + self.beta * kl(others_s, others_t)
        return self.temperature**2 * per_row(divergence)

    def split(self, logits: Tensor, best: Tensor, is_best: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the class and of all others together, (B, 2, *grid); of each other among them, (B, C, *grid)."""
        log_p = F.log_softmax(logits, 1)
        log_rest = log_p.masked_fill(is_best, -torch.inf).logsumexp(1, keepdim=True)  # one minus the first would cancel
        return torch.cat([log_p.gather(1, best), log_rest], 1), (log_p - log_rest).masked_fill(is_best, 0)


def kl(log_s: Tensor, log_t: Tensor) -> Tensor:
    return (log_t.exp() * (log_t - log_s)).sum(1, keepdim=True)
