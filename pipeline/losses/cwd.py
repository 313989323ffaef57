"""Where each channel is active, whatever its level: for maps, and sequences that are all of one length."""

from typing import final

from torch import Tensor
from torch.nn import functional as F

from pipeline.losses.loss import Loss
from pipeline.project.class_spec import Positive


@final
class CWD(Loss):
    """`tau^2 KL` of each channel's softmax over positions, averaged over channels (2011.13256).

    A vector has one position and nothing to compare: a ValueError. So has each position of a masked sequence, a row by itself.
    """

    def __init__(self, *, temperature: Positive = 1.0):
        self.temperature = temperature

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        if student.dim() < 3:
            raise ValueError(f"CWD compares positions; vectors {tuple(student.shape)} have one: choose another loss")
        log_s, log_t = (F.log_softmax(x.flatten(2) / self.temperature, dim=2) for x in (student, target))
        return self.temperature**2 * (log_t.exp() * (log_t - log_s)).sum(2).mean(1)
