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
    return {name: Shuffled(x, order) for name, x in rows.items()}


def load(store: Store, fields: list[str], rows: Selection = None) -> Rows:
    """Fields of some rows (all: None), decoded, as stored; ragged ones as (R, max_items, ...), padded with -1."""
    ragged = {name for name in fields if store.fields[name].max_items}
    return {name: store.read_padded(name, rows)[0] if name in ragged else store.read(name, rows) for name in fields}


def blocks_of(store: Store, fields: list[str], seed: int, pool_rows: int) -> list[slice]:
    """The rows that are read together, in random order: whole chunks of every compressed field, and of the widest.

    Parts of those if a pool would have fewer than `MIXED` blocks: of sorted rows it would lack whole classes. A compressed
    chunk is then decoded once for every pool that has a part of it.
    """
    declared = {name: store.fields[name] for name in fields}
    widest = max(declared.values(), key=lambda f: f.row_bytes)
    whole = math.lcm(*(f.chunk_rows or 1 for f in declared.values() if f is widest or f.codec != "raw" or f.max_items))
    block = max(d for d in range(1, whole + 1) if whole % d == 0 and (d == 1 or d * MIXED <= pool_rows))
    firsts = np.random.default_rng(seed).permutation(range(0, store.n_rows, block))
    return [slice(first, min(first + block, store.n_rows)) for first in firsts.tolist()]


def kept(store: Store, fields: list[str], blocks: list[slice], *, seed: int, skip: int) -> Iterator[Pool]:
    """All rows, decoded once, in a new order each epoch. skip: rows that were drawn before."""
    mine = np.sort(np.concatenate([np.arange(block.start, block.stop) for block in blocks]))
    rows = load(store, fields, mine if len(mine) < store.n_rows else None)  # sorted: of one rank, a codec changes no batch
    epoch, skip = divmod(skip, length(rows))
    for number in count(epoch):
        yield shuffled(rows, np.random.default_rng([seed, number]).permutation(length(rows))[skip:])
        skip = 0


def streamed(store: Store, fields: list[str], blocks: list[slice], *, seed: int, skip: int, pool_rows: int) -> Iterator[Pool]:
    """Pools of random blocks, shuffled as they are read, each while the one before it is in use.

    pool_rows: of each of these two. skip: as in `kept`.
    """
    long = [name for name in fields if stays_in_store(store, name)]
    copied = [name for name in fields if name not in long]
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
                fill(buffers[0], store, copied, pool, places, together * most)
                short = {name: x[drawn : len(places)] for name, x in buffers[0].items()}
                yield {**short, **in_store(store, long, pool, places, drawn)}


def spread(rng: np.random.Generator, blocks: list[slice], together: int) -> Iterator[list[slice]]:
    """Blocks dealt at random to pools of at most `together`, each from all over the store, so that sorted rows mix too."""
    pools = -(-len(blocks) // together)
    dealt = np.concatenate([rng.permutation(pools) for _ in range(0, len(blocks), pools)])[: len(blocks)]
    by_row = sorted(blocks, key=lambda block: block.start)
    for pool in rng.permutation(pools):
        yield [by_row[b] for b in np.flatnonzero(dealt == pool)]


def fill(buffer: Rows, store: Store, fields: list[str], blocks: list[slice], places: np.ndarray, most: int) -> None:
    """Put the rows of blocks, one after another, into these places of a buffer. It is made once, for `most` rows."""
    for name in fields:
        if name not in buffer:
            buffer[name] = store.empty(name, most)
        out, done = as_items(buffer[name]), 0
        for piece in pieces(store, name, blocks):
            out[places[done : done + len(piece)]] = piece
            done += len(piece)


def stays_in_store(store: Store, name: str) -> bool:
    """Whether rows of a field are stored as they are read, so long that copying them to a pool would be most of the work."""
    declared = store.fields[name]
    return declared.codec == "raw" and declared.plain and not declared.max_items and declared.row_bytes >= LONG


def in_store(store: Store, fields: list[str], blocks: list[slice], places: np.ndarray, drawn: int) -> dict[str, InStore]:
    """The rows of blocks that `fill` would put into these places from `drawn` on. Also reads their pages into memory."""
    if not fields:
        return {}
    order = np.empty(len(places), np.int64)
    order[places] = np.concatenate([np.arange(block.start, block.stop) for block in blocks])
    for name in fields:
        for piece in store.pieces(name, blocks):
            piece.view(np.uint8)[::PAGE].max()
    return {name: InStore(store, name, order[drawn:]) for name in fields}


def pieces(store: Store, name: str, blocks: list[slice]) -> Iterator[np.ndarray]:
    ragged = store.fields[name].max_items
    return (as_items(store.read_padded(name, block)[0]) for block in blocks) if ragged else store.pieces(name, blocks)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same endless items, each made in a thread while the one before it is in use."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items)
        while True:
            item = coming.result()
            coming = thread.submit(next, items)
            yield item


def length(rows: Rows | Pool) -> int:
    return len(next(iter(rows.values())))
