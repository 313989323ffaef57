"""Predictions on lists of candidates: what their heads share, and metrics of the best ten."""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.losses.loss import ABSENT

BEST = 10


class Score(nn.Module):
    """One number per candidate, linear in its feature: (B, D, L) -> (B, L), `absent` where the feature is zero throughout.

    A softmax over channels is thus one over candidates, which ranking losses compare.
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
    """For each list, the places of its best ten candidates, or of all if there are fewer, best first."""
    return [row[: int(n)].numpy() for row, n in zip(best(pred, exists), exists.sum(1).cpu(), strict=True)]


def best(pred: Tensor, exists: Tensor) -> Tensor:
    """Places of the best ten, best first, on the CPU: (B, 10), those that exist before others."""
    return torch.where(exists, pred, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :BEST].cpu()


def list_sums(pred: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What these lists add to NDCG, diversity and coverage @10. label: (B, L, 3) of relevance, item, category.

    Returns sums and counts [NDCG, lists with anything relevant, diversity, lists of two or more], items among the best,
    and all items. NDCG: `sum rel / log2(1 + rank)` over that of the ideal order. Diversity: the share of pairs of
    different categories (intra-list distance).
    """
    places, label = best(pred, label[..., 0] >= 0), label.cpu()
    exists = label[..., 0] >= 0
    relevant, place_exists, (item, category) = label[..., 0] > 0, exists.gather(1, places), label[..., 1:].unbind(2)
    n = place_exists.sum(1)
    discount = 1 / torch.arange(2, places.shape[1] + 2).double().log2()
    ideal = torch.cat([discount.new_zeros(1), discount.cumsum(0)])[relevant.sum(1).minimum(n)]
    gain = (relevant.gather(1, places) * discount).sum(1) / ideal.clamp(min=1e-12)
    categories, pairs = category.gather(1, places), place_exists[:, :, None] & place_exists[:, None]
    same = ((categories[:, :, None] == categories[:, None]) & pairs).sum((1, 2)) - n  # both orders, no candidate with itself
    diversity = (1 - same.double() / (n * (n - 1)).clamp(min=1))[n > 1]
    sums = torch.stack([gain.sum(), (ideal > 0).sum(), diversity.sum(), (n > 1).sum()])
    return sums, item.gather(1, places)[place_exists].unique(), item[exists].unique()


def list_metrics(tallies: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
    """Coverage: the share of all items on the split's lists that are in anyone's best ten."""
    sums, best_items, listed_items = zip(*tallies, strict=True)
    ndcg, lists, diversity, pairs = torch.stack(sums).sum(0).tolist()
    reached, items = (len(torch.cat(parts).unique()) for parts in (best_items, listed_items))
    return {
        "NDCG@10": ndcg / max(1, lists),
        "diversity@10": diversity / max(1, pairs),
        "coverage@10": reached / max(1, items),
    }
