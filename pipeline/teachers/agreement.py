"""Whether a store still holds what its teacher outputs on sampled rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pipeline.checkpoints import load_network
from pipeline.losses.sparse import misplaced, with_rest
from pipeline.stores.recipes import ROUNDING, along_channels, channelwise, expand, project
from pipeline.stores.shard import StoreError
from pipeline.stores.store import Store, sha256
from pipeline.teachers.extraction import BLOCK, WHOLE, blocks_of_rows, forward_on, outputs_on, starts

SLACK = 1e-4  # of the largest value: kernels differ in rounding from one batch size or machine to another
Distances = tuple[np.ndarray, np.ndarray]  # how far stored values are from live ones, and how far they may be


class Agreement(NamedTuple):
    """A field against the live teacher: the largest difference, the most that rounding explains, and the rows beyond it."""

    field: str
    rows: int
    furthest: float
    allowed: float
    differing: int


def against_teacher(store: Store, inputs: Store, weights: Path, rows: int, device: torch.device) -> Iterator[Agreement]:
    """Run a teacher again on sampled rows of its own inputs. Raises StoreError if it or they are not those of the store."""
    teacher = store.identity.get("teacher")
    if not isinstance(teacher, dict) or "weights" not in teacher:
        raise StoreError(f"{store.path}: no teacher made it here; give a store of data/features that was not imported")
    if teacher["weights"] != sha256(weights):
        raise StoreError(f"{weights}: not the weights that {store.path} was dumped from; give those, or dump again")
    if store.identity.get("input") != inputs.digest:
        raise StoreError(f"{inputs.path}: not the inputs that {store.path} was dumped from; give those, or dump again")
    network, _, _ = load_network(weights, device)
    blocks = blocks_of_rows(store.n_rows, rows, 0)
    forward = forward_on(network, inputs)
    live_outputs = [outputs_on(forward, teacher["name"], block, BLOCK, lambda field: WHOLE) for block in blocks]
    for field in live_outputs[0]:
        pairs = [distances(store, field, block, outputs[field]) for block, outputs in zip(blocks, live_outputs, strict=True)]
        differing = sum(int((~(far <= allowed)).reshape(len(far), -1).max(1).sum()) for far, allowed in pairs)
        furthest, allowed = (max(float(array.max()) for array in side) for side in zip(*pairs, strict=True))
        yield Agreement(field, sum(len(far) for far, _ in pairs), furthest, allowed, differing)


def distances(store: Store, field: str, rows: slice, live_values: np.ndarray) -> Distances:
    """(R, ...) both: for sampled logits, in shares of probability; for any other field, in its values."""
    if field in store.fields:
        return dense_distances(store, field, rows, live_values)
    logits, ids = torch.from_numpy(live_values), torch.from_numpy(store.read(f"{field}/ids", rows))
    if f"{field}/log_probs" in store.fields:
        return dense_distances(store, f"{field}/log_probs", rows, with_rest(logits, ids).numpy())
    return misplaced(logits, ids, starts(store.identity["seed"], rows.start, logits)).numpy(), np.array(SLACK)


def dense_distances(store: Store, field: str, rows: slice, live_values: np.ndarray) -> Distances:
    f, stored = store.fields[field], store.read(field, rows)
    slack = SLACK * np.abs(live_values).max()
    if not f.dims:
        return np.abs(stored - live_values), rounding(store, field, rows, live_values) + slack
    basis = store.beside(field, "basis", 0)
    coordinates = project(live_values, basis)
    spread = along_channels(rounding(store, field, rows, coordinates), np.abs(basis[1:]))
    return np.abs(stored - expand(coordinates, basis)), spread + slack


def rounding(store: Store, field: str, rows: slice, values: np.ndarray) -> np.ndarray:
    """How far each value may move when it is stored, in the shape of values."""
    dtype = store.fields[field].dtype
    if dtype != "qint8":
        return ROUNDING[dtype] * np.abs(values)
    shards = np.arange(rows.start, rows.stop) // store.shard_rows
    steps = np.stack([channelwise(store.beside(field, "scale", shard)[0], values.ndim) for shard in shards])
    return np.broadcast_to(steps / 2, values.shape)
