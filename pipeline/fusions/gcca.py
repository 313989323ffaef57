"""What teachers share, and then what each has of its own: regularised MAX-VAR generalised CCA and the PCA of its residual."""

from typing import final

import torch
from torch import Tensor

from pipeline.fusions.linear import LinearFusion, check_dims, equal_say, leading
from pipeline.fusions.moments import Moments
from pipeline.project.class_spec import Count

SHARED = 1.5  # eigenvalue: 1 is one teacher's own, m is common to all m


@final
class GCCA(LinearFusion):
    """Shared: eigenvectors of W C W above 1.5, with W_t = (C_tt + ridge tr(C_tt) / D_t I)^(-1/2) (Kettenring 1971).

    PCA finds what is loud, GCCA what is common. The rest of `dims` are principal components of the scaled teachers, less
    what the shared ones explain. One target, "components": `shared` of them, then the private ones.
    """

    def __init__(self, *, dims: Count, ridge: float = 0.01):
        self.dims, self.ridge = dims, ridge

    def solve(self, moments: Moments) -> dict[str, Tensor]:
        check_dims(self.dims, moments)
        c, scale = moments.covariance, equal_say(moments)
        whitening = torch.block_diag(*(self.whitened(block) for block in moments.blocks()))
        eigenvalues, vectors = leading(whitening @ c @ whitening, self.dims)
        self.shared = int((eigenvalues > SHARED).sum())
        shared = whitening @ vectors[:, : self.shared]
        shared = shared / (shared * (c @ shared)).sum(0).sqrt()  # of unit variance, and uncorrelated
        loadings = c @ shared  # (sum D, S): how each channel follows from the shared components
        residual = c - loadings @ loadings.T
        eigenvalues, vectors = leading(scale[:, None] * residual * scale, self.dims - self.shared)
        rest = scale[:, None] * vectors
        rest = (rest - shared @ (loadings.T @ rest)) / eigenvalues.mean().clamp(min=1e-12).sqrt() if rest.shape[1] else rest
        return {"components": torch.cat([shared, rest], 1)}

    def whitened(self, block: Tensor) -> Tensor:
        """Inverse square root of a teacher's covariance, with ridge."""
        mean_variance = block.diagonal().mean().clamp(min=1e-12)
        eigenvalues, vectors = torch.linalg.eigh(block)
        return vectors @ torch.diag((eigenvalues.clamp(min=0) + self.ridge * mean_variance).rsqrt()) @ vectors.T
