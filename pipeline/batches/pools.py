"""Stores -> pools of shuffled rows, row-aligned over fields: all rows, kept in RAM, or some at a time, streamed."""

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Protocol, TypeVar, final

import numpy as np

from pipeline.stores.mapped import LONG
from pipeline.stores.shard import as_items
from pipeline.stores.store import PAGE, Selection, Store

MIXED = 64  # blocks of rows in a pool, at least

Item = TypeVar("Item")
Rows = dict[str, np.ndarray]


class Drawn(Protocol):
    """Rows in the order in which batches take them; what [first:last] gives is valid until the next is taken."""

    def __len__(self) -> int: ...

    def __getitem__(self, span: slice, /) -> np.ndarray: ...


@final
class Shuffled:
    """Rows in memory, taken in another order."""

    def __init__(self, rows: np.ndarray, order: np.ndarray):
        self.rows, self.order = rows, order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, span: slice) -> np.ndarray:
        return np.take(self.rows, self.order[span], axis=0)


@final
class InStore:
    """Rows of a field that stay where they are stored until they are taken."""

    def __init__(self, store: Store, name: str, order: np.ndarray):
        self.store, self.name, self.order = store, name, order
        self.room = store.empty(name, 0)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, span: slice) -> np.ndarray:
        rows = self.order[span]
        if len(rows) > len(self.room):
            self.room = self.store.empty(self.name, len(rows))
        return self.store.gather(self.name, rows, self.room[: len(rows)])


Pool = Mapping[str, Drawn]


def shuffled(rows: Rows, order: np.ndarray) -> Pool:
    return {name: Shuffled(array, order) for name, array in rows.items()}


def load(store: Store, fields: list[str], rows: Selection = None) -> Rows:
    """Fields of some rows (all: None), decoded, as stored; ragged ones as (R, max_items, ...), padded with -1."""
    ragged = {name for name in fields if store.fields[name].max_items}
    return {name: store.read_padded(name, rows)[0] if name in ragged else store.read(name, rows) for name in fields}


def blocks_of(store: Store, fields: list[str], seed: int, pool_rows: int) -> list[slice]:
    """The rows that are read together, in random order: whole chunks of every compressed field, and of the widest.

    Parts of those if a pool would have fewer than `MIXED` blocks: of sorted rows it would lack whole classes. A compressed
    chunk is then decoded once for every pool that has a part of it.
    """
    specs = {name: store.fields[name] for name in fields}
    widest = max(specs.values(), key=lambda f: f.row_bytes)
    chunk_rows = math.lcm(*(f.chunk_rows or 1 for f in specs.values() if f is widest or f.codec != "raw" or f.max_items))
    block_rows = max(d for d in range(1, chunk_rows + 1) if chunk_rows % d == 0 and (d == 1 or d * MIXED <= pool_rows))
    starts = np.random.default_rng(seed).permutation(range(0, store.n_rows, block_rows))
    return [slice(start, min(start + block_rows, store.n_rows)) for start in starts.tolist()]


def kept(store: Store, fields: list[str], blocks: list[slice], *, seed: int, skip: int) -> Iterator[Pool]:
    """All rows, decoded once, in a new order each epoch. skip: rows that were drawn before."""
    indices = np.sort(np.concatenate([np.arange(block.start, block.stop) for block in blocks]))
    rows = load(store, fields, indices if len(indices) < store.n_rows else None)  # sorted: of one rank, codecs change no batch
    first_epoch, skip = divmod(skip, length(rows))
    for epoch in count(first_epoch):
        yield shuffled(rows, np.random.default_rng([seed, epoch]).permutation(length(rows))[skip:])
        skip = 0


def streamed(store: Store, fields: list[str], blocks: list[slice], *, seed: int, skip: int, pool_rows: int) -> Iterator[Pool]:
    """Pools of random blocks, shuffled as they are read, each while the one before it is in use.

    pool_rows: of each of these two. skip: as in `kept`.
    """
    long_fields = [name for name in fields if stays_in_store(store, name)]
    copied_fields = [name for name in fields if name not in long_fields]
    block_rows = max(block.stop - block.start for block in blocks)
    n_blocks = max(1, pool_rows // block_rows)
    buffers: list[Rows] = [{}, {}]
    first_epoch, skip = divmod(skip, sum(block.stop - block.start for block in blocks))
    for epoch in count(first_epoch):
        rng = np.random.default_rng([seed, epoch])
        for pool_blocks in spread(rng, blocks, n_blocks):
            positions = rng.permutation(sum(block.stop - block.start for block in pool_blocks))
            n_drawn, skip = min(skip, len(positions)), max(0, skip - len(positions))
            if n_drawn < len(positions):
                buffers.reverse()
                fill(buffers[0], store, copied_fields, pool_blocks, positions, n_blocks * block_rows)
                copied_rows = {name: array[n_drawn : len(positions)] for name, array in buffers[0].items()}
                yield {**copied_rows, **in_store(store, long_fields, pool_blocks, positions, n_drawn)}


def spread(rng: np.random.Generator, blocks: list[slice], n_blocks: int) -> Iterator[list[slice]]:
    """Blocks dealt at random to pools of at most `n_blocks`, each from all over the store, so that sorted rows mix too."""
    n_pools = -(-len(blocks) // n_blocks)
    pool_of_block = np.concatenate([rng.permutation(n_pools) for _ in range(0, len(blocks), n_pools)])[: len(blocks)]
    sorted_blocks = sorted(blocks, key=lambda block: block.start)
    for pool in rng.permutation(n_pools):
        yield [sorted_blocks[index] for index in np.flatnonzero(pool_of_block == pool)]


def fill(buffer: Rows, store: Store, fields: list[str], blocks: list[slice], positions: np.ndarray, capacity: int) -> None:
    """Put the rows of blocks, one after another, into these positions of a buffer. It is made once, for `capacity` rows."""
    for name in fields:
        if name not in buffer:
            buffer[name] = store.empty(name, capacity)
        out, n_filled = as_items(buffer[name]), 0
        for piece in pieces(store, name, blocks):
            out[positions[n_filled : n_filled + len(piece)]] = piece
            n_filled += len(piece)


def stays_in_store(store: Store, name: str) -> bool:
    """Whether rows of a field are stored as they are read, so long that copying them to a pool would be most of the work."""
    field = store.fields[name]
    return field.codec == "raw" and field.plain and not field.max_items and field.row_bytes >= LONG


def in_store(store: Store, fields: list[str], blocks: list[slice], positions: np.ndarray, n_drawn: int) -> dict[str, InStore]:
    """The rows of blocks that `fill` would put into these positions from `n_drawn` on. Also reads their pages into memory."""
    if not fields:
        return {}
    order = np.empty(len(positions), np.int64)
    order[positions] = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    for name in fields:
        for piece in store.pieces(name, blocks):
            piece.view(np.uint8)[::PAGE].max()
    return {name: InStore(store, name, order[n_drawn:]) for name in fields}


def pieces(store: Store, name: str, blocks: list[slice]) -> Iterator[np.ndarray]:
    ragged = store.fields[name].max_items
    return (as_items(store.read_padded(name, block)[0]) for block in blocks) if ragged else store.pieces(name, blocks)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same endless items, each made in a thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, items)
        while True:
            item = future.result()
            future = thread.submit(next, items)
            yield item


def length(rows: Rows | Pool) -> int:
    return len(next(iter(rows.values())))
