"""Principal components of all teachers' features together, no teacher louder than another."""

from collections.abc import Iterable
from typing import Self, final

import torch

from pipeline.fusions.fusion import Features, Fusion
from pipeline.fusions.moments import Moments, positions


@final
class PCA(Fusion):
    """U = V_k^T A (z - mean) / sqrt(mean eigenvalue): teacher t scaled by sqrt(D_t / tr C_tt), then the top `dims` components.

    One target, "components": (B, dims, *grid). `energy` is the share of the scaled variance that it keeps.
    """

    def __init__(self, *, dims: int):
        self.dims = dims

    def fit(self, batches: Iterable[Features]) -> Self:
        moments = Moments(batches)
        total = sum(moments.widths.values())
        if self.dims > total:
            raise ValueError(f"dims: {self.dims} components asked of {total} channels; ask for at most {total}")
        variances = moments.covariance.diagonal().split(list(moments.widths.values()))
        scale = torch.cat([(v.numel() / v.sum().clamp(min=1e-12)).sqrt().expand(v.numel()) for v in variances])
        eigenvalues, vectors = torch.linalg.eigh(scale[:, None] * moments.covariance * scale)
        eigenvalues, vectors = eigenvalues.flip(0)[: self.dims].clamp(min=0), vectors.flip(1)[:, : self.dims]
        # eigh leaves the sign of a component open: make its largest entry positive
        vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        self.energy = (eigenvalues.sum() / (scale**2 * moments.covariance.diagonal()).sum()).item()
        self.mean = moments.mean.float()
        self.projection = (scale[:, None] * vectors / eigenvalues.mean().sqrt()).float()
        return self

    def transform(self, features: Features) -> Features:
        first = next(iter(features.values()))
        u_PK = (positions(features).float() - self.mean) @ self.projection
        u_BKG = u_PK.view(len(first), -1, self.dims).transpose(1, 2)
        return {"components": u_BKG.reshape(len(first), self.dims, *first.shape[2:])}
