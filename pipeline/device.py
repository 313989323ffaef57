"""Where networks run. By itself, so that what only runs them does not depend on how they are trained."""

import torch


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means on this machine. On a GPU float32 is float32, in convolutions too."""
    # 10 bits of mantissa: a dump would not be what a CPU says of the same rows. For matrices some containers ask for it
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
