"""Whether a user responds to a candidate: clicks it (CTR), buys it (CVR among all that was shown)."""

import math
from typing import Any, final

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.loss import exists
from pipeline.project.class_spec import Positive
from pipeline.tasks.candidates import Score, best_places, list_metrics, list_sums, mean_over
from pipeline.tasks.task import Answers, Grid, Task


@final
class Response(Task):
    """Labels: (B, L, 3) of response (1, 0, or -1: no such candidate), item, category. Predictions: logits (B, L).

    Conversion is a response among all that was shown, not among clicks, which are a biased sample (ESMM, 1804.07931); its
    probability is that of a click and a purchase. Metrics: AUC, log loss in nats, NDCG, diversity and coverage @10.

    rate: the share of candidates without a response that sampling kept. Predictions hold for unsampled data: sampled odds
    are 1 / rate times too high. start: the first logit. temperature: of losses that compare candidates.
    """

    primary = "AUC"
    plain = ("log_loss",)

    def __init__(self, *, rate: float = 1.0, start: float = -1.5, temperature: Positive = 1.0):
        if not 0 < rate <= 1:
            raise ValueError(f"rate: {rate}, expected above 0 and at most 1: the share of negatives that was kept")
        self.shift, self.start, self.temperature = -math.log(rate), start, temperature

    def head(self, width: int, grid: Grid) -> nn.Module:
        return Score(width, self.start)

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        response = label[..., 0].float()
        loss = F.binary_cross_entropy_with_logits(pred + self.shift, response.clamp(min=0), reduction="none")
        return mean_over(loss, response >= 0)

    def distill_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Binary cross-entropy against the teacher's probabilities, over the candidates that exist."""
        loss = F.binary_cross_entropy_with_logits(student, teacher.sigmoid(), reduction="none")
        return mean_over(loss, exists(teacher))

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        only = (label[..., 0] != 0).all()  # no response at all says nothing: a few batches may lack rare ones
        return "every candidate has a response; give the source negatives, or a column that says which have" if only else None

    def answers(self, pred: Tensor) -> Answers:
        """The best candidates: (place, probability), best first."""
        places, probability = best_places(pred, exists(pred)), pred.sigmoid().cpu()
        return {"list": [[(int(p), float(row[p])) for p in best] for best, row in zip(places, probability, strict=True)]}

    def truth(self, label: np.ndarray) -> Answers:
        return {"list": [[(int(p), None) for p in np.flatnonzero(row > 0)] for row in label[..., 0]]}

    def tally(self, pred: Tensor, label: Tensor) -> tuple[Any, ...]:
        exists = label[..., 0] >= 0
        return (pred + self.shift)[exists].cpu(), label[exists][:, 0].cpu(), list_sums(pred, label)

    def summarize(self, tallies: list[tuple[Any, ...]]) -> dict[str, float]:
        logits, response = (torch.cat([tally[part] for tally in tallies]).double() for part in (0, 1))
        has_both = bool((response == 0).any() and (response == 1).any())  # the AUC of one kind alone is undefined
        return {
            "AUC": float(roc_auc_score(response.numpy(), logits.numpy())) if has_both else 0.5,
            "log_loss": F.binary_cross_entropy_with_logits(logits, response).item(),
            **list_metrics([tally[2] for tally in tallies]),
        }
