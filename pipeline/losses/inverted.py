"""The target is projected onto the student: what the student cannot use of another task's feature may be left out."""

from typing import final

from torch import Tensor, nn

from pipeline.losses.loss import Adapter, Loss, decorrelation


@final
class InvertedProjection(Loss):
    """`1/2 MSE` of a student's feature and its linearly projected target, channel by channel (2403.14494).

    Both are standardised over rows and positions as in PKD, or they would meet at zero. Nothing keeps the projection from
    giving every channel the same direction, so use it beside other losses, not alone.
    """

    def adapter(self, student: int, target: int) -> nn.Module:
        return Adapter(nn.Identity(), nn.Linear(target, student, bias=False))

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        return decorrelation(student, target, (0, *range(2, student.dim())))
