"""Object detection by centre points: a heatmap a class, and the box at each centre (CenterNet, 1904.07850)."""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.project.class_spec import Count, Weight
from pipeline.tasks.average_precision import average_precision
from pipeline.tasks.task import Answers, Grid, Task, no_class

SHOWN = 0.4  # score from which a box is drawn
THRESHOLDS = np.linspace(0.05, 0.95, 19).tolist()  # of a box's score, when boxes are counted
SPREAD = 0.7  # of a centre's peak on the heatmap, in cells


@final
class Detection(Task):
    """Labels: boxes (B, M, 5) of class, x0, y0, x1, y1 in pixels; class -1 is padding, -2 - c a box of class c to ignore: a
    crowd, which nothing learns to find, and no answer within it counts as wrong.

    Predictions: (B, C + 4, h, w): heatmap logits, then the box of a centre in that cell: the centre's offset in the cell
    and log width and height, in cells of `stride` pixels. Metrics: mAP at IoU 0.5, and COCO mAP (0.50:0.95).

    found: boxes decoded per input at the most; fewer than one may hold cut recall. COCO's own limit unless given.
    """

    primary = "mAP50"

    def __init__(self, *, classes: Count, stride: Count, box_weight: Weight, found: Count = 100):
        self.classes, self.stride, self.box_weight, self.found = classes, stride, box_weight, found

    def head(self, width: int, grid: Grid) -> nn.Module:
        head = nn.Conv2d(width, self.classes + 4, 1)
        assert head.bias is not None
        with torch.no_grad():
            head.bias[: self.classes] = -4.0  # centres are rare: start at probability 0.02
        return head

    def loss(self, pred: Tensor, label: Tensor) -> Tensor:
        heat, box, weight = self.targets(label, pred.shape[-2:])
        return self.focal(pred[:, : self.classes], heat) + self.box_weight * box_l1(pred, box, weight)

    def distill_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        heat, box = teacher.split([self.classes, 4], dim=1)
        soft = F.binary_cross_entropy_with_logits(student[:, : self.classes], heat.sigmoid(), reduction="none")
        weight = heat.sigmoid().amax(1, keepdim=True)
        return soft.flatten(1).sum(1) + self.box_weight * box_l1(student, box, weight)

    @staticmethod
    def focal(logits: Tensor, heat: Tensor) -> Tensor:
        """CenterNet's penalty-reduced focal loss, summed over cells and divided by the number of centres: (B,)."""
        prob, centre = logits.sigmoid(), heat == 1
        hit = (1 - prob) ** 2 * F.logsigmoid(logits)
        miss = (1 - heat) ** 4 * prob**2 * F.logsigmoid(-logits)
        return -torch.where(centre, hit, miss).flatten(1).sum(1) / centre.flatten(1).sum(1).clamp(min=1)

    def targets(self, label: Tensor, grid: torch.Size) -> tuple[Tensor, Tensor, Tensor]:
        """Heatmaps (B, C, h, w) in [0, 1], boxes (B, 4, h, w), and the cells that hold a centre (B, 1, h, w)."""
        height, width = grid
        kind, real = label[..., 0].long().clamp(min=0), label[..., 0] >= 0
        x0, y0, x1, y1 = (label[..., 1:] / self.stride).unbind(2)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        column, line = x.long().clamp(0, width - 1), y.long().clamp(0, height - 1)
        sizes = (x1 - x0).clamp(min=0.1).log(), (y1 - y0).clamp(min=0.1).log()
        cells = torch.arange(max(grid), dtype=label.dtype, device=label.device)
        across = torch.exp(-((cells[:width] - column[..., None]) ** 2) / (2 * SPREAD**2))
        down = torch.exp(-((cells[:height] - line[..., None]) ** 2) / (2 * SPREAD**2))
        peak = down[..., :, None] * across[..., None, :] * real[..., None, None]
        heat = label.new_zeros(len(label), self.classes, height, width)
        heat.scatter_reduce_(1, kind[..., None, None].expand_as(peak), peak, "amax")
        number = torch.where(real, torch.arange(label.shape[1], device=label.device), -1)
        last = number.new_full((len(label), height * width), -1)  # of two in a cell the last stays, on any device
        last.scatter_reduce_(1, line * width + column, number, "amax")
        values = torch.stack([x - column, y - line, *sizes, real], 1)
        box = values.gather(2, last.clamp(min=0)[:, None].expand(-1, 5, -1)).where(last[:, None] >= 0, 0)
        box = box.unflatten(2, (height, width))
        return heat, box[:, :4], box[:, 4:]

    def decode(self, pred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best peaks of a prediction, M of them: scores (B, M), classes (B, M), boxes x0 y0 x1 y1 in pixels."""
        heat, box = pred[:, : self.classes], pred[:, self.classes :]
        peaks = heat.sigmoid() * (heat == F.max_pool2d(heat, 3, stride=1, padding=1))  # not after the sigmoid: it saturates
        score, index = peaks.flatten(1).topk(min(self.found, peaks[0].numel()))
        cells, width = pred.shape[2] * pred.shape[3], pred.shape[3]
        kind, cell = index // cells, index % cells
        x, y, w, h = box.flatten(2).gather(2, cell[:, None].expand(-1, 4, -1)).unbind(1)
        x, y = x + cell % width, y + cell // width
        w, h = w.clamp(max=8).exp() / 2, h.clamp(max=8).exp() / 2
        return score, kind, torch.stack([x - w, y - h, x + w, y + h], 2) * self.stride

    def misfit(self, label: Tensor, grid: Grid) -> str | None:
        height, width = (side * self.stride for side in grid)
        x, y = (label[..., 1] + label[..., 3]) / 2, (label[..., 2] + label[..., 4]) / 2
        if (label[..., 0] >= 0).any() and (x.max() > width or y.max() > height):
            return (
                f"boxes lie as far as x {x.max():.0f} and y {y.max():.0f}, beyond predictions of {grid[0]} x {grid[1]} cells "
                f"of stride {self.stride}; set stride to image pixels a cell"
            )
        kind = label[..., 0]
        return no_class(torch.where(kind < -1, -2 - kind, kind), self.classes)

    def answers(self, pred: Tensor) -> Answers:
        """Boxes: (class, score, x0 y0 x1 y1), of a label without a score."""
        rows = zip(*(part.cpu().numpy() for part in self.decode(pred)), strict=True)
        return {"boxes": [[(int(c), s, b) for s, c, b in zip(*row, strict=True) if s > SHOWN] for row in rows]}

    def truth(self, label: np.ndarray) -> Answers:
        return {"boxes": [[(int(b[0]), None, b[1:]) for b in boxes if b[0] >= 0] for boxes in label]}

    def implied(self, pred: Tensor) -> dict[str, Tensor]:
        """How many boxes are scored above each of THRESHOLDS."""
        score = self.decode(pred)[0]
        return {"count": torch.stack([(score > threshold).sum(1) for threshold in THRESHOLDS], 1)}

    def tally(self, pred: Tensor, label: Tensor) -> tuple[np.ndarray, ...]:
        score, kind, box = self.decode(pred)
        return tuple(part.cpu().numpy() for part in (score, kind, box, label))

    def summarize(self, tallies: list[Any]) -> dict[str, float]:
        score, kind, box, label = (np.concatenate(part) for part in zip(*tallies, strict=True))
        precisions = average_precision(score, kind, box, label, self.classes)
        return {"mAP50": float(precisions[0]), "mAP": float(precisions.mean())}


def box_l1(pred: Tensor, box: Tensor, weight: Tensor) -> Tensor:
    """L1 of the four box channels, averaged over cells by `weight` (B, 1, h, w): (B,)."""
    error = (pred[:, -4:] - box).abs().sum(1, keepdim=True)
    return (weight * error).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp(min=1)
