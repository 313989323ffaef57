"""Stores -> shuffled batches of tensors, row-aligned over fields, from RAM or streamed."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import final

import numpy as np
import torch
from torch import Tensor

from pipeline.batches.pools import InStore, Pool, Rows, ahead, blocks_of, kept, length, load, shuffled, streamed
from pipeline.stores.store import Selection, Store

TOGETHER = 2**26  # bytes of features that a fusion is given at once
MASK = "inputs/mask"  # (N, *grid): which positions of a grid exist, where samples differ in length

Batch = dict[str, Tensor]
Augment = Callable[[np.random.Generator, Rows, Rows], tuple[Rows, Rows]]


def tensors(rows: Rows | Batch, device: torch.device) -> Batch:
    """Rows on a device, in types that torch can work with. What is a batch already stays as it is.

    Flags of labels are not moved: counting them on a GPU would mean waiting for it.
    """
    on_host = {name: torch.as_tensor(array) for name, array in rows.items()}
    on_device = {name: x if name.startswith("labelled/") else x.to(device, non_blocking=True) for name, x in on_host.items()}
    return {name: widened(tensor) for name, tensor in on_device.items()}


def widened(tensor: Tensor) -> Tensor:
    """Narrow floats, which are for storage, as float32; unsigned integers that torch can do little with as int64."""
    if tensor.is_floating_point():
        return tensor.float()
    return tensor.long() if tensor.dtype in (torch.uint16, torch.uint32, torch.uint64) else tensor


def narrowed(tensor: Tensor, dtype: str) -> np.ndarray:
    """A tensor as an array for a field of this type. float16 is made on its device: NumPy would take 30 times as long.

    A tensor that would overflow is left as it is, for the writer to report.
    """
    if not tensor.is_floating_point():
        return tensor.cpu().numpy()
    half = tensor.half() if dtype == "float16" else tensor
    return (half if half.isfinite().all() else tensor).cpu().numpy()


def part(rows: dict, prefix: str) -> dict:
    """The fields below `prefix/`, without it: part(rows, "inputs") -> {"mask": ...}."""
    return {name.removeprefix(prefix + "/"): value for name, value in rows.items() if name.startswith(prefix + "/")}


def in_line(x: Tensor) -> Tensor:
    """(B, C, *grid) -> (B, C, positions); a vector has one."""
    return x.reshape(*x.shape[:2], -1)


@final
class Existing:
    """The positions that exist, as rows: (B, C, *grid) and a mask (B, *grid) -> (P, C). On another grid, a tensor as it is.

    Made once per batch: counting what exists waits for a GPU, and a mask as an index would be counted at each use.
    """

    def __init__(self, mask: Tensor | None):
        self.grid = None if mask is None else mask.shape[1:]
        self.places = None if mask is None else mask.flatten(1).nonzero(as_tuple=True)

    def __call__(self, tensor: Tensor) -> Tensor:
        if self.places is None or tensor.dim() < 3 or tensor.shape[2:] != self.grid:
            return tensor
        return in_line(tensor).transpose(1, 2)[self.places]


def with_prefix(store: Store, prefix: str) -> list[str]:
    return [name for name in store.fields if name.startswith(prefix)]


def input_fields(store: Store) -> list[str]:
    return with_prefix(store, "inputs/")


def in_order(store: Store, fields: list[str], batch_size: int, rows: Selection = None) -> Iterator[Rows]:
    """Rows (all: None) once, in order; with a range no batch straddles two shards."""
    if isinstance(rows, np.ndarray):
        for first in range(0, len(rows), batch_size):
            yield load(store, fields, rows[first : first + batch_size])
        return
    first, end, _ = (rows or slice(None)).indices(store.n_rows)
    while first < end:
        last = min(first + batch_size, end, (first // store.shard_rows + 1) * store.shard_rows)
        yield load(store, fields, slice(first, last))
        first = last


def features_of(
    inputs: Store,
    stores: list[Store],
    batch_size: int,
    device: torch.device,
    advance: Callable[[int], None],
    rows: Selection,
    masked: bool = False,
) -> Iterator[Batch]:
    """{"teacher/tap": (B, D, *grid)} of aligned stores, row by row together. masked: only positions that exist, as (P, D).

    inputs: what the teachers were run on; it says which positions exist. batch_size: at most, fewer where rows are large.
    advance: called with the number of rows done.
    """
    row_bytes = sum(store.fields[name].row_bytes for store in stores for name in with_prefix(store, "features/"))
    batch_size = max(1, min(batch_size, TOGETHER // max(1, row_bytes)))
    readers = [in_order(store, with_prefix(store, "features/"), batch_size, rows) for store in stores]
    if masked and MASK in inputs.fields:
        readers.append(in_order(inputs, [MASK], batch_size, rows))
    for rows_by_store in zip(*readers, strict=True):
        batch = tensors({name: array for store_rows in rows_by_store for name, array in store_rows.items()}, device)
        existing = Existing(batch.get(MASK))
        yield {name: existing(feature) for name, feature in part(batch, "features").items()}
        advance(len(next(iter(batch.values()))))


def batches(
    store: Store,
    fields: list[str],
    batch_size: int,
    *,
    seed: int,
    memory_budget: int,
    start: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> Iterator[Rows]:
    """Endless shuffled batches, every row once per epoch; a batch is valid until the next one is drawn.

    memory_budget: bytes of decoded rows. A store that fits is decoded once and kept; any other is streamed in shuffled pools
    of random blocks of rows. start: the batch to begin with, so that a resumed run draws what it would have drawn. rank: of
    `ranks` processes that divide the rows among them.
    """
    budget_rows = memory_budget // sum(array.nbytes for array in load(store, fields, slice(0, 1)).values())
    blocks = blocks_of(store, fields, seed, budget_rows // 2)[rank::ranks]
    n_rows = sum(block.stop - block.start for block in blocks)
    if n_rows < batch_size:
        raise ValueError(f"{store.path}: {n_rows} rows to learn from, fewer than a batch of {batch_size}")
    skip = start * batch_size
    if n_rows <= budget_rows:
        pools = kept(store, fields, blocks, seed=seed, skip=skip)
    else:
        pools = ahead(streamed(store, fields, blocks, seed=seed, skip=skip, pool_rows=budget_rows // 2))
    yield from cut(pools, batch_size)


def labelled_batches(
    store: Store,
    tasks: Iterable[str],
    batch_size: int,
    augment: Augment,
    *,
    seed: int,
    share: float = 1.0,
    memory_budget: int = 2 * 10**9,
) -> Iterator[Rows]:
    """Endless shuffled batches of rows that carry a label of any of these tasks, augmented live.

    share: of each task's labelled rows that may be used; the same rows for every seed. A row keeps its flags
    `labelled/<task>`, since tasks are labelled on different rows. memory_budget: bytes of decoded inputs to keep; if there
    are more, each batch decodes its own. Labels and ragged inputs are always kept.
    """
    for task in tasks:
        if f"labelled/{task}" not in store.fields or not store.read(f"labelled/{task}").any():
            raise ValueError(f"{store.path}: no row carries a label of task {task!r}; prepare some, or drop the task")
    flags = load(store, [f"labelled/{task}" for task in tasks])
    used_flags = {name: first_share(flag, share) for name, flag in flags.items()}
    for name, flag in used_flags.items():
        if not flag.any():
            raise ValueError(f"{store.path}: {name}: a share of {share} of its {flags[name].sum()} rows is no row; raise it")
    rows = np.flatnonzero(np.any(list(used_flags.values()), axis=0))
    regular_fields = [name for name in input_fields(store) if not store.fields[name].max_items]
    n_bytes = len(rows) * sum(store.fields[name].row_bytes for name in regular_fields)
    stored_fields = regular_fields if n_bytes > memory_budget else []
    fields = [name for name in input_fields(store) if name not in stored_fields] + [f"labels/{task}" for task in tasks]
    loaded = {**load(store, fields, rows), **{name: flag[rows] for name, flag in used_flags.items()}}
    if len(rows) < batch_size:
        raise ValueError(f"{store.path}: {len(rows)} labelled rows, fewer than a batch of {batch_size}")
    rng = np.random.default_rng(seed)

    def pool(order: np.ndarray) -> Pool:
        return {**shuffled(loaded, order), **{name: InStore(store, name, rows[order]) for name in stored_fields}}

    for batch in cut((pool(rng.permutation(len(rows))) for _ in count()), batch_size):
        inputs, labels = augment(rng, part(batch, "inputs"), part(batch, "labels"))
        batch |= {f"inputs/{name}": x for name, x in inputs.items()} | {f"labels/{name}": x for name, x in labels.items()}
        yield batch


def first_share(flag: np.ndarray, share: float) -> np.ndarray:
    """The first `share` of the rows that are flagged; rows of a store are in random order."""
    return flag & (np.cumsum(flag) <= round(share * flag.sum()))


def cut(pools: Iterator[Pool], batch_size: int) -> Iterator[Rows]:
    """Batches of each pool's rows; what is left of a pool begins the next one's first batch."""
    rest: Rows = {}
    for pool in pools:
        size = length(pool)
        lacking = min(size, batch_size - length(rest)) if rest else 0
        if rest:
            rest = {name: np.concatenate([rest[name], array]) for name, array in take(pool, 0, lacking).items()}
            if length(rest) < batch_size:
                continue
            yield rest
        full = (size - lacking) // batch_size * batch_size
        for first in range(lacking, lacking + full, batch_size):
            yield take(pool, first, first + batch_size)
        rest = {name: x.copy() for name, x in take(pool, lacking + full, size).items()} if lacking + full < size else {}


def take(pool: Pool, first: int, last: int) -> Rows:
    return {name: x[first:last] for name, x in pool.items()}
