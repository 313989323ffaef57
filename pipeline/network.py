"""A network: an encoder and one head a task. Teachers and students are both of this kind."""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from pipeline.tasks.task import Task


class Outputs(NamedTuple):
    """features: {tap: (B, D, *grid)}; logits: {task: (B, C, *grid')}."""

    features: dict[str, Tensor]
    logits: dict[str, Tensor]


@final
class Network(nn.Module):
    """Heads sit on the encoder's last tap.

    sample: a few rows of inputs, (B, ...) each, from which the shape of that tap is found.
    """

    def __init__(self, encoder: nn.Module, tasks: dict[str, Task], sample: dict[str, Tensor]):
        super().__init__()
        self.encoder = encoder
        with torch.no_grad():
            *_, self.tap = features = encoder.eval()(sample)
        _, self.width, *grid = features[self.tap].shape
        self.heads = nn.ModuleDict({name: task.head(self.width, tuple(grid)) for name, task in tasks.items()})

    def forward(self, inputs: dict[str, Tensor]) -> Outputs:
        features = self.encoder(inputs)
        return Outputs(features, {name: head(features[self.tap]) for name, head in self.heads.items()})
