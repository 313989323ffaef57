"""KL of standardised logits: the student need not match how sure its teacher is, only what it is sure of."""

from typing import final

from torch import Tensor

from pipeline.losses.loss import Loss, standardise
from pipeline.losses.soft import soft_kl
from pipeline.project.class_spec import Positive


@final
class StandardisedKL(Loss):
    """KL at `temperature` of logits with mean 0 and variance 1 over classes, position by position (2403.01427).

    For softmaxes of more than two classes: of two, standardising keeps only which logit is larger.
    """

    def __init__(self, *, temperature: Positive = 2.0):
        self.temperature = temperature

    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        return soft_kl(standardise(student, (1,)), standardise(target, (1,)), self.temperature)
