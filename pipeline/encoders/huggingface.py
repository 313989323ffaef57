"""Any vision model of Hugging Face."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, final

from torch import Tensor

from pipeline.encoders.preprocessing import Preprocessing
from pipeline.encoders.pretrained import from_config, image_settings, load_pretrained
from pipeline.encoders.tapped import Size, TappedEncoder
from pipeline.project.class_spec import ClassSpec
from pipeline.tasks.task import Task


@final
class HuggingFace(TappedEncoder):
    """inputs[input] (B, channels, H, W) uint8 -> {tap: (B, D, *grid)}, resized and normalised as the model's processor says.

    taps, grid, to_logits: see TappedEncoder. pretrained: see load_pretrained; or else config: that of a model to be trained
    from scratch. architecture: class of transformers, if not the one that the config names. size: (H, W) to resize to, mean,
    std: if not those that lie beside the weights. preprocessing: all of it, as it was recorded.
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
        if preprocessing:
            self.preprocess = Preprocessing.from_dict(preprocessing)
        else:
            settings = image_settings(pretrained) if pretrained else {}
            self.preprocess = Preprocessing.of(settings, size=size, mean=mean, std=std)
        self.input = input
        self.recorded = {"config": config, "preprocessing": asdict(self.preprocess)}

    def call(self, inputs: dict[str, Tensor]) -> tuple[Any, Size]:
        x_BCHW = self.preprocess(inputs[self.input])
        return self.module(pixel_values=x_BCHW), tuple(x_BCHW.shape[2:])
