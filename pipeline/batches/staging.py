"""Batches on their way to a device, through memory that it can read directly."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch

from pipeline.batches.batches import Batch, tensors
from pipeline.batches.pools import Rows


@final
class Staging:
    """Rows -> a new batch on a device: on a CPU a copy, else through two sets of pinned buffers, used in turn.

    A copy from pinned memory is queued with the device's work; nothing waits for it until its buffer is to be refilled. event:
    makes what signals that it is done.
    """

    def __init__(self, device: torch.device, event: Callable[[], Any] = torch.cuda.Event):
        self.device = device
        self.sets: list[tuple[Batch, Any]] = [({}, event()) for _ in range(2)] if device.type == "cuda" else []

    def __call__(self, rows: Rows) -> Batch:
        if not self.sets:
            # copied even for one reader: rows elsewhere in memory are summed in another order
            return tensors({name: array.copy() for name, array in rows.items()}, self.device)
        self.sets.reverse()
        buffers, event = self.sets[0]
        event.synchronize()
        flags = {
            name: torch.from_numpy(array.copy()) for name, array in rows.items() if name.startswith("labelled/")
        }  # they stay on the host
        for name, array in ((name, array) for name, array in rows.items() if name not in flags):
            if name not in buffers or buffers[name].shape != array.shape:
                buffers[name] = torch.empty(array.shape, dtype=torch.from_numpy(array).dtype, pin_memory=True)
            np.copyto(buffers[name].numpy(), array)
        batch = tensors({**buffers, **flags}, self.device)
        event.record()
        return batch
