"""No fusion: one target per teacher, the baseline that every fusion must beat (URL, 2204.02744)."""

from collections.abc import Iterable
from typing import Self, final

import torch
from torch import Tensor

from pipeline.fusions.fusion import Features
from pipeline.fusions.linear import AffineFusion
from pipeline.fusions.moments import Moments


@final
class NoFusion(AffineFusion):
    """Every teacher's feature, each channel standardised; channels without variance become zero."""

    def fit(self, batches: Iterable[Features]) -> Self:
        self.moments = moments = Moments(batches)
        std = moments.covariance.diagonal().sqrt()
        scale = (std > 1e-6) / std.clamp(min=1e-6)
        widths = list(moments.widths.values())
        self.affine = {
            name: (mean.float(), factor.float())
            for name, mean, factor in zip(moments.widths, moments.mean.split(widths), scale.split(widths), strict=True)
        }
        return self

    @property
    def projection(self) -> Tensor:
        return torch.diag(torch.cat([scale for _, scale in self.affine.values()])).double()

    def transform(self, features: Features) -> Features:
        return {name: standardise(features[name].float(), *self.affine[name]) for name in features}


def standardise(x: Tensor, mean_D: Tensor, scale_D: Tensor) -> Tensor:
    """(x - mean) * scale over dim 1 of (B, D, *grid)."""
    shape = (-1,) + (1,) * (x.dim() - 2)
    return (x - mean_D.view(shape)) * scale_D.view(shape)
