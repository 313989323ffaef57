"""Multi-label classification: which classes are present in the input."""

from typing import final

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.loss import per_row
from pipeline.losses.soft import soft_bce
from pipeline.project.class_spec import Count
from pipeline.tasks.task import Answers, Grid, Task


class AnyPosition(nn.Module):
    """A class is present if it is at any position: logits of every position, joined by log-sum-exp, (B, D, *grid) -> (B, C).

    Pooling the feature first learns several times slower where objects are small.
    """

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.score = nn.Linear(width, classes)
        nn.init.constant_(self.score.bias, -4.0)  # most classes are at no position

    def forward(self, feature_BDG: Tensor) -> Tensor:
        return self.score(feature_BDG.flatten(2).transpose(1, 2)).logsumexp(1)


@final
class MultiLabel(Task):
    """Labels: multi-hot (B, C). Predictions: logits (B, C). Metric: macro average precision."""

    primary = "macro_AP"

    def __init__(self, *, classes: Count):
        self.classes = classes

    def head(self, width: int, grid: Grid) -> nn.Module:
        return AnyPosition(width, self.classes)

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        return per_row(F.binary_cross_entropy_with_logits(pred, label.float(), reduction="none"))

    def distill_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return soft_bce(student, teacher)

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        return f"labels have {label.shape[1]} classes, the task {self.classes}" if label.shape[1] != self.classes else None

    def answers(self, pred: Tensor) -> Answers:
        return {"classes": [np.flatnonzero(row) for row in pred.cpu() > 0]}

    def truth(self, label: np.ndarray) -> Answers:
        return {"classes": [np.flatnonzero(row) for row in label]}

    def tally(self, pred: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return pred.cpu(), label.cpu()

    def summarize(self, tallies: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        pred, label = (torch.cat(part).numpy() for part in zip(*tallies, strict=True))
        present = label.any(0)  # the average precision of a class without a positive is undefined
        scores = [average_precision_score(label[:, c], pred[:, c]) for c in np.flatnonzero(present)]
        return {"macro_AP": float(np.mean(scores)) if scores else 0.0}
