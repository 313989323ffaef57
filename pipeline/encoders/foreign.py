"""A module of your own that knows nothing of taps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from pipeline.encoders.preprocessing import Preprocessing
from pipeline.encoders.tapped import Size, TappedEncoder
from pipeline.encoders.weights import load_weights
from pipeline.project.class_spec import ClassSpec
from pipeline.tasks.task import Task


@final
class Foreign(TappedEncoder):
    """inputs[input] -> {tap: (B, D, *grid)}, from any module that is called with one tensor.

    module: its class and arguments. pretrained: a safetensors file of its state_dict. mean, std, size: of images, see
    Preprocessing; with none of them the module gets its input as it is stored. taps, grid, to_logits: see TappedEncoder.
    """

    def __init__(
        self,
        *,
        module: ClassSpec,
        taps: Iterable[str] = (),
        pretrained: str | None = None,
        input: str = "image",
        mean: Iterable[float] | None = None,
        std: Iterable[float] | None = None,
        size: Iterable[int] | None = None,
        grid: Iterable[int] | None = None,
        to_logits: dict[str, ClassSpec] | None = None,
        tasks: dict[str, Task] | None = None,
    ):
        built_module = module.build()
        if pretrained:
            load_weights(built_module, Path(pretrained))
        super().__init__(built_module, taps, grid, to_logits or {}, tasks or {})
        self.input = input
        settings = {"mean": mean, "std": std, "size": size}
        self.preprocess = Preprocessing.of({}, **settings) if any(settings.values()) else None

    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        x = inputs[self.input]
        x = self.preprocess(x) if self.preprocess else x
        try:
            return self.module(x), tuple(x.shape[2:])
        except RuntimeError as error:
            if x.dtype != torch.uint8:
                raise
            raise ValueError(f"{x.dtype}, as stored: give mean and std, or cast in the module ({error})") from error
