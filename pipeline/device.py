"""Where networks run. A file of its own, so that what only runs them does not depend on how they are trained."""

import torch


def pick_device(name: str) -> torch.device:
    """The device that `auto`, `cpu` or `cuda` means on this machine. On a GPU float32 stays float32, whatever it computes."""
    # TF32 has 10 bits of mantissa: a dump would differ from a CPU's. Convolutions ask for it, in some containers matrices too
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    return torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
