"""Tagging: spans of some kinds in a sequence, marked by a tag at each position."""

from typing import final

import numpy as np
import torch
from seqeval.metrics.sequence_labeling import get_entities
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.soft import soft_kl
from pipeline.losses.sparse import Sparse
from pipeline.project.class_spec import Positive
from pipeline.tasks.task import Answers, Grid, Task, no_class

Tags = list[list[str]]


@final
class Tagging(Task):
    """Labels: (B, L), -1 where there is none, 0 outside of spans, 2 k + 1 where one of kinds[k] begins, 2 k + 2 inside.

    Predictions: logits (B, C, L). Metric: F1 of whole spans, as seqeval counts them. temperature: of distillation.
    """

    primary = "span_F1"
    temperature: float
    sparse = True

    def __init__(self, *, kinds: list[str], temperature: Positive):
        self.tags = ["O", *(f"{place}-{kind}" for kind in kinds for place in "BI")]
        self.temperature = temperature

    def head(self, width: int, grid: Grid) -> nn.Module:
        return nn.Conv1d(width, len(self.tags), 1)

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        loss = F.cross_entropy(pred, label.long(), ignore_index=-1, reduction="none")
        return loss.sum(1) / (label >= 0).sum(1).clamp(min=1)

    def distill_loss(self, student: Tensor, teacher: Tensor | Sparse) -> Tensor:
        return soft_kl(student, teacher, self.temperature)

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        return no_class(label, len(self.tags))

    def answers(self, pred: Tensor) -> Answers:
        return {"tags": self.named(pred.argmax(1).cpu().numpy())}

    def truth(self, label: np.ndarray) -> Answers:
        return {"tags": self.named(label)}

    def named(self, tags: np.ndarray) -> Tags:
        """Tags in words; "" where there is none."""
        return [[self.tags[tag] if tag >= 0 else "" for tag in row] for row in tags.tolist()]

    def tally(self, pred: Tensor, label: Tensor) -> np.ndarray:
        """How many spans are predicted correctly, are true, are predicted: (3,)."""
        predicted_tags = torch.where(label < 0, -1, pred.argmax(1))
        true_spans, predicted_spans = (spans(self.named(tags.cpu().numpy())) for tags in (label, predicted_tags))
        return np.array([len(true_spans & predicted_spans), len(true_spans), len(predicted_spans)])

    def summarize(self, tallies: list[np.ndarray]) -> dict[str, float]:
        right, true, predicted = np.sum(tallies, 0).tolist() if tallies else (0, 0, 0)
        return {"span_F1": 2 * right / max(1, true + predicted)}


def spans(tags: Tags) -> set[tuple[str, int, int]]:
    """(kind, first, last) of rows one after another."""
    return set(get_entities([[tag for tag in row if tag] for row in tags]))
