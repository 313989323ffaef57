"""Without a GPU: a device that reads a buffer only when somebody waits for it, as late as one may."""

import numpy as np
import pytest
import torch

from pipeline.batches import staging
from pipeline.batches.staging import Staging


class Device:
    """What copies are still to be made, in order; an event waits for those before it."""

    type = "cuda"

    def __init__(self):
        self.pending = []

    def copy(self, batch, device):
        moved = {name: x if name.startswith("labelled/") else torch.full_like(x, -1) for name, x in batch.items()}
        self.pending.append((moved, batch))
        return moved

    def catch_up(self, copies):
        for moved, batch in self.pending[:copies]:
            for name, x in moved.items():
                x.copy_(batch[name])
        self.pending[:copies] = [({}, {})] * copies

    def event(self):
        return Event(self)


class Event:
    def __init__(self, device):
        self.device, self.copies = device, 0

    def record(self):
        self.copies = len(self.device.pending)

    def synchronize(self):
        self.device.catch_up(self.copies)


class NeverWaits(Event):
    def synchronize(self):
        pass


@pytest.mark.parametrize("waits", [True, False])
def test_a_buffer_is_filled_again_when_the_copy_out_of_it_is_over(monkeypatch, waits):
    device, made = Device(), []
    monkeypatch.setattr(staging, "tensors", device.copy)
    monkeypatch.setattr(
        torch, "empty", lambda shape, *, dtype, pin_memory: made.append(pin_memory) or torch.zeros(shape, dtype=dtype)
    )
    stage = Staging(device, device.event if waits else lambda: NeverWaits(device))
    rows = {"inputs/x": np.zeros((3, 2), np.float16), "labelled/a": np.zeros(3, bool)}
    got = []
    for number in range(7):
        rows["inputs/x"][:], rows["labelled/a"][:] = number, number % 2
        got.append(stage(rows))
    device.catch_up(len(device.pending))
    assert made == [True, True]  # one a set, reused
    assert [bool(batch["labelled/a"].all()) for batch in got] == [number % 2 == 1 for number in range(7)]
    assert ([batch["inputs/x"].unique().tolist() for batch in got] == [[number] for number in range(7)]) == waits


def test_on_a_cpu_a_batch_is_a_copy():
    rows = {"inputs/x": np.zeros((3, 2), np.float32)}
    batch = Staging(torch.device("cpu"))(rows)
    rows["inputs/x"][:] = 1
    assert not batch["inputs/x"].any()
