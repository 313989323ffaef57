"""Weights of a module of your own: safetensors, and nothing else."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


def load_weights(module: nn.Module, path: Path) -> None:
    """Fill a module from a safetensors file. Raises ValueError if it is not one, or its names or shapes do not fit."""
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise ValueError(f"pretrained: no file {path}; name a safetensors file of the encoder's state_dict") from None
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path}: cannot be read as safetensors ({error}); nothing else is opened: README tells how to write them"
        ) from None
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()
        raise ValueError(f"{path}: not the weights of {type(module).__name__}: {first}") from None
