"""What is predicted and how it is judged: the abstract task."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from torch import Tensor, nn

Grid = tuple[int, ...]
Answers = dict[str, list[Any]]  # {kind: [what to draw, by row]}; a source draws the kinds that it knows


def no_class(labels: Tensor, classes: int) -> str | None:
    """A message if a label is not one of this many classes, counted from 0; -1 means no label."""
    labels = labels.long()  # uint8 would compare -1 as 255
    bad_labels = labels[(labels >= classes) | (labels < -1)]
    return f"a label is of class {int(bad_labels[0])}, the task has classes 0 to {classes - 1}" if len(bad_labels) else None


class Task(ABC):
    """One kind of prediction. A final class gives its head, its losses and its metrics; constructor arguments are params.

    A prediction, and so a teacher's logits, is one tensor (B, C, *grid'), or (B, 1) for one number per row; a label is as the
    source stores it, ragged ones padded. A loss derives from a label what it needs. Report, sweep and choice average primary
    metrics over tasks: give an error as a share, such as of the labels' spread, or it outweighs all else.
    """

    temperature: float | None = None  # of distillation, if a prediction is a softmax over its channels
    sparse = False  # whether `distill_loss` reads sparse logits too, as of a softmax over classes at temperature 1
    primary: str  # the metric that Delta_MTL and the report count
    higher_is_better = True
    plain: tuple[str, ...] = ()  # further metrics that are not shares, such as errors in units of their own: shown as they are

    @property
    def sign(self) -> int:
        """What a primary metric is multiplied by where it is added to those of other tasks: -1 if lower is better."""
        return 1 if self.higher_is_better else -1

    @abstractmethod
    def head(self, width: int, grid: Grid) -> nn.Module:
        """A module from the encoder's last feature (B, width, *grid) to this task's prediction."""

    @abstractmethod
    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        """Supervised loss_B."""

    @abstractmethod
    def distill_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """loss_B of the student's prediction against cached teacher logits of the same shape, or sparse ones if `sparse`."""

    @abstractmethod
    def tally(self, pred: Tensor, label: Tensor) -> Any:
        """What one batch adds to the metrics: `summarize` takes a list of these, in any order."""

    @abstractmethod
    def summarize(self, tallies: list[Any]) -> dict[str, float]:
        """The metrics of a split, none negative; `primary` is one of them, and if higher is better, at most 1."""

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        """What is wrong with labels for a task with these arguments, in words; checked on a few batches before any training.

        grid: of a prediction.
        """
        return None

    def answers(self, pred: Tensor) -> Answers:
        """Predictions as a person would read them; if empty, they are not drawn."""
        return {}

    def truth(self, label: np.ndarray) -> Answers:
        """Labels, in the same form as `answers`."""
        return {}

    def implied(self, pred: Tensor) -> dict[str, Tensor]:
        """{label of another task: candidate values (B, T)} that follow from a prediction, with nothing to learn."""
        return {}
