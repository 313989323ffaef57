"""How many stars a user gives a candidate."""

import math
from typing import final

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from pipeline.losses.loss import exists
from pipeline.tasks.candidates import Score, best_places, mean_over
from pipeline.tasks.task import Answers, Grid, Task


@final
class Rating(Task):
    """Labels: stars (B, L), 0 where there is no rating. Predictions: stars (B, L), `ABSENT` where there is no candidate.

    Metrics: concordance, the share of pairs with different stars, over all users, that are predicted in the right order
    (Harrell's C; for two levels the AUC), and RMSE. start: the first prediction.
    """

    primary = "concordance"
    plain = ("RMSE",)

    def __init__(self, *, start: float = 3.0):
        self.start = start

    def head(self, width: int, grid: Grid) -> nn.Module:
        return Score(width, self.start)

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        return mean_over((pred - label).square(), label > 0)

    def distill_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        return mean_over((student - teacher).square(), exists(teacher))

    def answers(self, pred: Tensor) -> Answers:
        """The best candidates: (place, stars), best first."""
        best = best_places(pred, exists(pred))
        return {"list": [[(int(p), float(row[p])) for p in places] for places, row in zip(best, pred.cpu(), strict=True)]}

    def truth(self, label: np.ndarray) -> Answers:
        ranked = [np.argsort(-row, kind="stable")[: (row > 0).sum()] for row in label]
        return {"list": [[(int(p), float(row[p])) for p in places] for places, row in zip(ranked, label, strict=True)]}

    def tally(self, pred: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        rated = label > 0
        return pred[rated].cpu(), label[rated].cpu()

    def summarize(self, tallies: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        pred, label = (torch.cat(part).double().numpy() for part in zip(*tallies, strict=True))
        if not len(label):
            return {"concordance": 0.5, "RMSE": 0.0}
        return {"concordance": concordance(pred, label), "RMSE": float(np.sqrt(np.mean((pred - label) ** 2)))}


def concordance(pred: np.ndarray, label: np.ndarray) -> float:
    """Exact, from Kendall's tau-b in O(N log N); tied predictions count one half."""
    label_pairs, pred_pairs = pairs_apart(label), pairs_apart(pred)
    if not label_pairs or not pred_pairs:
        return 0.5
    tau = kendalltau(label, pred).statistic
    return float(0.5 + 0.5 * tau * (pred_pairs / label_pairs) ** 0.5)


def pairs_apart(x: np.ndarray) -> int:
    """How many pairs differ."""
    return math.comb(len(x), 2) - sum(math.comb(n, 2) for n in np.unique(x, return_counts=True)[1].tolist())
