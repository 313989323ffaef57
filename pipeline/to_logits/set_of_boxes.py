"""Detectors that output a set of boxes (DETR, 2005.12872; Deformable DETR, 2010.04159), read as centre points."""

from typing import Any, final

import torch
from torch import Tensor

from pipeline.tasks.detection import SPREAD, Detection
from pipeline.tasks.task import Task
from pipeline.to_logits.to_logits import Labels, ToLogits, check_known, merged, sources

LEAST = 1e-4  # probability of a centre where there is none


@final
class SetOfBoxes(ToLogits):
    """raw.logits of Q boxes, and raw.pred_boxes (B, Q, 4), centre and size as shares of the image
    -> (B, C + 4, h, w): around each centre a peak as high as its probability, and in every cell the box that peaks there.

    labels: {class of theirs: class of ours}; any not named is no object. scores: "softmax": logits are (B, Q, K + 1), the
    last class no object, as in DETR; "sigmoid": (B, Q, K), each class by itself, as Deformable, Conditional and RT-DETR.
    """

    def __init__(self, *, task: Task, labels: Labels, scores: str = "softmax"):
        if scores not in ("softmax", "sigmoid"):
            raise ValueError(f"scores: {scores!r}, expected softmax or sigmoid")
        if not isinstance(task, Detection):
            raise ValueError(f"a set of boxes is an answer to Detection, not to {type(task).__name__}")
        self.task: Detection = task
        self.sources, self.softmax = sources(labels, task.classes), scores == "softmax"

    def __call__(self, raw: Any, size: tuple[int, ...]) -> Tensor:
        check_known(self.sources, raw.logits.shape[-1] - self.softmax)
        if self.softmax:
            prob_BQC = merged(raw.logits.log_softmax(-1), self.sources, -1).exp()
        else:
            prob_BQC = torch.stack([raw.logits[..., list(group)].amax(-1) for group in self.sources], -1).sigmoid()
        stride = self.task.stride
        height, width = (-(-side // stride) for side in size)
        scale = raw.pred_boxes.new_tensor([size[1], size[0], size[1], size[0]]) / stride
        x, y, w, h = (raw.pred_boxes * scale)[..., None, None].unbind(2)  # (B, Q, 1, 1) each, in cells
        columns = torch.arange(width, device=x.device).view(1, 1, 1, -1)
        rows = torch.arange(height, device=x.device).view(1, 1, -1, 1)
        squared_distance = (x.floor() - columns) ** 2 + (y.floor() - rows) ** 2
        near_BQhw = torch.exp(-squared_distance / (2 * SPREAD**2))
        heatmap = torch.stack([(near_BQhw * prob_BQC[:, :, c, None, None]).amax(1) for c in range(self.task.classes)], 1)
        best_box = (near_BQhw * prob_BQC.amax(2)[..., None, None]).argmax(1, keepdim=True)
        sizes = (side.clamp(min=0.1).log() + 0 * near_BQhw for side in (w, h))
        box = [part.gather(1, best_box) for part in (x - columns + 0 * near_BQhw, y - rows + 0 * near_BQhw, *sizes)]
        return torch.cat([heatmap.clamp(LEAST, 1 - LEAST).logit(), *box], 1)
