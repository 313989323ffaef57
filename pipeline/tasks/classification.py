"""Classification: which one class an input belongs to."""

from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.soft import soft_kl
from pipeline.losses.sparse import Sparse
from pipeline.project.class_spec import Count, Positive
from pipeline.tasks.task import Answers, Grid, Task, no_class


class Pooled(nn.Module):
    """Linear in the mean and the maximum over positions, (B, D, *grid) -> (B, C)."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.score = nn.Linear(2 * width, classes)

    def forward(self, feature_BDG: Tensor) -> Tensor:
        x_BDP = feature_BDG.reshape(*feature_BDG.shape[:2], -1)
        return self.score(torch.cat([x_BDP.mean(2), x_BDP.amax(2)], 1))


@final
class Classification(Task):
    """Labels: class (B,), -1 none. Predictions: logits (B, C). Metric: top-1 accuracy. temperature: of distillation."""

    primary = "accuracy"
    temperature: float
    sparse = True

    def __init__(self, *, classes: Count, temperature: Positive):
        if classes < 2:
            raise ValueError(f"classes: {classes}, expected at least 2: with fewer there is nothing to tell apart")
        self.classes, self.temperature = classes, temperature

    def head(self, width: int, grid: Grid) -> nn.Module:
        return Pooled(width, self.classes)

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(pred, label.long(), ignore_index=-1, reduction="none")

    def distill_loss(self, student: Tensor, teacher: Tensor | Sparse) -> Tensor:
        return soft_kl(student, teacher, self.temperature)

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        return no_class(label, self.classes)

    def answers(self, pred: Tensor) -> Answers:
        return {"classes": [[c] for c in pred.argmax(1).tolist()]}

    def truth(self, label: np.ndarray) -> Answers:
        return {"classes": [[c] if c >= 0 else [] for c in label.tolist()]}

    def tally(self, pred: Tensor, label: Tensor) -> tuple[int, int]:
        """How many are right, of how many."""
        has = label >= 0
        return int((pred.argmax(1) == label)[has].sum()), int(has.sum())

    def summarize(self, tallies: list[tuple[int, int]]) -> dict[str, float]:
        right, rows = (sum(part) for part in zip(*tallies, strict=True))
        return {"accuracy": right / max(1, rows)}
