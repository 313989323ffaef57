"""Convolutional encoders of images."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.project.class_spec import Count


@final
class ImageEncoder(nn.Module):
    """A small residual network at stride 4: inputs["image"] (B, channels, H, W) uint8 -> {"trunk": (B, width, H/4, W/4)}."""

    def __init__(self, *, width: Count, blocks: Count, channels: Count = 1):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width // 2, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(width // 2),
            nn.ReLU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.trunk = nn.Sequential(*[Residual(width) for _ in range(blocks)])

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x_BCHW = inputs["image"].float().sub(128).div(64)
        return {"trunk": self.trunk(self.stem(x_BCHW.to(memory_format=torch.channels_last)))}


@final
class Residual(nn.Module):
    """relu(x + conv(relu(conv(x)))), the basic block of ResNet (1512.03385)."""

    def __init__(self, width: int):
        super().__init__()
        last = nn.BatchNorm2d(width)
        nn.init.zeros_(last.weight)  # a block starts as the identity
        self.convs = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.convs(x))
