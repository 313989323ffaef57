"""Foreign modules as encoders: features are the outputs of their inner modules."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.network import Outputs
from pipeline.project.class_spec import ClassSpec, near
from pipeline.tasks.task import Task

PREFIXES = ("cls_token", "class_embedding", "distillation_token", "dist_token", "register_tokens", "reg_token")
SUFFIXES = ("detection_tokens",)  # tokens before those of the grid, and after them
BROKEN = (ValueError, RuntimeError, TypeError, AttributeError, LookupError)  # what modules raise at inputs they cannot read
MOST = 300  # characters of their messages
Size = tuple[int, ...]  # of what a module is shown: (H, W) of an image, (L,) of a sequence


class TappedEncoder(nn.Module, ABC):
    """An encoder around a module that knows nothing of taps. A final class says how the module is called.

    taps: paths of inner modules; in the name of a tap a "-" stands for every ".". grid: what every feature of an image is
    resampled to. to_logits: {task: class that reads the module's own outputs}, as those of pipeline/to_logits.
    """

    input: str  # what is shown to the module
    recorded: Mapping[str, Any] = {}  # arguments that rebuild it without the files that it came from

    def __init__(
        self,
        module: nn.Module,
        taps: Iterable[str],
        grid: Iterable[int] | None,
        to_logits: dict[str, ClassSpec],
        tasks: dict[str, Task],
    ):
        super().__init__()
        self.module, self.taps, self.grid = module, list(taps), tuple(grid or ())
        inner = dict(module.named_modules())
        for tap in self.taps:
            if tap not in inner or not tap:
                first_names = f"{', '.join([name for name in inner if name][:12])}, ..."
                raise ValueError(f"taps: no module {tap!r}{near(tap, inner)}; `stillroom taps` lists them all: {first_names}")
        for task in to_logits:
            if task not in tasks:
                raise ValueError(f"to_logits.{task}: not a task of this network, which has {', '.join(tasks) or 'none'}")
        self.to_logits = {task: spec.build(task=tasks[task]) for task, spec in to_logits.items()}
        self.prefix, self.suffix = tokens_of_its_own(module, PREFIXES), tokens_of_its_own(module, SUFFIXES)
        self.queries: int | None = getattr(getattr(module, "config", None), "num_queries", None)

    @abstractmethod
    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        """Run the module on these inputs; returns its output, and the size of what it was shown."""

    def view(self, inputs: dict[str, Tensor]) -> Size:
        """The size of the stored input, which predictions refer to."""
        return tuple(inputs[self.input].shape[2:])

    def forward(self, inputs: dict[str, Tensor]) -> Outputs:
        raw, outputs, size = self.run(inputs, self.taps)
        features = {
            tap.replace(".", "-"): self.placed(self.feature(tap, output, size), inputs) for tap, output in outputs.items()
        }
        logits = {}
        for task, reader in self.to_logits.items():
            with one_line(f"to_logits.{task}: {type(reader).__name__} cannot read what {type(self.module).__name__} outputs"):
                logits[task] = reader(raw, self.view(inputs))
        return Outputs(features, logits)

    def run(self, inputs: dict[str, Tensor], taps: Iterable[str]) -> tuple[Any, dict[str, Any], Size]:
        """The module's output, the taps' outputs in the order asked for, and the size of what the module was shown."""
        outputs: dict[str, Any] = dict.fromkeys(taps)
        hooks = [self.module.get_submodule(tap).register_forward_hook(partial(keep, outputs, tap)) for tap in outputs]
        try:
            with one_line(f"{type(self.module).__name__} cannot be run on {shapes_of(inputs)}"):
                raw, size = self.call(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        return raw, outputs, size

    def feature(self, tap: str, output: Any, size: Size) -> Tensor:
        """A tap's output as (B, D, *grid). size: of what the module was shown. Raises ValueError."""
        x = first_tensor(output)
        if x is not None and x.dim() == 3 and x.shape[1] == self.queries and "encoder" not in tap.split("."):
            raise ValueError(f"tap {tap!r} gives one feature for each of {self.queries} queries, which lie on no grid")
        return as_feature(tap, output, size, self.prefix, self.suffix)

    def placed(self, x: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """A feature resampled to `grid`, if one is given."""
        if not self.grid or tuple(x.shape[2:]) == self.grid:
            return x
        if x.dim() != 4 or len(self.grid) != 2:
            raise ValueError(f"grid {self.grid}: for features (B, D, H, W), but this one has shape {tuple(x.shape)}")
        return F.interpolate(x, self.grid, mode="bilinear", antialias=True)


def tokens_of_its_own(module: nn.Module, names: tuple[str, ...]) -> int:
    """How many tokens, parameters of these names, a module adds to those of what it is shown."""
    parameters = (parameter for name, parameter in module.named_parameters() if name.split(".")[-1] in names)
    return sum(parameter.shape[-2] if parameter.dim() > 1 else 1 for parameter in parameters)


def shapes_of(inputs: dict[str, Tensor]) -> str:
    return ", ".join(f"{name} of shape {tuple(tensor.shape)}" for name, tensor in inputs.items())


@contextmanager
def one_line(message: str) -> Iterator[None]:
    """Turn errors of foreign modules into a ValueError of one line."""
    try:
        yield
    except BROKEN as error:
        raise ValueError(f"{message}: {' '.join(str(error).split())[:MOST] or type(error).__name__}") from error


def keep(outputs: dict[str, Any], tap: str, module: nn.Module, inputs: Any, output: Any) -> None:
    """Keep a copy of an output: later modules may change it in place."""
    x = first_tensor(output)
    outputs[tap] = output if x is None else x.clone()


def as_feature(tap: str, output: Any, size: Size, prefix: int, suffix: int = 0) -> Tensor:
    """A tap's output as (B, D, *grid). Tokens (B, L, D) are laid out on the grid of what was shown, without those that are not
    part of it; an output (B, H, W, D), recognised by the proportions of what was shown, is permuted.

    size: of what was shown. prefix, suffix: numbers of tokens before and after the grid's. Raises ValueError.
    """
    if output is None:
        raise ValueError(f"tap {tap!r} is never called as a module of its own")
    x = first_tensor(output)
    if x is None or not x.is_floating_point() or x.dim() not in (2, 3, 4):
        description = type(output).__name__ if x is None else f"{x.dtype} of shape {tuple(x.shape)}"
        raise ValueError(f"tap {tap!r} gives {description}, expected floats (B, D), (B, L, D) or (B, D, H, W)")
    if x.dim() == 4 and len(size) == 2 and alike(x.shape[1:3], size) and not alike(x.shape[2:], size):
        return x.permute(0, 3, 1, 2)
    if x.dim() != 3:
        return x
    for before, behind in ((prefix, suffix), (0, 0)):  # early modules may not have them yet
        tokens = x.shape[1] - before - behind
        if grid := grid_of(tokens, size):
            return x[:, before : before + tokens].transpose(1, 2).reshape(x.shape[0], x.shape[2], *grid)
    besides = f", nor are they without {prefix + suffix} of them" if prefix + suffix else ""
    raise ValueError(f"tap {tap!r} gives {x.shape[1]} tokens, which are no grid of {' x '.join(map(str, size))}{besides}")


def first_tensor(output: Any) -> Tensor | None:
    """A module's output: a tensor, or a tuple, list or dict of which the first counts."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()), None)
    elif isinstance(output, (tuple, list)):
        output = output[0] if output else None
    return output if isinstance(output, Tensor) else None


def alike(shape: Size, size: Size) -> bool:
    """Whether two sizes have the same proportions."""
    return shape[0] * size[1] == shape[1] * size[0]


def grid_of(tokens: int, size: Size) -> Size | None:
    """The grid with this many cells and the proportions of `size`; None: there is none."""
    if len(size) == 1:
        return (tokens,) if tokens == size[0] else None
    common = math.gcd(*size)
    height, width = (side // common for side in size)
    times = math.isqrt(max(0, tokens // (height * width)))
    return (height * times, width * times) if times and height * width * times**2 == tokens else None
