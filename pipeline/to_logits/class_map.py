"""Segmenters that output a map of classes (SegFormer, 2105.15203, and others), read on our grid."""

from typing import Any, final

from torch import Tensor
from torch.nn import functional as F

from pipeline.tasks.segmentation import Segmentation, middles
from pipeline.tasks.task import Task
from pipeline.to_logits.to_logits import Labels, ToLogits, check_known, merged, sources


@final
class ClassMap(ToLogits):
    """raw.logits (B, K, h', w') -> (B, C, H / stride, W / stride), at the pixels where labels are read.

    labels: {class of theirs: class of ours}; any not named is background, our class 0. stride: pixels of an image to one
    of the student's predictions.
    """

    def __init__(self, *, task: Task, labels: Labels, stride: int):
        if not isinstance(task, Segmentation):
            raise ValueError(f"a map of classes is an answer to Segmentation, not to {type(task).__name__}")
        self.task: Segmentation = task
        self.stride = stride
        self.sources = sources(labels, task.classes, filled=(0,))

    def __call__(self, raw: Any, size: tuple[int, ...]) -> Tensor:
        n_classes = raw.logits.shape[1]
        check_known(self.sources, n_classes)
        named_classes = {number for group in self.sources for number in group}
        unnamed_classes = [number for number in range(n_classes) if number not in named_classes]
        background, *others = self.sources
        if not background + unnamed_classes:
            raise ValueError("labels: leaves no class of theirs for background, our class 0")
        our_logits = merged(raw.logits, [background + unnamed_classes, *others])
        return middles(F.interpolate(our_logits, size, mode="bilinear"), self.stride)
