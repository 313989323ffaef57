"""Which rows are alike, compared between any two features: no projection comes between student and target."""

from typing import final

import torch
from torch import Tensor, nn

from pipeline.losses.loss import Adapter, Loss


@final
class CKA(Loss):
    """`1 - CKA` of linear kernels, debiased: `HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L))` (2010.15327).

    The plain estimate finds unrelated features alike in a small batch. Rows are compared whole: maps are flattened. Returned
    as half the squared distance of the two kernels, U-centred and of norm 1, row by row, which has the same mean and is not
    negative. Fewer than 4 rows are a ValueError.
    """

    def adapter(self, student: int, target: int) -> nn.Module:
        return Adapter(nn.Identity(), nn.Identity())

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        if len(student) < 4:
            raise ValueError(f"CKA compares the rows of a batch, and {len(student)} are too few: give it at least 4")
        return 0.5 * len(student) * (kernel(student) - kernel(target)).square().sum(1)


def kernel(x: Tensor) -> Tensor:
    """Inner products of different rows, (B, B), centred so that every row's mean is 0 (Szekely & Rizzo 2014), of norm 1."""
    x, n = (x - x.mean(0)).flatten(1), len(x)
    off_diagonal = 1 - torch.eye(n, dtype=x.dtype, device=x.device)
    k = (x @ x.T) * off_diagonal
    means = k.sum(1, keepdim=True) / (n - 2)
    k = (k - means - means.T + k.sum() / ((n - 1) * (n - 2))) * off_diagonal
    return k * (k.square().sum() + 1e-12).rsqrt()
