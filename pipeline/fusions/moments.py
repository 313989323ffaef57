"""Streamed second moments, from which every linear fusion is computed."""

from collections.abc import Callable, Iterable
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.fusions.fusion import Features

POOL: dict[int, Callable] = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


class Moments:
    """Mean and covariance of the concatenated channels, over all rows and positions, in float64.

    Batches are merged by Chan's update, which unlike `E[x^2] - E[x]^2` does not cancel. widths: {"teacher/tap": D}.
    """

    def __init__(self, batches: Iterable[Features]):
        self.widths: dict[str, int] = {}
        self.count = 0
        for features in batches:
            self.widths = {name: x.shape[1] for name, x in features.items()}
            self.merge(positions(features).double())
        if not self.count:
            raise ValueError("no rows to fit on: the transfer set is empty")
        self.covariance = self.scatter.div_(self.count)

    @property
    def at(self) -> dict[str, slice]:
        """Where each feature's channels are among all channels."""
        ends = accumulate(self.widths.values())
        return {name: slice(end - width, end) for (name, width), end in zip(self.widths.items(), ends, strict=True)}

    def blocks(self) -> list[Tensor]:
        """Each feature's own covariance, (D, D)."""
        return [self.covariance[channels, channels] for channels in self.at.values()]

    def merge(self, x_PD: Tensor) -> None:
        count, mean = len(x_PD), x_PD.mean(0)
        centred = x_PD - mean
        if not self.count:
            self.count, self.mean, self.scatter = count, mean, centred.T @ centred
            return
        total_count, delta = self.count + count, mean - self.mean
        self.scatter.addmm_(centred.T, centred).addr_(delta, delta, alpha=self.count * count / total_count)
        self.mean = self.mean + delta * (count / total_count)
        self.count = total_count


def common_grid(features: Features) -> tuple[int, ...]:
    """The coarsest of the teachers' grids, axis by axis."""
    grids = {name: tuple(x.shape[2:]) for name, x in features.items()}
    if len({len(grid) for grid in grids.values()}) > 1:
        raise ValueError(f"teachers' features differ in kind (maps, sequences, vectors): {grids}; tap one kind")
    return tuple(min(sizes) for sizes in zip(*grids.values(), strict=True))


def positions(features: Features) -> Tensor:
    """Features joined along channels on their common grid, one line per position: (B * prod(grid), sum D).

    Finer ones are averaged over the area of a coarser cell.
    """
    grid = common_grid(features)
    resampled = [x if x.shape[2:] == grid else POOL[len(grid)](x.float(), grid) for x in features.values()]
    x_BDG = torch.cat([x.flatten(2) if grid else x[..., None] for x in resampled], 1)
    return x_BDG.transpose(1, 2).flatten(0, 1)
