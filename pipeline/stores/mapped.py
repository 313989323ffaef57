"""Rows of raw shards, from anywhere, straight from the mapped files."""

import ctypes
from functools import cached_property

import numpy as np

from pipeline.stores.shard import CRC, Shard

LONG = 8192  # bytes of a row: from here on a copy costs more than an iteration
PIECE = 2**17  # bytes of short rows that are gathered at once: they are copied while they are in the processor's cache


class MappedArray:
    """The raw shards of an array as one: rows from anywhere are gathered at once, whatever files they lie in.

    Rows are found by their distance from the lowest address of any shard. Memory between shards is not theirs and is never
    read: a row's place is computed from its chunk's.
    """

    def __init__(self, shards: list[Shard]):
        self.shards, self.layout = shards, shards[0].layout
        chunk_bytes, chunk_numbers = self.layout.chunk_bytes, np.arange(self.layout.chunks)
        starts = np.concatenate([shard.data.ctypes.data + chunk_numbers * (chunk_bytes + CRC) for shard in shards])
        base, self.span = int(starts.min()), int(np.ptp(starts)) + chunk_bytes
        self.memory = np.frombuffer(memoryview((ctypes.c_uint8 * self.span).from_address(base)), np.uint8)
        self.memory.flags.writeable = False
        self.shifts = starts - base - np.arange(len(starts)) * chunk_bytes  # of each chunk, from where it would be without gaps
        self.touched, self.whole = np.zeros(len(starts), bool), False  # whole: all are touched
        for shard, shard_touched in zip(shards, np.split(self.touched, len(shards)), strict=True):
            shard.touched = shard_touched

    @cached_property
    def items(self) -> np.ndarray:
        """At every byte, the opaque item of a row's length that starts there, (bytes,)."""
        n_items = self.span - self.layout.row_bytes + 1
        return np.ndarray((n_items,), self.layout.item, self.memory, strides=(1,))

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Rows in any order into out, (R, *shape), of the array's own type: short ones together, long ones one by one."""
        if len(rows) and rows[rows.argmin()] < 0:  # min() takes four times as long
            raise IndexError(f"row {rows.min()}: rows to gather count from 0")
        rows = rows.astype(np.int64, copy=False)
        chunk_numbers, row_bytes = rows // self.layout.chunk_rows, self.layout.row_bytes
        starts = rows * row_bytes + self.shifts[chunk_numbers]
        if not self.whole:
            self.check(chunk_numbers)
        if row_bytes < LONG:
            items, step = out.reshape(-1).view(self.layout.item), PIECE // row_bytes
            for first in range(0, len(rows), step):
                items[first : first + step] = self.items[starts[first : first + step]]
            return
        out_bytes, memory = out.reshape(-1).view(np.uint8).data, self.memory.data  # memoryviews slice faster than arrays
        for offset, start in zip(range(0, len(out_bytes), row_bytes), starts.tolist(), strict=True):
            out_bytes[offset : offset + row_bytes] = memory[start : start + row_bytes]

    def check(self, chunks: np.ndarray) -> None:
        """Check those chunks that nobody has touched yet against their checksums."""
        for chunk in np.unique(chunks[~self.touched[chunks]]).tolist():
            self.shards[chunk // self.layout.chunks].stored(chunk % self.layout.chunks)
        self.whole = bool(self.touched.all())
