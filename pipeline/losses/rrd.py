"""The order of the best, as a teacher has it: for logits that compare candidates."""

from typing import final

import torch
from torch import Tensor

from pipeline.losses.loss import Loss, exists, per_row
from pipeline.project.class_spec import Count


@final
class RRD(Loss):
    """Relaxed ranking distillation (2012.04357): `-1/K sum_k [s_k - log(sum_{j >= k} e^{s_j} + sum_rest e^{s_j})]`.

    k runs over the teacher's `best` K candidates, best first: their order counts, and that they come before the rest, whose
    order does not. The teacher's top is taken as it is, not sampled, as the authors came to advise. Candidates that do not
    exist, at ABSENT, count nowhere. Unlike other losses it has no minimum: where all is in order, further apart is better.
    """

    def __init__(self, *, best: Count = 10):
        self.best = best

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        is_present = exists(target)
        order = torch.where(is_present, target, -torch.inf).argsort(dim=1, descending=True, stable=True)
        is_present = is_present.gather(1, order)
        ranked_logits = student.gather(1, order).masked_fill(~is_present, torch.finfo(student.dtype).min / 2)
        log_remaining = ranked_logits.flip(1).logcumsumexp(1).flip(1)
        best_present = is_present[:, : self.best]
        terms = (log_remaining - ranked_logits)[:, : self.best].masked_fill(~best_present, 0)
        return per_row(terms.sum(1) / best_present.sum(1).clamp(min=1))
