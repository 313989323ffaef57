"""What a teacher does to a stored image before it looks at it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}  # by Pillow's numbers of filters
NOT_DONE = ("do_flip_channel_order", "do_grayscale")  # what else processors do to pixels


@dataclass(frozen=True)
class Preprocessing:
    """Resize the whole image, never a crop of it, so that all teachers' features cover the same picture; then normalise.

    size: (H, W), none: as stored. mean, std: of each channel, after `rescale`. mode: one of MODES, antialiased.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None
    rescale: float = 1 / 255
    mode: str = "bilinear"

    @classmethod
    def of(cls, settings: dict[str, Any], **given: Any) -> Self:
        """From a Hugging Face processor's settings; what is given overrides them. Raises ValueError if mean or std is in
        neither, or if they ask for something that is not done here."""
        undone_keys = [key for key in NOT_DONE if settings.get(key)]
        if undone_keys:
            raise ValueError(
                f"preprocessor_config.json: {undone_keys[0]} is not done here; wrap the model as a module of your own that does"
            )
        if settings.get("do_normalize", True) and "image_mean" in settings:
            arguments = {"mean": settings["image_mean"], "std": settings["image_std"]}
        else:
            arguments = {"mean": [0.0] * 3, "std": [1.0] * 3} if settings else {}
        arguments["size"] = size_of(settings)
        arguments["rescale"] = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
        if settings.get("rescale_offset"):  # EfficientNet's: subtracts 1 after rescaling
            arguments["mean"] = [mean + 1 for mean in arguments["mean"]]
        if settings.get("include_top"):  # EfficientNet's: divided by std once more
            arguments["std"] = [std**2 for std in arguments["std"]]
        arguments["mode"] = MODES.get(settings.get("resample", 2), "bilinear")
        arguments |= {key: value for key, value in given.items() if value is not None}
        lacking_keys = [key for key in ("mean", "std") if key not in arguments]
        if lacking_keys:
            raise ValueError(f"{lacking_keys[0]}: missing; no preprocessor_config.json beside the weights has it; give it here")
        return cls.from_dict(arguments)

    @classmethod
    def from_dict(cls, arguments: dict[str, Any]) -> Self:
        if len(arguments["mean"]) != len(arguments["std"]) or min(arguments["std"]) <= 0:
            raise ValueError(f"mean {arguments['mean']}, std {arguments['std']}: expected as many of each, std above 0")
        size = arguments.get("size")
        if size and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size {size}: expected [height, width]")
        sequences = {"mean": tuple(arguments["mean"]), "std": tuple(arguments["std"]), "size": tuple(size) if size else None}
        return cls(**{**arguments, **sequences})

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """uint8 -> float, (B, C, H, W) both; a single channel is repeated if the module expects more."""
        if x_BCHW.dtype != torch.uint8 or x_BCHW.dim() != 4:
            raise ValueError(f"images of {x_BCHW.dtype} and shape {tuple(x_BCHW.shape)}, expected uint8 (B, C, H, W)")
        channels = len(self.mean)
        if x_BCHW.shape[1] not in (1, channels) and channels != 1:
            raise ValueError(f"images have {x_BCHW.shape[1]} channels, but mean and std have {channels}")
        x = x_BCHW.float()
        if x.shape[1] < channels:
            x = x.expand(-1, channels, -1, -1)
        if self.size and tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode=self.mode, antialias=self.mode != MODES[0])
        mean, std = (x.new_tensor(channel_values).view(1, -1, 1, 1) for channel_values in (self.mean, self.std))
        return (x * self.rescale - mean) / std


def size_of(settings: dict[str, Any]) -> Iterable[int] | None:
    """(H, W) of a processor's output; if it keeps proportions, a square of the shorter side."""
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    size = crop or (settings.get("size") if settings.get("do_resize", True) else None)
    if isinstance(size, dict):
        side = size.get("shortest_edge") or size.get("longest_edge")
        return (size["height"], size["width"]) if "height" in size else (side, side) if side else None
    return (size, size) if isinstance(size, int) else size
