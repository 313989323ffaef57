"""Fusions that are one affine map of all teachers' channels, found from their second moments alone."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Self

import torch
from torch import Tensor

from pipeline.fusions.fusion import Features, Fusion
from pipeline.fusions.moments import Moments, common_grid, positions


class AffineFusion(Fusion):
    """Fusions that are one affine map of all teachers' channels, so that what they keep follows from second moments alone.

    moments: of the rows that it was fitted on.
    """

    moments: Moments

    @property
    @abstractmethod
    def projection(self) -> Tensor:
        """From all channels, side by side, to those of all targets: (sum D, sum K), float64."""


class LinearFusion(AffineFusion):
    """U = (z - mean) P, position by position, with z all channels side by side, on the teachers' coarsest grid.

    A final class gives P from the moments; it is scaled here to a mean variance of 1 over a target's channels.
    """

    @abstractmethod
    def solve(self, moments: Moments) -> dict[str, Tensor]:
        """{target: P, (sum D, K)}, float64."""

    def fit(self, batches: Iterable[Features]) -> Self:
        self.moments = Moments(batches)
        self.mean = self.moments.mean.float()
        projections = self.solve(self.moments)
        scales = {name: variances(self.moments.covariance, p).mean().clamp(min=1e-12).sqrt() for name, p in projections.items()}
        self.projections = {name: (p / scales[name]).float() for name, p in projections.items()}
        return self

    @property
    def projection(self) -> Tensor:
        return torch.cat(list(self.projections.values()), 1).double()

    def transform(self, features: Features) -> Features:
        z_PD = positions(features).float() - self.mean
        return {name: on_grid(z_PD[:, channels] @ p[channels], features) for name, p, channels in self.parts()}

    def parts(self) -> Iterator[tuple[str, Tensor, slice]]:
        """Each target's map, and the channels it reads: with one target per teacher, those of the others are all zero in it."""
        for name, p in self.projections.items():
            used_channels = p.any(1).nonzero().flatten().tolist() or [0]
            yield name, p, slice(used_channels[0], used_channels[-1] + 1)


def on_grid(x_PK: Tensor, features: Features) -> Tensor:
    """One line per position, as from `positions`, back on the features' common grid: (B, K, *grid)."""
    rows, grid = len(next(iter(features.values()))), common_grid(features)
    return x_PK.view(rows, -1, x_PK.shape[1]).transpose(1, 2).reshape(rows, x_PK.shape[1], *grid)


def variances(covariance: Tensor, projection: Tensor) -> Tensor:
    """The variance of each projected channel: the diagonal of P^T C P, (K,)."""
    return (projection * (covariance @ projection)).sum(0)


def check_dims(dims: int, moments: Moments) -> None:
    total = sum(moments.widths.values())
    if dims > total:
        raise ValueError(f"dims: {dims} components asked of {total} channels; ask for at most {total}")


def equal_say(moments: Moments) -> Tensor:
    """The scale of every channel, (sum D,), that gives each teacher a mean variance of 1: sqrt(D_t / tr C_tt)."""
    diagonals = moments.covariance.diagonal().split(list(moments.widths.values()))
    return torch.cat([(v.numel() / v.sum().clamp(min=1e-12)).sqrt().expand(v.numel()) for v in diagonals])


def leading(symmetric: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues, (dims,), and their vectors, (D, dims), each with its largest entry positive."""
    eigenvalues, vectors = torch.linalg.eigh(symmetric)
    vectors = vectors.flip(1)[:, :dims]
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()  # eigh leaves them open
    return eigenvalues.flip(0)[:dims].clamp(min=0), vectors * signs
