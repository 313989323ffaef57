"""Any vision model of Hugging Face."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, final

import torch
from torch import Tensor

from pipeline.encoders.preprocessing import Preprocessing
from pipeline.encoders.pretrained import from_config, image_settings, load_pretrained
from pipeline.encoders.tapped import Size, TappedEncoder
from pipeline.project.class_spec import ClassSpec
from pipeline.tasks.task import Task

MASKED = "vit_mae"  # drops and shuffles patches at random unless told not to
UNROLLED = "hiera"  # puts tokens that are pooled together side by side


@final
class HuggingFace(TappedEncoder):
    """inputs[input] (B, channels, H, W) uint8 -> {tap: (B, D, *grid)}, resized and normalised as the model's processor says.

    taps, grid, to_logits: see TappedEncoder. pretrained: see load_pretrained. config: in its place, that of a model to train
    from scratch. architecture: class of transformers, if not the one that the config names. size: (H, W) to resize to; mean,
    std; each if not as recorded beside the weights. preprocessing: all of these, as `recorded` has them.
    """

    def __init__(
        self,
        *,
        taps: Iterable[str] = (),
        pretrained: str | None = None,
        config: dict[str, Any] | None = None,
        architecture: str | None = None,
        size: Iterable[int] | None = None,
        mean: Iterable[float] | None = None,
        std: Iterable[float] | None = None,
        preprocessing: dict[str, Any] | None = None,
        grid: Iterable[int] | None = None,
        input: str = "image",
        to_logits: dict[str, ClassSpec] | None = None,
        tasks: dict[str, Task] | None = None,
    ):
        if config is None:
            module, config = load_pretrained(pretrained, architecture)
        else:
            module = from_config(config, architecture)
        super().__init__(module, taps, grid, to_logits or {}, tasks or {})
        self.own: Any = module.config
        if self.own.model_type == MASKED:
            self.own.mask_ratio = 0.0
        if preprocessing:
            self.preprocess = Preprocessing.from_dict(preprocessing)
        else:
            settings = image_settings(pretrained) if pretrained else {}
            self.preprocess = Preprocessing.of(settings, size=size, mean=mean, std=std)
        self.input = input
        self.recorded = {"config": config, "preprocessing": asdict(self.preprocess)}

    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        x_BCHW = self.preprocess(inputs[self.input])
        order = {"noise": in_order(x_BCHW, self.own.patch_size)} if self.own.model_type == MASKED else {}
        return self.module(pixel_values=x_BCHW, **order), tuple(x_BCHW.shape[2:])

    def feature(self, tap: str, output: Any, size: Size) -> Tensor:
        stage = re.search(r"stages\.(\d+)", tap) if self.own.model_type == UNROLLED else None
        last = len(self.own.depths) - 1 if stage else 0
        if stage and int(stage[1]) < last:
            raise ValueError(f"tap {tap!r} gives tokens that are not in the order of the image; those of stage {last} are")
        return super().feature(tap, output, size)


def in_order(x_BCHW: Tensor, patch: int) -> Tensor:
    """(B, patches), noise by which a masked autoencoder sorts patches: ascending, so that they keep their order."""
    patches = math.prod(side // patch for side in x_BCHW.shape[2:])
    return torch.arange(patches, device=x_BCHW.device, dtype=torch.float32).expand(len(x_BCHW), -1)
