"""Stores -> shuffled batches of tensors, row-aligned over fields, from RAM or streamed."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.shard import as_items
from pipeline.store import Store

MASK = "inputs/mask"  # (N, *grid): which positions of a grid exist, where samples differ in length
MIXED = 64  # blocks of rows in a pool, at least

Item = TypeVar("Item")
Rows = dict[str, np.ndarray]
Pool = tuple[Rows, np.ndarray | None]  # rows and their order; None: as they lie
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


def tensors(rows: Rows | Batch, device: torch.device) -> Batch:
    """Rows on a device; narrow floats, which are for storage, become float32. What is a batch already stays as it is."""
    moved = {name: torch.as_tensor(x).to(device, non_blocking=True) for name, x in rows.items()}
    return {name: x.float() if x.is_floating_point() else x for name, x in moved.items()}


def narrowed(x: Tensor, dtype: str) -> np.ndarray:
    """A tensor on its way into a field of this type: float16 on its device, which NumPy would take 30 times as long for.

    What would overflow is left as it is, for the writer to name.
    """
    if not x.is_floating_point():
        return x.cpu().numpy()
    half = x.half() if dtype == "float16" else x
    return (half if half.isfinite().all() else x).cpu().numpy()


def part(rows: dict, prefix: str) -> dict:
    """The fields below `prefix/`, without it: part(rows, "inputs") -> {"mask": ...}."""
    return {name.removeprefix(prefix + "/"): x for name, x in rows.items() if name.startswith(prefix + "/")}


def in_line(x: Tensor) -> Tensor:
    """(B, C, *grid) -> (B, C, positions); a vector has one."""
    return x.reshape(*x.shape[:2], -1)


def existing(x: Tensor, mask: Tensor | None) -> Tensor:
    """The positions that exist, as rows: (B, C, *grid) and a mask (B, *grid) -> (P, C); what is on another grid as it is."""
    if mask is None or x.dim() < 3 or x.shape[2:] != mask.shape[1:]:
        return x
    return in_line(x).transpose(1, 2)[mask.flatten(1)]


def with_prefix(store: Store, prefix: str) -> list[str]:
    return [name for name in store.fields if name.startswith(prefix)]


def input_fields(store: Store) -> list[str]:
    return with_prefix(store, "inputs/")


def in_order(store: Store, fields: list[str], batch_size: int, rows: slice | None = None) -> Iterator[Rows]:
    """Rows (all: None) once, in order; a batch never straddles a shard."""
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
    rows: slice,
    masked: bool = False,
) -> Iterator[Batch]:
    """{"teacher/tap": (B, D, *grid)} of aligned stores, row by row together. masked: only positions that exist, as (P, D).

    inputs: what the teachers were shown, which says which positions exist. advance: told of every row that is done.
    """
    readers = [in_order(store, with_prefix(store, "features/"), batch_size, rows) for store in stores]
    if masked and MASK in inputs.fields:
        readers.append(in_order(inputs, [MASK], batch_size, rows))
    for together in zip(*readers, strict=True):
        batch = tensors({name: x for fields in together for name, x in fields.items()}, device)
        yield {name: existing(x, batch.get(MASK)) for name, x in part(batch, "features").items()}
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
    """Endless shuffled batches, every row once an epoch; a batch is valid until the next one is drawn.

    memory_budget: bytes of decoded rows. What fits is decoded once and kept; what does not is streamed by shuffled pools of
    random blocks of rows. start: the batch to begin with: an interrupted run draws what it would have drawn. rank: of
    `ranks` processes that share the rows out among them.
    """
    fitting = memory_budget // sum(x.nbytes for x in load(store, fields, slice(0, 1)).values())
    blocks = blocks_of(store, fields, seed, fitting // 2)[rank::ranks]
    n_rows = sum(block.stop - block.start for block in blocks)
    if n_rows < batch_size:
        raise ValueError(f"{store.path}: {n_rows} rows to learn from, fewer than a batch of {batch_size}")
    skip = start * batch_size
    if n_rows <= fitting:
        pools = kept(store, fields, blocks, seed=seed, skip=skip)
    else:
        pools = ahead(streamed(store, fields, blocks, seed=seed, skip=skip, pool_rows=fitting // 2))
    yield from cut(pools, batch_size)


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
    labelled = {**load(store, fields, rows), **{name: flag[rows] for name, flag in few.items()}}
    if len(rows) < batch_size:
        raise ValueError(f"{store.path}: {len(rows)} labelled rows, fewer than a batch of {batch_size}")
    rng = np.random.default_rng(seed)
    for batch in cut(((labelled, rng.permutation(len(rows))) for _ in count()), batch_size):
        inputs, labels = augment(rng, part(batch, "inputs"), part(batch, "labels"))
        batch |= {f"inputs/{name}": x for name, x in inputs.items()} | {f"labels/{name}": x for name, x in labels.items()}
        yield batch


def first_share(flag: np.ndarray, share: float) -> np.ndarray:
    """The first `share` of the rows that are flagged; rows of a store are in random order."""
    return flag & (np.cumsum(flag) <= round(share * flag.sum()))


def blocks_of(store: Store, fields: list[str], seed: int, pool_rows: int) -> list[slice]:
    """The rows that are read together, in random order: whole chunks of every compressed field, and of the widest.

    Parts of those where a pool would be fewer than `MIXED`: it would lack whole classes of sorted rows. A compressed chunk
    is then decoded once for every pool that has a part of it.
    """
    declared = {name: store.fields[name] for name in fields}
    widest = max(declared.values(), key=lambda f: f.row_bytes)
    whole = math.lcm(*(f.chunk_rows or 1 for f in declared.values() if f is widest or f.codec != "raw" or f.max_items))
    block = max(d for d in range(1, whole + 1) if whole % d == 0 and (d == 1 or d * MIXED <= pool_rows))
    firsts = np.random.default_rng(seed).permutation(range(0, store.n_rows, block))
    return [slice(first, min(first + block, store.n_rows)) for first in firsts.tolist()]


def kept(store: Store, fields: list[str], blocks: list[slice], *, seed: int, skip: int) -> Iterator[Pool]:
    """All rows, decoded once, and each epoch's order of them. skip: rows that were drawn before."""
    mine = np.sort(np.concatenate([np.arange(block.start, block.stop) for block in blocks]))
    rows = load(store, fields, mine if len(mine) < store.n_rows else None)  # in order: a codec changes no batch
    epoch, skip = divmod(skip, length(rows))
    for number in count(epoch):
        yield rows, np.random.default_rng([seed, number]).permutation(length(rows))[skip:]
        skip = 0


