"""Where networks run."""

import torch

from pipeline.device import pick_device


def test_float32_is_float32_whatever_a_container_asks_for():
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    pick_device("cpu")
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
