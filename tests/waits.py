"""Where a GPU would be waited for, found on a CPU: what a step asks a tensor for, or makes of the host's numbers."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ASKS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh")  # the last: torch.tensor of numbers


class Waits(TorchDispatchMode):
    """found, while it is entered: {operation: how often}, of the backward pass too. An index that is a mask is one, "mask"."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in ASKS:
            self.found[name] += 1
        indices = args[1] if name.startswith(("index", "_index_put")) else None
        if isinstance(indices, list | tuple) and any(isinstance(x, Tensor) and x.dtype == torch.bool for x in indices):
            self.found["mask"] += 1
        return func(*args, **(kwargs or {}))
