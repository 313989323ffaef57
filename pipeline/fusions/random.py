"""A random subspace of all teachers' features: the control that a fitted fusion must beat."""

from typing import final

import torch
from torch import Tensor

from pipeline.fusions.linear import LinearFusion, check_dims, equal_say
from pipeline.fusions.moments import Moments
from pipeline.project.class_spec import Count


@final
class Random(LinearFusion):
    """P = A Q: teachers scaled as in PCA, then `dims` orthonormal directions drawn from `seed` alone."""

    def __init__(self, *, dims: Count, seed: int = 0):
        self.dims, self.seed = dims, seed

    def solve(self, moments: Moments) -> dict[str, Tensor]:
        check_dims(self.dims, moments)
        scale = equal_say(moments)
        draw = torch.randn(len(scale), self.dims, dtype=torch.double, generator=torch.Generator().manual_seed(self.seed))
        return {"components": scale[:, None] * torch.linalg.qr(draw).Q.to(scale.device)}
