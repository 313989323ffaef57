"""Which of many targets is a row's own: contrastive, with the store's earlier targets as the others."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.loss import Loss
from pipeline.project.class_spec import Count, Positive

SAME = 1 - 1e-6  # cosine of two targets that no projection tells apart


@final
class CRD(Loss):
    """InfoNCE of each row's student against its own target and others' (1910.10699, with the loss of 1807.03748).

    Both are pooled over positions, projected to `dims` and compared by cosine over `temperature`. Others: those of the batch,
    and the last `bank` targets before it. A cached target never goes stale, so the bank keeps it as it is and projects it
    anew. In units of its value at chance: 1 for a student that tells no row from another. It never quite reaches 0.
    """

    def __init__(self, *, dims: Count = 128, bank: Count = 4096, temperature: Positive = 0.07):
        self.dims, self.bank, self.temperature = dims, bank, temperature

    def adapter(self, student: int, target: int) -> nn.Module:
        return Bank(student, target, self.dims, self.bank)

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        """student: (B, C). target: (B + M, C), the rows' own first; rows of zeros are not targets."""
        if student.dim() > 2:
            raise ValueError(f"CRD compares pooled features, not logits {tuple(student.shape)}: choose another logit_loss")
        s, t = F.normalize(student, dim=1), F.normalize(target, dim=1)
        is_candidate = torch.eye(len(s), len(t), dtype=torch.bool, device=s.device) | (target != 0).any(1)
        logits = (s @ t.T / self.temperature).masked_fill(~is_candidate, -torch.inf)
        return (logits.logsumexp(1) - logits.diagonal()) / is_candidate.sum(1).clamp(min=2).log()


@final
class Bank(nn.Module):
    """Projections of pooled features and targets. The batch's targets are followed by those of earlier batches: zeros where
    there is none yet, or one that is in the batch too and would be contrasted with itself."""

    seen: Tensor  # (M, D), the latest first; rows of zeros: none yet

    def __init__(self, student: int, target: int, dims: int, size: int):
        super().__init__()
        self.student, self.target = nn.Linear(student, dims, bias=False), nn.Linear(target, dims, bias=False)
        self.register_buffer("seen", torch.zeros(size, target))

    def forward(self, student: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        student, target = (x.flatten(2).mean(2) if x.dim() > 2 else x for x in (student, target))
        is_duplicate = F.normalize(self.seen, dim=1) @ F.normalize(target, dim=1).T > SAME
        others = self.seen.masked_fill(is_duplicate.any(1, keepdim=True), 0)
        if self.training:
            self.seen.copy_(torch.cat([target, self.seen])[: len(self.seen)])
        return self.student(student), self.target(torch.cat([target, others]))
