"""The bytes of one shard file: Zarr v3's `sharding_indexed` with the index at the end, written and read without zarr.

A shard is its chunks one after another, each followed by its crc32c, then the index: offset and length of every chunk as
little-endian u64 pairs, and the crc32c of those. Only rows are chunked, so a chunk is a block of whole rows.
"""

import contextlib
import errno
import math
import mmap
import os
import resource
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
from crc32c import crc32c

from pipeline.stores.frames import blosc_bytes, zstd_bytes

numcodecs.blosc.use_threads = False  # readers run in threads of their own; blosc's pool would be one lock for all

CRC = 4  # bytes


class StoreError(Exception):
    """A store that cannot be made or trusted, as one line: what, where, what was expected, what to do."""


@dataclass(frozen=True)
class Layout:
    """How the rows of one array lie in its shards. codec: raw, lz4 (Blosc with byte shuffle) or zstd.

    dimension: what its rows are: "row", the store's own, or something else, of which every shard has `shard_rows`.
    """

    shape: tuple[int, ...]  # of one row
    dtype: str
    shard_rows: int
    chunk_rows: int
    codec: str
    dimension: str = "row"

    @cached_property
    def chunks(self) -> int:
        return self.shard_rows // self.chunk_rows

    @cached_property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def item(self) -> np.dtype:
        """A row as NumPy moves it fastest: one opaque item."""
        return np.dtype(f"V{self.row_bytes}")

    @cached_property
    def chunk_bytes(self) -> int:
        return self.chunk_rows * self.row_bytes

    @cached_property
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


def checksum(data: Any) -> bytes:
    """The crc32c of bytes or an array."""
    return crc32c(data).to_bytes(CRC, "little")


def as_items(rows: np.ndarray) -> np.ndarray:
    """The same rows, (R, *shape), as (R,) opaque items: NumPy moves items several times faster than numbers."""
    row_size = math.prod(rows.shape[1:])
    return rows.reshape(len(rows), row_size).view(f"V{row_size * rows.itemsize}")[:, 0]


def as_rows(items: np.ndarray, layout: Layout) -> np.ndarray:
    """(R,) opaque items of a layout as rows, (R, *shape)."""
    return items.view(layout.dtype).reshape(len(items), *layout.shape)


def encode_shard(rows: np.ndarray, layout: Layout) -> list[Any]:
    """A shard file as bytes-like parts; fewer rows than a shard's are padded with zeros."""
    if len(rows) < layout.shard_rows:
        padding = np.zeros((layout.shard_rows - len(rows), *layout.shape), layout.dtype)
        rows = np.concatenate([rows.astype(layout.dtype, copy=False), padding])
    chunks = np.ascontiguousarray(rows, layout.dtype).reshape(layout.chunks, -1).view(np.uint8)
    parts: list[Any] = []
    index, end = [], 0
    for chunk in chunks:
        data = chunk if layout.coder is None else bytes(layout.coder.encode(chunk.view(layout.dtype)))
        parts += [data, checksum(data)]
        index.append((end, len(data) + CRC))
        end += len(data) + CRC
    index_data = np.array(index, "<u8").tobytes()
    return [*parts, index_data, checksum(index_data)]


def allow_files() -> None:
    """Raise the limit of open files as far as the system lets this process: every mapped shard is one."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def regular_size(path: Path) -> int:
    """Bytes of a file. Raises ValueError for a pipe or a device, which would block its reader for ever."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    return status.st_size


class Shard:
    """One shard file, mapped into memory; refused if its index is not whole and sane.

    A chunk is checked when it is first touched, against its crc32c and the size that its frame states.
    """

    def __init__(self, path: Path, layout: Layout):
        self.path, self.layout = path, layout
        try:
            regular_size(path)
            with path.open("rb") as file:
                self.data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
        except (FileNotFoundError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise self.damaged(f"cannot be read ({error})") from None
        except OSError as error:
            too_many_open = error.errno in (errno.EMFILE, errno.ENFILE)  # each shard that is read is an open file
            remedy = ": raise `ulimit -n`, or prepare.shard_rows for fewer files" if too_many_open else ""
            raise StoreError(f"{path}: cannot be opened: {error.strerror}; the store itself may be whole{remedy}") from None
        if len(self.data) < layout.index_bytes:
            raise self.damaged("is shorter than its index")
        index_data = self.data[-layout.index_bytes : -CRC]
        if checksum(index_data) != self.data[-CRC:].tobytes():
            raise self.damaged("has an index that fails its checksum")
        self.index = np.frombuffer(index_data.tobytes(), "<u8").reshape(-1, 2).tolist()
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
        """Rows of a chunk, (chunk_rows, *shape), read-only."""
        return as_rows(self.items(number), self.layout)

    def items(self, number: int, out: np.ndarray | None = None) -> np.ndarray:
        """Rows of a chunk as opaque items, (chunk_rows,): a view of the mapped file if raw, else decoded.

        out: (chunk_bytes,) uint8, to decode into; else a new array.
        """
        data = self.stored(number)
        return (data if self.layout.coder is None else self.decoded(data, number, out)).view(self.layout.item)

    def stored(self, number: int) -> np.ndarray:
        """Bytes of a chunk as they are in the file; checked the first time, by their crc32c and the size their frame states."""
        offset, length = self.index[number]
        data = self.data[offset : offset + length - CRC]
        if not self.touched[number]:
            if checksum(data) != self.data[offset + length - CRC : offset + length].tobytes():
                raise self.damaged(f"has a chunk ({number}) that fails its checksum")
            self.check_frame(data, number)
            self.touched[number] = True
        return data

    def check_frame(self, data: np.ndarray, number: int) -> None:
        """Refuse compressed data that does not state the size of a chunk, before a decoder believes it: frames.py."""
        if self.layout.coder is None:
            return
        n_bytes = blosc_bytes(data) if self.layout.codec == "lz4" else zstd_bytes(data)
        if n_bytes != self.layout.chunk_bytes:
            raise self.damaged(f"has a chunk ({number}) whose frame says {n_bytes} bytes, expected {self.layout.chunk_bytes}")

    def decoded(self, data: np.ndarray, number: int, out: np.ndarray | None) -> np.ndarray:
        out = np.empty(self.layout.chunk_bytes, np.uint8) if out is None else out
        try:
            self.layout.coder.decode(data, out=out)
        except (RuntimeError, ValueError) as error:
            raise self.damaged(f"has a chunk ({number}) that does not decode ({error})") from None
        return out

    def damaged(self, what: str) -> StoreError:
        return StoreError(f"{self.path}: damaged: the shard {what}; restore the store from its remote, or make it again")
