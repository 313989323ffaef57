"""When something happens: yes or no for every stretch of time."""

from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.loss import per_row
from pipeline.losses.soft import soft_bce
from pipeline.tasks.task import Answers, Grid, Task


@final
class Jolts(Task):
    """Labels: 0 or 1 a moment, (B, T). Predictions: logits (B, 1, t), every (T / t)-th moment. Metric: F1 over moments."""

    primary = "F1"

    def head(self, width: int, grid: Grid) -> nn.Module:
        return nn.Conv1d(width, 1, 1)

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        return per_row(F.binary_cross_entropy_with_logits(pred, at_stride(label, pred).float(), reduction="none"))

    def distill_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_bce(student, teacher)

    def tally(self, pred: Tensor, label: Tensor) -> Tensor:
        """How many moments are hits, said, and there."""
        said, there = pred > 0, at_stride(label, pred) > 0
        return torch.stack([(said & there).sum(), said.sum(), there.sum()]).cpu()

    def summarize(self, tallies: list[Tensor]) -> dict[str, float]:
        hits, said, there = torch.stack(tallies).sum(0).tolist()
        return {"F1": 2 * hits / max(1, said + there)}

    def answers(self, pred: Tensor) -> Answers:
        return {"spans": [spans(row, 4) for row in (pred[:, 0] > 0).cpu().numpy()]}

    def truth(self, label: np.ndarray) -> Answers:
        return {"spans": [spans(row > 0, 1) for row in label]}


def at_stride(label: Tensor, pred: Tensor) -> Tensor:
    return label[:, None, :: label.shape[1] // pred.shape[2]]


def spans(flags: np.ndarray, stride: int) -> list[tuple[int, int]]:
    """Where it begins and ends, in moments of the signal."""
    edges = np.flatnonzero(np.diff(flags.astype(int), prepend=0, append=0)) * stride
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
