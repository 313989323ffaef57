"""Predictions on lists of candidates: what their heads share, and metrics of the best ten."""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.losses.loss import ABSENT

BEST = 10


class Score(nn.Module):
    """One number a candidate, linear in its feature: (B, D, L) -> (B, L), `absent` where the feature is zero throughout.

    A softmax over channels is so one over candidates, which ranking losses compare.
    """

    def __init__(self, width: int, start: float, absent: float = ABSENT):
        super().__init__()
        self.score, self.absent = nn.Linear(width, 1), absent
        nn.init.constant_(self.score.bias, start)

    def forward(self, feature_BDL: Tensor) -> Tensor:
        pred = self.score(feature_BDL.transpose(1, 2)).squeeze(2)
        return pred.masked_fill((feature_BDL == 0).all(1), self.absent)


def mean_over(loss_BL: Tensor, counted_BL: Tensor) -> Tensor:
    """Mean over the candidates that count, 0 if none does: (B,)."""
    return (loss_BL * counted_BL).sum(1) / counted_BL.sum(1).clamp(min=1)


def best_places(pred: Tensor, exists: Tensor) -> list[np.ndarray]:
    """Of each list the places of its best ten candidates, or of all if there are fewer, best first."""
    order = torch.where(exists, pred, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :BEST]
    return [row[: int(n)].numpy() for row, n in zip(order.cpu(), exists.sum(1).cpu(), strict=True)]


def list_sums(pred: Tensor, label: Tensor) -> tuple[np.ndarray, set[int], set[int]]:
    """What lists add to NDCG, diversity and coverage @10. label: (B, L, 3) of relevance, item, category.

    Returns sums and counts [NDCG, lists with anything relevant, diversity, lists of two or more], items among the best,
    and all items. NDCG: `sum rel / log2(1 + rank)` over that of the ideal order. Diversity: the share of pairs of
    different categories (intra-list distance).
    """
    sums, found, known = np.zeros(4), set[int](), set[int]()
    exists = label[..., 0] >= 0
    for places, row, real in zip(best_places(pred, exists), label.cpu().numpy(), exists.cpu().numpy(), strict=True):
        relevant, item, category = row[places].T
        hits, n = int((row[:, 0] > 0).sum()), len(places)
        discount = 1 / np.log2(np.arange(2, n + 2))
        if hits:
            sums[:2] += (relevant > 0) @ discount / discount[:hits].sum(), 1
        if n > 1:
            same = np.bincount(category)
            sums[2:] += 1 - (same * (same - 1)).sum() / (n * (n - 1)), 1
        found.update(item.tolist())
        known.update(row[real, 1].tolist())
    return sums, found, known


def list_metrics(tallies: list[tuple[np.ndarray, set[int], set[int]]]) -> dict[str, float]:
    """Coverage: the share of all items on the split's lists that are among anyone's best ten."""
    sums, found, known = zip(*tallies, strict=True)
    ndcg, lists, diversity, pairs = np.sum(sums, axis=0)
    reached, all_items = set[int]().union(*found), set[int]().union(*known)
    return {
        "NDCG@10": float(ndcg) / max(1, lists),
        "diversity@10": float(diversity) / max(1, pairs),
        "coverage@10": len(reached) / max(1, len(all_items)),
    }
