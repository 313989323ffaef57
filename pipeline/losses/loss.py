"""How far a student is from a cached target: the abstract loss, chosen in params by `code` and `class`."""

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

ABSENT = -30.0  # a logit of what does not exist: at temperature 1 its probability and gradient are practically 0


class Loss(ABC):
    """A pure function of student and target, both (B, C, *grid): logits of a softmax over dim 1, or features.

    Laws: one finite value per row, never negative, 0 with a zero gradient where the student is the target, unless the loss
    says otherwise. Some compare within the batch, so that a row's value may depend on the others.
    """

    @abstractmethod
    def __call__(self, student: Tensor, target: Tensor) -> Tensor:
        """loss_B."""

    def adapter(self, student: int, target: int) -> nn.Module:
        """A module that a feature and its target, of these many channels, go through together before they are compared.

        Trained with the student and then dropped. By default the student is projected onto the target.
        """
        return Adapter(nn.Linear(student, target), nn.Identity())


@final
class Adapter(nn.Module):
    """A map of the student's channels and one of the target's, the same at every position: (B, D, *grid) each."""

    def __init__(self, student: nn.Module, target: nn.Module):
        super().__init__()
        self.student, self.target = student, target

    def forward(self, student: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return tuple(
            layer(x.movedim(1, -1).contiguous()).movedim(-1, 1) for layer, x in ((self.student, student), (self.target, target))
        )


def exists(logits: Tensor) -> Tensor:
    """Which logits are of something that exists: not at `ABSENT`, give or take what a compact recipe rounds."""
    return (logits - ABSENT).abs() > 1


def per_row(loss: Tensor) -> Tensor:
    """Mean over everything but the rows: (B, ...) -> (B,)."""
    return loss.reshape(len(loss), -1).mean(1)


def standardise(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean 0 and variance 1 over some dims; what does not vary becomes 0."""
    centred = x - x.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + 1e-12).rsqrt()


def decorrelation(student: Tensor, target: Tensor, dims: tuple[int, ...]) -> Tensor:
    """`1 - Pearson` over some dims, averaged over the others, as `1/2 MSE` of what is standardised over them: loss_B."""
    return 0.5 * per_row((standardise(student, dims) - standardise(target, dims)).square())
