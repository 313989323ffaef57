"""Correlation of features, channel by channel: the target's size and offset do not matter."""

from typing import final

from torch import Tensor

from pipeline.losses.loss import Loss, decorrelation


@final
class PKD(Loss):
    """`1 - Pearson` of each channel over the batch's rows and positions, averaged over channels (2207.02039).

    As in the paper: both are standardised over rows and positions, then `1/2 MSE`.
    """

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        return decorrelation(student, target, (0, *range(2, student.dim())))
