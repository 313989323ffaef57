"""Semantic segmentation on a grid coarser than the pixels, with class 0 as background."""

from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.losses.soft import soft_kl
from pipeline.losses.sparse import Sparse
from pipeline.project.class_spec import Count, Positive, Weight
from pipeline.tasks.task import Answers, Grid, Task, no_class

IGNORED = 255  # in a label: counts neither in the loss nor in the metric


@final
class Segmentation(Task):
    """Labels: class maps (B, H, W), IGNORED where nothing is known. Predictions: logits (B, C, h, w), each for the pixel in
    the middle of its cell.

    Class 0 is background. Metric: mIoU without background.
    upscale: how many times finer the prediction is than the encoder's grid. temperature: of distillation.
    """

    primary = "mIoU"
    temperature: float
    sparse = True

    def __init__(self, *, classes: Count, upscale: Count, background_weight: Weight, temperature: Positive):
        self.classes, self.upscale, self.temperature = classes, upscale, temperature
        self.background_weight = background_weight

    def head(self, width: int, grid: Grid) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, self.classes * self.upscale**2, 1), nn.PixelShuffle(self.upscale))

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        target = at_stride(label, pred)
        weight = torch.where(target == 0, self.background_weight, 1.0)
        loss = weight * F.cross_entropy(pred, target, ignore_index=IGNORED, reduction="none")
        return loss.flatten(1).sum(1) / (target != IGNORED).flatten(1).sum(1).clamp(min=1)

    def distill_loss(self, student: Tensor, teacher: Tensor | Sparse) -> Tensor:
        return soft_kl(student, teacher, self.temperature)

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        (height, width), (lines, columns) = label.shape[1:], grid
        if height % lines or width % columns or height // lines != width // columns:
            return (
                f"labels have {height} x {width} pixels, predictions {lines} x {columns}, expected every n-th pixel; "
                "give images another size, or upscale another value"
            )
        return no_class(label[label != IGNORED], self.classes)

    def answers(self, pred: Tensor) -> Answers:
        return {"map": list(pred.argmax(1).cpu().numpy())}

    def truth(self, label: np.ndarray) -> Answers:
        return {"map": list(np.where(label == IGNORED, 0, label))}

    def tally(self, pred: Tensor, label: Tensor) -> Tensor:
        """Confusion counts (C, C): label by prediction."""
        target = at_stride(label, pred)
        pair = (target * self.classes + pred.argmax(1))[target != IGNORED]
        return torch.bincount(pair, minlength=self.classes**2).view(self.classes, self.classes).cpu()

    def summarize(self, tallies: list[Tensor]) -> dict[str, float]:
        counts = sum(tallies, torch.zeros(self.classes, self.classes, dtype=torch.double))
        union = counts.sum(0) + counts.sum(1) - counts.diag()
        iou = (counts.diag() / union.clamp(min=1))[1:][union[1:] > 0]
        return {"mIoU": iou.mean().item() if len(iou) else 0.0}


def at_stride(label_BHW: Tensor, pred_BChw: Tensor) -> Tensor:
    """The label in the middle of each of the prediction's cells: (B, h, w), int64."""
    return middles(label_BHW, label_BHW.shape[-1] // pred_BChw.shape[-1]).long()


def middles(maps: Tensor, stride: int) -> Tensor:
    """The pixel in the middle of each cell of maps (..., H, W); if the stride is even, above and to the left of the middle."""
    first = (stride - 1) // 2
    return maps[..., first::stride, first::stride]
