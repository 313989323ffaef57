"""A foreign model's outputs, read as logits of a task of ours: the abstract reading, and maps between classes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.tasks.task import Task

Labels = Mapping[int | str, int]  # {class of theirs: class of ours}


class ToLogits(ABC):
    """A final class takes the task, a map of labels, and whatever it needs; all but the task are params."""

    task: Task

    @abstractmethod
    def __call__(self, raw: Any, size: tuple[int, ...]) -> Tensor:
        """A model's outputs on B inputs of this size -> logits of the task (B, C, *grid)."""


def sources(labels: Labels, classes: int, filled: tuple[int, ...] = ()) -> list[list[int]]:
    """For each class of ours, those of theirs that mean it. filled: classes of ours that need none. Raises ValueError."""
    for theirs, ours in labels.items():
        if not isinstance(ours, int) or not 0 <= ours < classes:
            raise ValueError(f"labels: {theirs} -> {ours}, expected a class of ours from 0 to {classes - 1}")
        if not str(theirs).isdigit():
            raise ValueError(f"labels: {theirs!r}, expected the number of a class of theirs")
    groups = [[int(theirs) for theirs, ours in labels.items() if ours == number] for number in range(classes)]
    untaught = [str(number) for number, group in enumerate(groups) if not group and number not in filled]
    if untaught:
        raise ValueError(f"labels: leaves out classes {', '.join(untaught)} of ours, and would teach that they are nowhere")
    return groups


def check_known(groups: list[list[int]], n_classes: int) -> None:
    """Raises ValueError for a class that the model does not have."""
    unknown = [number for group in groups for number in group if number >= n_classes]
    if unknown:
        raise ValueError(f"labels: class {unknown[0]} of theirs, but the model has {n_classes}, from 0")


def merged(x_BK: Tensor, groups: list[list[int]], dim: int = 1) -> Tensor:
    """Log-probabilities or logits of merged classes: log-sum-exp over those of theirs, along `dim`; -inf if there are none."""
    parts = [x_BK.index_select(dim, torch.tensor(group, device=x_BK.device)).logsumexp(dim) for group in groups]
    return torch.stack(parts, dim)
