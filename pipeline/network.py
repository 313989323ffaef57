"""A network: an encoder and one head per task. Teachers and students are both networks."""

from collections.abc import Callable
from math import prod
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from pipeline.tasks.task import Task


class Outputs(NamedTuple):
    """features: {tap: (B, D, *grid)}; logits: {task: (B, C, *grid')}."""

    features: dict[str, Tensor]
    logits: dict[str, Tensor]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Outputs":
        """The same, each tensor changed."""
        return Outputs(*({name: change(tensor) for name, tensor in group.items()} for group in self))

    def fields(self, teacher: str) -> dict[str, Tensor]:
        """By their names in a store: {"features/<teacher>/<tap>": ..., "logits/<teacher>/<task>": ...}."""
        return {f"{kind}/{teacher}/{key}": tensor for kind, group in self._asdict().items() for key, tensor in group.items()}


class Inputs(dict[str, Tensor]):
    """Inputs that say what they are to an encoder that asks for another."""

    def __missing__(self, name: str) -> Tensor:
        raise ValueError(f"the encoder asks for {name!r}; the inputs are {', '.join(self)}")


@final
class Network(nn.Module):
    """Heads sit on the encoder's last tap; a task that the encoder answers itself, as Outputs, has none.

    sample: a few rows of inputs, (B, ...) each, from which the shape of that tap is found.
    """

    def __init__(self, encoder: nn.Module, tasks: dict[str, Task], sample: dict[str, Tensor]):
        super().__init__()
        self.encoder = encoder.eval()
        with torch.no_grad():
            features, answers = self.encoded(Inputs(sample))
            repeated, _ = self.encoded(sample)
        check_features(features, len(next(iter(sample.values()))))
        check_repeated(features, repeated)
        *_, self.tap = features
        self.width, *grid = features[self.tap].shape[1:]
        self.grid, self.positions = tuple(grid), prod(grid)
        heads = {name: nn.Identity() if name in answers else task.head(self.width, self.grid) for name, task in tasks.items()}
        self.heads = nn.ModuleDict(heads)

    def encoded(self, inputs: dict[str, Tensor]) -> Outputs:
        outputs = self.encoder(inputs)
        return outputs if isinstance(outputs, Outputs) else Outputs(outputs, {})

    def forward(self, inputs: dict[str, Tensor]) -> Outputs:
        features, answers = self.encoded(inputs)
        logits = {name: answers[name] if name in answers else head(features[self.tap]) for name, head in self.heads.items()}
        return Outputs(features, logits)


def check_repeated(features: dict[str, Tensor], repeated: dict[str, Tensor]) -> None:
    """Refuse features that are random in evaluation mode, as from masks or dropout. Raises ValueError."""
    for tap, feature in features.items():
        if not torch.allclose(feature, repeated[tap], rtol=1e-3, atol=1e-5, equal_nan=True):
            raise ValueError(
                f"tap {tap!r}: two passes over the same rows differ; the encoder draws random numbers even in evaluation mode"
            )


def check_features(features: dict[str, Tensor], rows: int) -> None:
    """Refuse anything but {tap: (B, D, *grid)}. Raises ValueError."""
    if not isinstance(features, dict):
        raise ValueError(
            f"the encoder gives {type(features).__name__}, expected a dict of taps; for a module that knows nothing of taps "
            "use the class Foreign of pipeline/encoders/foreign.py"
        )
    if not features:
        raise ValueError("the encoder has no taps; name some of those that `stillroom taps` lists")
    for tap, x in features.items():
        if x.dim() < 2 or len(x) != rows or not x.is_floating_point():
            raise ValueError(f"tap {tap!r}: {x.dtype} of shape {tuple(x.shape)} for {rows} rows, expected floats (B, D, *grid)")
