"""The channels that vary most, of any teacher, as they are."""

from typing import final

import torch
from torch import Tensor

from pipeline.fusions.linear import LinearFusion, check_dims
from pipeline.fusions.moments import Moments


@final
class Loudest(LinearFusion):
    """P picks the `dims` channels of the largest variance: what a mixture of channels must beat."""

    def __init__(self, *, dims: int):
        self.dims = dims

    def solve(self, moments: Moments) -> dict[str, Tensor]:
        check_dims(self.dims, moments)
        variance = moments.covariance.diagonal()
        return {"channels": torch.eye(len(variance)).to(variance)[:, variance.argsort(descending=True)[: self.dims]]}
