"""What a teacher makes of a store's inputs: its features and logits, row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from pipeline.batches import Rows, in_order, input_fields, narrowed, part, tensors
from pipeline.checkpoints import file_digest, load_network
from pipeline.network import Network
from pipeline.recipes import ROUNDING
from pipeline.shard import StoreError
from pipeline.store import Store

BLOCK = 32  # rows of a sample that lie together
SLACK = 1e-4  # of the largest value: kernels differ in rounding from one batch size or machine to another


@torch.inference_mode()
def outputs_on(network: Network, name: str, store: Store, rows: slice, batch_size: int, dtypes: dict[str, str]) -> Rows:
    """{"features/<name>/<tap>": (R, D, *grid), "logits/<name>/<task>": (R, C, *grid)} on some rows.

    name: the teacher's. dtypes: {"features", "logits": the type of the fields that they will be written to}.
    """
    device = next(network.parameters()).device
    outputs: dict[str, list[np.ndarray]] = {}
    for batch in in_order(store, input_fields(store), batch_size, rows):
        for kind, found in network(part(tensors(batch, device), "inputs"))._asdict().items():
            for key, x in found.items():
                outputs.setdefault(f"{kind}/{name}/{key}", []).append(narrowed(x, dtypes[kind]))
    return {field: np.concatenate(arrays) for field, arrays in outputs.items()}


class Agreement(NamedTuple):
    """A field against the live teacher: the largest difference, and the rows with one beyond what rounding explains."""

    field: str
    rows: int
    furthest: float
    differing: int


def against_teacher(store: Store, inputs: Store, weights: Path, rows: int, device: torch.device) -> Iterator[Agreement]:
    """Run a teacher again on sampled rows of its own inputs. Raises StoreError if it or they are not those of the store."""
    teacher = store.identity.get("teacher")
    if not teacher:
        raise StoreError(f"{store.path}: no teacher made it; give a store of data/features")
    if teacher["weights"] != file_digest(weights):
        raise StoreError(f"{weights}: not the weights that {store.path} was dumped from; give those, or dump again")
    if store.identity["input"] != inputs.digest:
        raise StoreError(f"{inputs.path}: not the inputs that {store.path} was dumped from; give those, or dump again")
    network, _, _ = load_network(weights, device)
    whole = dict.fromkeys(("features", "logits"), "float32")
    firsts = np.random.default_rng(0).permutation(range(0, store.n_rows, BLOCK))[: -(-rows // BLOCK)]
    blocks = [slice(first, min(first + BLOCK, store.n_rows)) for first in sorted(firsts.tolist())]
    live = [outputs_on(network, teacher["name"], inputs, block, BLOCK, whole) for block in blocks]
    for field in store.fields:
        off = [np.abs(store.read(field, block) - found[field]) for block, found in zip(blocks, live, strict=True)]
        beyond = [
            (distance > tolerance(store, field, block, found[field])).reshape(len(distance), -1).any(1)
            for distance, block, found in zip(off, blocks, live, strict=True)
        ]
        yield Agreement(field, sum(map(len, off)), max(float(x.max()) for x in off), int(sum(x.sum() for x in beyond)))


def tolerance(store: Store, field: str, rows: slice, live: np.ndarray) -> np.ndarray:
    """How far a stored value may be from the live one, (R, D, *grid)."""
    slack, dtype = SLACK * np.abs(live).max(), store.fields[field].dtype
    if dtype != "qint8":
        return ROUNDING[dtype] * np.abs(live) + slack
    shards = np.arange(rows.start, rows.stop) // store.shard_rows
    steps = store.read(f"{field}/scale")[shards, 0]
    return steps.reshape(*steps.shape, *[1] * (live.ndim - 2)) / 2 + slack
