"""A learned subspace: teachers' features can be rebuilt from it, and each teacher's logits read from it."""

from typing import final

import torch
from torch import Tensor, nn

from pipeline.fusions.fusion import Features
from pipeline.fusions.learned import LearnedFusion
from pipeline.fusions.linear import LinearFusion, check_dims, equal_say, leading, on_grid, variances
from pipeline.fusions.moments import Moments, positions
from pipeline.project.class_spec import Count

RIDGE = 1e-3  # of the mean variance: what is quieter is not made as loud as the rest


@final
class TaskAware(LinearFusion, LearnedFusion):
    """A linear autoencoder of all teachers' features, as in amalgamation (1811.02796), with a head per task on its code.

    On its own an autoencoder finds principal components, from which this one starts; the heads turn it towards what is quiet
    yet decides a teacher's answer. Decoder and heads are dropped. One target, "components": (B, dims, *grid). A linear code
    is enough where features are tapped before a linear head.
    """

    def __init__(self, *, dims: Count, updates: Count = 400, batch_size: Count = 128, learning_rate: float = 0.03):
        self.dims, self.updates, self.batch_size, self.learning_rate = dims, updates, batch_size, learning_rate

    def solve(self, moments: Moments) -> dict[str, Tensor]:
        check_dims(self.dims, moments)
        self.scale = equal_say(moments)
        scaled = self.scale[:, None] * moments.covariance * self.scale
        eigenvalues, vectors = leading(scaled, len(scaled))
        self.sizes = (eigenvalues + RIDGE * eigenvalues.mean().clamp(min=1e-12)).sqrt()
        self.directions = self.scale[:, None] * vectors
        return {"components": self.directions[:, : self.dims]}

    def module(self) -> nn.Module:
        start = torch.diag(self.sizes)[:, : self.dims] / self.sizes[: self.dims].square().mean().sqrt()
        return Code(list(self.moments.widths), self.mean, (self.directions / self.sizes).float(), start.float())

    def goal(self, features: Features) -> Features:
        return {"teachers": on_grid((positions(features).float() - self.mean) * self.scale.float(), features)}

    def adopt(self, module: nn.Module) -> None:
        assert isinstance(module, Code)
        projection = (module.whitening @ module.weight).detach().double()
        self.projections = {"components": (projection / variances(self.moments.covariance, projection).mean().sqrt()).float()}


@final
class Code(nn.Module):
    """(z - mean) whitening W: W is trained, and after whitening finds what is quiet as fast as what is loud."""

    mean: Tensor  # (sum D,)
    whitening: Tensor  # (sum D, sum D)

    def __init__(self, names: list[str], mean: Tensor, whitening: Tensor, start: Tensor):
        super().__init__()
        self.names = names
        self.register_buffer("mean", mean.clone())
        self.register_buffer("whitening", whitening.clone())
        self.weight = nn.Parameter(start)

    def forward(self, inputs: Features) -> Features:
        features = {name: inputs[name] for name in self.names}
        code = (positions(features).float() - self.mean) @ (self.whitening @ self.weight)
        return {"components": on_grid(code, features)}
