"""Direction and size, position by position: the default loss of fused features."""

from typing import final

from torch import Tensor
from torch.nn import functional as F

from pipeline.losses.loss import Loss, per_row


@final
class CosineSmoothL1(Loss):
    """`1/2 (1 - cos) + 1/2 SmoothL1` per position (UNIC, 2408.05088); expects standardised targets."""

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        cosine = 1 - F.cosine_similarity(student, target, dim=1, eps=1e-6)
        return 0.5 * per_row(cosine) + 0.5 * per_row(F.smooth_l1_loss(student, target, reduction="none"))
