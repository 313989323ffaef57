"""A distribution over thousands of classes in few numbers: the likeliest with the mass of the rest, or a sample of it.

Both are distributions at temperature 1. For a few hundred classes store all logits: they are small.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Sparse:
    """ids: classes, (B, K, *grid). log_probs: of those and, last, of all others together, (B, K + 1, *grid).

    Without log_probs the ids are a sample: each stands for 1 / K, and a class may come more than once.
    """

    ids: Tensor
    log_probs: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def device(self) -> torch.device:
        return self.ids.device

    def loss(self, student: Tensor) -> Tensor:
        """How far a student's logits, (B, C, *grid), are from it, in nats, by position: (B, *grid).

        With log_probs: KL over K + 1 outcomes, the last being "any other class"; at K = C - 1 the KL of all. Of a sample:
        cross-entropy, whose mean over samples is that of the whole distribution, and so is its gradient.
        """
        if self.log_probs is None:
            return -F.log_softmax(student, dim=1).gather(1, self.ids.long()).mean(1)
        log_p = self.log_probs.to(student).log_softmax(1)  # stored in half width they do not quite add up to 1
        return (log_p.exp() * (log_p - with_rest(student, self.ids))).sum(1)


def with_rest(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of some classes, (B, K, *grid), and of all others together: (B, K + 1, *grid)."""
    log_p, ids = F.log_softmax(logits, dim=1), ids.long()
    log_rest = log_p.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)  # one minus the mass of those would cancel
    return torch.cat([log_p.gather(1, ids), log_rest], 1)


def top_k(logits: Tensor, k: int) -> Sparse:
    """The k < C likeliest classes, likeliest first, and the mass of the rest. logits: (B, C, *grid)."""
    ids = logits.topk(k, dim=1).indices
    return Sparse(narrow(ids, logits.shape[1]), with_rest(logits.float(), ids))


def sample(logits: Tensor, k: int, uniform: Tensor) -> Sparse:
    """k classes in which each is expected k p times: unbiased, as the sampling of 2503.16870, and closer.

    Drawn systematically (Kitagawa 1996): at k equal steps through the cumulative distribution from one random start, so a
    class comes floor(k p) or ceil(k p) times. logits: (B, C, *grid). uniform: the starts, in [0, 1), (B, 1, *grid).
    """
    cumulative = logits.double().softmax(1).cumsum(1).movedim(1, -1).contiguous()
    ids = torch.searchsorted(cumulative, marks(k, uniform).movedim(1, -1).contiguous(), right=True)
    return Sparse(narrow(ids.clamp(max=logits.shape[1] - 1).movedim(-1, 1), logits.shape[1]))


def marks(k: int, uniform: Tensor) -> Tensor:
    """Where a sample cuts the cumulative distribution: (B, k, *grid), in [0, 1)."""
    steps = torch.arange(k, device=uniform.device, dtype=torch.double)
    return (steps.view(-1, *[1] * (uniform.dim() - 2)) + uniform) / k


def misplaced(logits: Tensor, ids: Tensor, uniform: Tensor) -> Tensor:
    """How far each draw of a sample lies outside its class's part of the cumulative distribution: (B, K, *grid), 0 if in it."""
    p = logits.double().softmax(1)
    p, end = (x.gather(1, ids.long()) for x in (p, p.cumsum(1)))
    mark = marks(ids.shape[1], uniform)
    return (mark - end).clamp(min=0) + (end - p - mark).clamp(min=0)


def narrow(ids: Tensor, classes: int) -> Tensor:
    return ids.to(torch.uint16 if classes <= 2**16 else torch.int32)
