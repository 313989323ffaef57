"""Squared distance: of features, or of logits as in the field's founding paper."""

from typing import final

from torch import Tensor

from pipeline.losses.loss import Loss, per_row


@final
class MSE(Loss):
    """`1/2 (S - T)^2`, averaged over channels and positions (of logits: Ba & Caruana, 1312.6184)."""

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        return 0.5 * per_row((student - target).square())
