"""Where networks run. By itself, so that what only runs them does not depend on how they are trained."""

import torch


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means on this machine."""
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
