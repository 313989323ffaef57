"""Stores -> shuffled batches of tensors, row-aligned over fields, from RAM or streamed."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from pipeline.store import Store

Rows = dict[str, np.ndarray]
Batch = dict[str, Tensor]
Augment = Callable[[np.random.Generator, Rows, Rows], tuple[Rows, Rows]]


def load(store: Store, fields: list[str], rows: np.ndarray | slice | None = None) -> Rows:
    """Fields of some rows (all: None), decoded, as stored; ragged ones (R, most items a row, ...), padded with -1."""
    return {name: padded(store, name, rows) if store.fields[name].max_items else store.read(name, rows) for name in fields}


def padded(store: Store, name: str, rows: np.ndarray | slice | None) -> np.ndarray:
    values, lengths = store.read_ragged(name, rows)
    most = store.fields[name].max_items
    out = np.full((len(lengths), most, *values.shape[1:]), -1, values.dtype)
    out[np.arange(most) < lengths[:, None]] = values
    return out


def tensors(rows: Rows, device: torch.device) -> Batch:
    """Rows on a device; narrow floats, which are for storage, become float32."""
    moved = {name: torch.from_numpy(x).to(device, non_blocking=True) for name, x in rows.items()}
    return {name: x.float() if x.is_floating_point() else x for name, x in moved.items()}


def part(rows: dict, prefix: str) -> dict:
    """The fields below `prefix/`, without it: part(rows, "inputs") -> {"image": ...}."""
    return {name.removeprefix(prefix + "/"): x for name, x in rows.items() if name.startswith(prefix + "/")}


def input_fields(store: Store) -> list[str]:
    return [name for name in store.fields if name.startswith("inputs/")]


def in_order(store: Store, fields: list[str], batch_size: int, rows: slice | None = None) -> Iterator[Rows]:
    """Rows (all: None) once, in order; a batch never straddles a shard."""
    first, end, _ = (rows or slice(None)).indices(store.n_rows)
    while first < end:
        last = min(first + batch_size, end, (first // store.shard_rows + 1) * store.shard_rows)
        yield load(store, fields, slice(first, last))
        first = last


def batches(
    store: Store, fields: list[str], batch_size: int, *, seed: int, memory_budget: int, rows: np.ndarray | None = None
) -> Iterator[Rows]:
    """Endless shuffled batches, every row once an epoch.

    rows: which rows to draw from (all: None). Whole shards, in random order, fill a pool of at most `memory_budget`
    bytes (at least one shard), from which batches are cut by a permutation. A pool that holds everything is loaded once.
    """
    rng = np.random.default_rng(seed)
    wanted = np.arange(store.n_rows) if rows is None else np.sort(rows)
    if len(wanted) < batch_size:
        raise ValueError(f"{store.path}: {len(wanted)} rows to learn from, fewer than a batch of {batch_size}")
    shards = np.split(wanted, np.flatnonzero(np.diff(wanted // store.shard_rows)) + 1)
    row_bytes = sum(x.nbytes for x in load(store, fields, wanted[:1]).values())
    pool_shards = max(1, memory_budget // (row_bytes * max(map(len, shards))))
    if pool_shards >= len(shards):
        kept = load(store, fields, wanted)
        pools: Iterator[Rows] = iter(lambda: kept, None)
    else:
        pools = streamed(store, fields, shards, pool_shards, rng)
    yield from cut(pools, batch_size, rng)


def labelled_batches(
    store: Store, tasks: Iterable[str], batch_size: int, augment: Augment, *, seed: int, share: float = 1.0
) -> Iterator[Rows]:
    """Endless shuffled batches of rows that carry a label of any of these tasks, augmented live.

    share: of each task's labelled rows that may be used; the same rows for every seed. A row keeps its flags
    `labelled/<task>`, since tasks are labelled on different rows.
    """
    for task in tasks:
        if f"labelled/{task}" not in store.fields or not store.read(f"labelled/{task}").any():
            raise ValueError(f"{store.path}: no row carries a label of task {task!r}; prepare some, or drop the task")
    flags = load(store, [f"labelled/{task}" for task in tasks])
    few = {name: first_share(flag, share) for name, flag in flags.items()}
    rows = np.flatnonzero(np.any(list(few.values()), axis=0))
    fields = input_fields(store) + [f"labels/{task}" for task in tasks]
    kept = {**load(store, fields, rows), **{name: flag[rows] for name, flag in few.items()}}
    if len(rows) < batch_size:
        raise ValueError(f"{store.path}: {len(rows)} labelled rows, fewer than a batch of {batch_size}")
    rng = np.random.default_rng(seed)
    for batch in cut(iter(lambda: kept, None), batch_size, rng):
        inputs, labels = augment(rng, part(batch, "inputs"), part(batch, "labels"))
        batch |= {f"inputs/{name}": x for name, x in inputs.items()} | {f"labels/{name}": x for name, x in labels.items()}
        yield batch


def first_share(flag: np.ndarray, share: float) -> np.ndarray:
    """The first `share` of the rows that are flagged; rows of a store are in random order."""
    return flag & (np.cumsum(flag) <= round(share * flag.sum()))


def streamed(
    store: Store, fields: list[str], shards: list[np.ndarray], pool_shards: int, rng: np.random.Generator
) -> Iterator[Rows]:
    while True:
        order = rng.permutation(len(shards))
        for first in range(0, len(order), pool_shards):
            yield load(store, fields, np.concatenate([shards[s] for s in order[first : first + pool_shards]]))


def cut(pools: Iterator[Rows], batch_size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Batches of each pool's rows in random order; what is left of a pool begins the next one's first batch."""
    left: Rows = {}
    for pool in pools:
        order = rng.permutation(length(pool))
        lacking = batch_size - length(left) if left else 0
        if left:
            left = {name: np.concatenate([left[name], x[order[:lacking]]]) for name, x in pool.items()}
            if length(left) < batch_size:
                continue
            yield left
        full = (len(order) - lacking) // batch_size
        for first in range(lacking, lacking + full * batch_size, batch_size):
            yield {name: np.take(x, order[first : first + batch_size], axis=0) for name, x in pool.items()}
        rest = order[lacking + full * batch_size :]
        left = {name: x[rest] for name, x in pool.items()} if len(rest) else {}


def length(rows: Rows) -> int:
    return len(next(iter(rows.values())))
