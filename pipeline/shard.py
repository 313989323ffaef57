"""The bytes of one shard file: Zarr v3's `sharding_indexed` with the index at the end, written and read without zarr.

A shard is its chunks one after another, each followed by its crc32c, then the index: offset and length of every chunk as
little-endian u64 pairs, and the crc32c of those. Only rows are chunked, so a chunk is a block of whole rows.
"""

import math
import mmap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np

numcodecs.blosc.use_threads = False  # readers run in threads of their own; blosc's pool would be one lock for all

CRC = 4  # bytes
LONG = 8192  # bytes of a row: from here on a copy costs more than an iteration


class StoreError(Exception):
    """A store that cannot be made or trusted, as one line: what, where, what was expected, what to do."""


@dataclass(frozen=True)
class Layout:
    """How the rows of one array lie in its shards. codec: raw, lz4 (Blosc with byte shuffle) or zstd.

    dimension: what its rows are: "row", the store's own, or something that has `shard_rows` in every shard.
    """

    shape: tuple[int, ...]  # of one row
    dtype: str
    shard_rows: int
    chunk_rows: int
    codec: str
    dimension: str = "row"

    @property
    def chunks(self) -> int:
        return self.shard_rows // self.chunk_rows

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        return self.chunk_rows * self.row_bytes

    @property
    def index_bytes(self) -> int:
        return 16 * self.chunks + CRC

    @cached_property
    def coder(self) -> Any:
        itemsize = np.dtype(self.dtype).itemsize
        coders = {
            "raw": lambda: None,
            "lz4": lambda: numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.SHUFFLE, typesize=itemsize),
            "zstd": lambda: numcodecs.Zstd(level=1),
        }
        return coders[self.codec]()


def checksum(data: bytes | np.ndarray) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(CRC, "little")


def as_items(rows: np.ndarray) -> np.ndarray:
    """The same rows, (R, *shape), as (R,) opaque items: NumPy moves these several times faster than numbers."""
    width = math.prod(rows.shape[1:])
    return rows.reshape(len(rows), width).view(f"V{width * rows.itemsize}")[:, 0]


def scatter(rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    """out[places] = rows: (R, *shape), (R,), (N, *shape), of one type."""
    as_items(out)[places] = as_items(rows)


def encode_shard(rows: np.ndarray, layout: Layout) -> list[Any]:
    """A shard file as bytes-like parts; fewer rows than a shard's are padded with zeros."""
    if len(rows) < layout.shard_rows:
        padding = np.zeros((layout.shard_rows - len(rows), *layout.shape), layout.dtype)
        rows = np.concatenate([rows.astype(layout.dtype, copy=False), padding])
    whole = np.ascontiguousarray(rows, layout.dtype).reshape(layout.chunks, -1).view(np.uint8)
    parts: list[Any] = []
    index, end = [], 0
    for chunk in whole:
        data = chunk if layout.coder is None else bytes(layout.coder.encode(chunk.view(layout.dtype)))
        parts += [data, checksum(data)]
        index.append((end, len(data) + CRC))
        end += len(data) + CRC
    table = np.array(index, "<u8").tobytes()
    return [*parts, table, checksum(table)]


class Shard:
    """One shard file, mapped into memory; refused if its index is not whole and sane.

    Chunks are checked against their crc32c when they are first touched.
    """

    def __init__(self, path: Path, layout: Layout):
        self.path, self.layout = path, layout
        try:
            with path.open("rb") as file:
                self.data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise self.damaged(f"cannot be read ({error})") from None
        if len(self.data) < layout.index_bytes:
            raise self.damaged("is shorter than its index")
        table = self.data[-layout.index_bytes : -CRC]
        if checksum(table) != self.data[-CRC:].tobytes():
            raise self.damaged("has an index that fails its checksum")
        self.index = np.frombuffer(table.tobytes(), "<u8").reshape(-1, 2).tolist()
        self.check_index()
        self.touched = np.zeros(layout.chunks, bool)

    def check_index(self) -> None:
        """Every chunk is there, chunks follow one another, and they fill the file: nothing missing, nothing hidden."""
        end = 0
        for offset, length in self.index:
            raw_length = self.layout.chunk_bytes + CRC
            if offset != end or length <= CRC or (self.layout.coder is None and length != raw_length):
                raise self.damaged("has an index with missing or misplaced chunks")
            end = offset + length
        if end != len(self.data) - self.layout.index_bytes:
            raise self.damaged(f"holds {len(self.data)} bytes, its index says {end + self.layout.index_bytes}")

    def chunk(self, number: int) -> np.ndarray:
        """Rows of a chunk, (chunk_rows, *shape), read-only: a view of the mapped file if raw, else decoded."""
        data = self.stored(number)
        rows = data if self.layout.coder is None else self.decoded(data, number)
        return rows.view(self.layout.dtype).reshape(self.layout.chunk_rows, *self.layout.shape)

    def stored(self, number: int) -> np.ndarray:
        """Bytes of a chunk as they lie in the file; the first time, against their crc32c."""
        offset, length = self.index[number]
        data = self.data[offset : offset + length - CRC]
        if not self.touched[number]:
            if checksum(data) != self.data[offset + length - CRC : offset + length].tobytes():
                raise self.damaged(f"has a chunk ({number}) that fails its checksum")
            self.touched[number] = True
        return data

    @cached_property
    def items(self) -> np.ndarray:
        """All rows of a raw shard as opaque items, (chunks, chunk_rows): a view of the mapped file."""
        layout = self.layout
        strides = layout.chunk_bytes + CRC, layout.row_bytes
        return np.ndarray((layout.chunks, layout.chunk_rows), f"V{layout.row_bytes}", self.data, strides=strides)

    def gather(self, rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
        """out[places] = rows of a raw shard, of its own type: short ones all at once, long ones each without a copy between."""
        chunk, row = np.divmod(rows, self.layout.chunk_rows)
        touched = self.touched[chunk]
        if not touched.all():
            for number in np.unique(chunk[~touched]):
                self.stored(number)
        if self.layout.row_bytes < LONG:
            as_items(out)[places] = self.items[chunk, row]
            return
        source, target = self.items.view(np.uint8).reshape(*self.items.shape, -1), out.reshape(len(out), -1).view(np.uint8)
        for c, r, place in zip(chunk.tolist(), row.tolist(), places.tolist(), strict=True):
            target[place] = source[c, r]

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows of a raw shard, (R, *shape), in the order asked for."""
        out = np.empty((len(rows), *self.layout.shape), self.layout.dtype)
        self.gather(rows, np.arange(len(rows)), out)
        return out

    def decoded(self, data: np.ndarray, number: int) -> np.ndarray:
        out = np.empty(self.layout.chunk_bytes, np.uint8)
        try:
            size = len(self.layout.coder.decode(data, out=out))
        except (RuntimeError, ValueError) as error:
            raise self.damaged(f"has a chunk ({number}) that does not decode ({error})") from None
        if size != len(out):
            raise self.damaged(f"has a chunk ({number}) of {size} bytes, expected {len(out)}")
        return out

    def damaged(self, what: str) -> StoreError:
        return StoreError(f"{self.path}: damaged: the shard {what}; restore the store from its remote, or make it again")