def streamed(store: Store, fields: list[str], blocks: list[slice], *, seed: int, skip: int, pool_rows: int) -> Iterator[Pool]:
    """Pools of random blocks, shuffled as they are read, each while the one before it is in use.

    pool_rows: of one of the two. skip: as in `kept`.
    """
    most = max(block.stop - block.start for block in blocks)
    together = max(1, pool_rows // most)
    buffers: list[Rows] = [{}, {}]
    epoch, skip = divmod(skip, sum(block.stop - block.start for block in blocks))
    for number in count(epoch):
        rng = np.random.default_rng([seed, number])
        for pool in spread(rng, blocks, together):
            places = rng.permutation(sum(block.stop - block.start for block in pool))
            drawn, skip = min(skip, len(places)), max(0, skip - len(places))
            if drawn < len(places):
                buffers.reverse()
                fill(buffers[0], store, fields, pool, places, together * most)
                yield {name: x[drawn : len(places)] for name, x in buffers[0].items()}, None


def spread(rng: np.random.Generator, blocks: list[slice], together: int) -> Iterator[list[slice]]:
    """Blocks dealt out at random to pools of at most so many, each from all over the store: sorted rows are mixed too."""
    pools = -(-len(blocks) // together)
    dealt = np.concatenate([rng.permutation(pools) for _ in range(0, len(blocks), pools)])[: len(blocks)]
    by_row = sorted(blocks, key=lambda block: block.start)
    for pool in rng.permutation(pools):
        yield [by_row[b] for b in np.flatnonzero(dealt == pool)]


def fill(buffer: Rows, store: Store, fields: list[str], blocks: list[slice], places: np.ndarray, most: int) -> None:
    """Put the rows of blocks, one after another, into these places of a buffer that is made, for `most` rows, only once."""
    for name in fields:
        if name not in buffer:
            buffer[name] = store.empty(name, most)
        out, done = as_items(buffer[name]), 0
        for piece in pieces(store, name, blocks):
            out[places[done : done + len(piece)]] = piece
            done += len(piece)


def pieces(store: Store, name: str, blocks: list[slice]) -> Iterator[np.ndarray]:
    ragged = store.fields[name].max_items
    return (as_items(padded(store, name, block)) for block in blocks) if ragged else store.pieces(name, blocks)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same endless items, each made in a thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items)
        while True:
            item = coming.result()
            coming = thread.submit(next, items)
            yield item


def cut(pools: Iterator[Pool], batch_size: int) -> Iterator[Rows]:
    """Batches of each pool's rows; what is left of a pool begins the next one's first batch."""
    left: Rows = {}
    for pool in pools:
        rows, order = pool
        size = length(rows) if order is None else len(order)
        lacking = min(size, batch_size - length(left)) if left else 0
        if left:
            left = {name: np.concatenate([left[name], x]) for name, x in take(pool, 0, lacking).items()}
            if length(left) < batch_size:
                continue
            yield left
        full = (size - lacking) // batch_size * batch_size
        for first in range(lacking, lacking + full, batch_size):
            yield take(pool, first, first + batch_size)
        left = {name: x.copy() for name, x in take(pool, lacking + full, size).items()} if lacking + full < size else {}


def take(pool: Pool, first: int, last: int) -> Rows:
    rows, order = pool
    if order is None:
        return {name: x[first:last] for name, x in rows.items()}
    return {name: np.take(x, order[first:last], axis=0) for name, x in rows.items()}


def length(rows: Rows) -> int:
    return len(next(iter(rows.values())))
