"""What to do where terms pull shared weights different ways: methods that look at each term's gradient, through torchjd."""

from abc import abstractmethod
from types import ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn

from pipeline.balances.balance import Balance


class GradientBalance(Balance):
    """One backward pass per term. Only the gradients of shared weights are combined; a head's or an adapter's are summed.

    A term that is absent from a batch has no say in it. Needs the extra `gradients`: a ValueError without it.
    """

    def __init__(self, *, terms: list[str]):
        super().__init__(terms)
        self.combine = self.aggregator(torchjd(type(self).__name__))

    @abstractmethod
    def aggregator(self, methods: ModuleType) -> Any:
        """methods: torchjd.aggregation. Returns a function of the terms' gradients, (T, P), in place of their sum."""

    def forward(self, losses: Tensor) -> Tensor:
        return losses

    def backward(self, losses: list[Tensor], shared: list[nn.Parameter]) -> None:
        if not shared:
            return super().backward(losses, shared)
        gradients = []
        for loss in losses:
            loss.backward(retain_graph=True)  # what is not shared adds up as usual
            gradients.append(torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in shared]))
            for p in shared:
                p.grad = None
        gradients_TP = torch.stack(gradients)
        present_gradients = gradients_TP[gradients_TP.any(1)]  # all at once: each look is a wait for a GPU
        combinable = len(present_gradients) > 1 and present_gradients.isfinite().all()  # if not, the training loop refuses it
        combined = self.combine(present_gradients) if combinable else present_gradients.sum(0)
        for p, gradient in zip(shared, combined.split([p.numel() for p in shared]), strict=True):
            p.grad = torch.empty_like(p).copy_(gradient.view_as(p))  # in p's memory format: fused optimisers rely on it


@final
class PCGrad(GradientBalance):
    """Each term's gradient, less what conflicts with another's, one after another in random order; summed (2001.06782)."""

    random = True

    def aggregator(self, methods: ModuleType) -> Any:
        return methods.PCGrad()


@final
class UPGrad(GradientBalance):
    """Each term's gradient projected onto the directions that worsen no term; summed (2406.16232)."""

    def aggregator(self, methods: ModuleType) -> Any:
        aggregate = methods.UPGrad()
        return lambda gradients: len(gradients) * aggregate(gradients)


@final
class MGDA(GradientBalance):
    """The convex combination of gradients with the least norm, by Frank-Wolfe, times their number (1810.04650).

    It goes where the smallest gradient points, so that a term which has been learnt holds the others back.
    """

    def aggregator(self, methods: ModuleType) -> Any:
        weigh = methods.MGDAWeighting()

        def combined(gradients: Tensor) -> Tensor:
            products = (gradients @ gradients.T).cpu()  # its search asks for numbers at every step, which a GPU is slow to give
            return len(gradients) * (weigh(products).to(gradients.device) @ gradients)

        return combined


def torchjd(name: str) -> ModuleType:
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ValueError(f"balance {name} needs torchjd: pip install 'stillroom[gradients]'") from error
    return aggregation
