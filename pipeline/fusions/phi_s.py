"""No fusion either, but every teacher rotated so that its channels vary alike: PHI-S (2410.01680)."""

from typing import final

import torch
from torch import Tensor

from pipeline.fusions.linear import LinearFusion
from pipeline.fusions.moments import Moments


@final
class PhiS(LinearFusion):
    """One target per teacher: centred, scaled by one number and rotated, so that every channel has variance 1.

    Distances keep their ratios, as they would not under whitening. The paper rotates by a Hadamard matrix, which few widths
    have; any rotation that evens out the variances will do, and Givens rotations make one for any width (Bendel & Mickey 1978).
    """

    def solve(self, moments: Moments) -> dict[str, Tensor]:
        rotations = [equalising(block / block.diagonal().mean().clamp(min=1e-12)) for block in moments.blocks()]
        projections = torch.block_diag(*rotations).split(list(moments.widths.values()), dim=1)
        return dict(zip(moments.widths, projections, strict=True))


def equalising(covariance: Tensor) -> Tensor:
    """A rotation Q, (D, D), such that the diagonal of Q^T C Q is constant."""
    c, q = covariance.clone(), torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    goal = c.diagonal().mean()
    for _ in range(len(c) - 1):
        diagonal = c.diagonal()
        low, high = int(diagonal.argmin()), int(diagonal.argmax())
        below, above, cross = goal - diagonal[low], diagonal[high] - goal, c[low, high]
        if min(below, above) <= 1e-12 * goal:
            break
        # tan of the angle that puts `goal` at [low, low]: t^2 above + 2 t cross - below = 0
        tangent = (-cross + (cross**2 + above * below).sqrt()) / above
        cosine = (1 + tangent**2).rsqrt()
        rotation = torch.stack([torch.stack([cosine, -tangent * cosine]), torch.stack([tangent * cosine, cosine])])
        pair = [low, high]
        c[:, pair] = c[:, pair] @ rotation
        c[pair] = rotation.T @ c[pair]
        q[:, pair] = q[:, pair] @ rotation
    return q
