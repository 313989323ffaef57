"""A convolutional encoder of signals."""

from typing import final

from torch import Tensor, nn


@final
class WaveEncoder(nn.Module):
    """inputs["signal"] (B, axes, T) -> {"trunk": (B, width, T/4)}."""

    def __init__(self, *, width: int, axes: int = 3):
        super().__init__()
        layers = []
        for before, stride in ((axes, 2), (width, 2), (width, 1)):
            layers += [nn.Conv1d(before, width, 9, stride, padding=4, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"trunk": self.trunk(inputs["signal"])}
