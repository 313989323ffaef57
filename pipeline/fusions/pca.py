"""Principal components of all teachers' features together, no teacher louder than another."""

from typing import final

from torch import Tensor

from pipeline.fusions.linear import LinearFusion, check_dims, equal_say, leading
from pipeline.fusions.moments import Moments
from pipeline.project.class_spec import Count


@final
class PCA(LinearFusion):
    """P = A V_k: teacher t scaled by A, sqrt(D_t / tr C_tt), then the top `dims` components of what is scaled.

    One target, "components": (B, dims, *grid). `energy` is the share of the scaled variance that it keeps.
    """

    def __init__(self, *, dims: Count):
        self.dims = dims

    def solve(self, moments: Moments) -> dict[str, Tensor]:
        check_dims(self.dims, moments)
        scale = equal_say(moments)
        scaled = scale[:, None] * moments.covariance * scale
        eigenvalues, vectors = leading(scaled, self.dims)
        self.energy = (eigenvalues.sum() / scaled.trace()).item()
        return {"components": scale[:, None] * vectors}
