"""Aligned rows on Zarr v3, published whole: open, read, verify. FORMAT.md says what is on disk, writer.py writes it."""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stores.checks import check_fields, check_identity
from pipeline.stores.layout import (
    IDS,
    Field,
    array_rows,
    arrays_of,
    canonical,
    metadata_files,
    shard_file,
)
from pipeline.stores.mapped import MappedArray
from pipeline.stores.recipes import dequantize, expand, from_bfloat16
from pipeline.stores.root import read_root, small_file
from pipeline.stores.shard import Shard, StoreError, allow_files, as_items, as_rows

Selection = slice | np.ndarray | None
PAGE = 4096  # bytes


def open_store(path: Path) -> "Store":
    """Open a complete store. Raises StoreError for one that is incomplete, foreign, damaged or newer than this code."""
    path = Path(path)
    attributes, stated_digest = read_root(path)
    try:
        return Store(path, attributes, stated_digest)
    except (KeyError, TypeError, AttributeError, AssertionError) as error:
        raise StoreError(f"{path}/zarr.json: malformed ({error!r}); Stillroom did not write this") from None


class Store:
    """A complete store, memory-mapped. Read only: published files may be links into a cache that others share."""

    def __init__(self, path: Path, attributes: dict[str, Any], stated_digest: str):
        allow_files()
        self.path, self.attributes, self.digest = path, attributes, stated_digest
        self.identity: dict[str, Any] = attributes["identity"]
        check_identity(self.identity, f"{path}/zarr.json")
        self.ids: str = attributes["ids"]
        self.n_rows: int = attributes["n_rows"]
        self.shard_rows: int = attributes["shard_rows"]
        fields = {name: Field(**{**spec, "shape": tuple(spec["shape"])}) for name, spec in attributes["fields"].items()}
        check_fields(fields, self.n_rows, self.shard_rows, str(path))
        if missing := sorted(IDS.keys() - fields.keys()):
            raise StoreError(f"{path}/zarr.json: damaged: no field {missing[0]!r}, which every store has")
        self.fields = {name: f for name, f in fields.items() if name not in IDS}
        self.layouts = {a: layout for name, f in fields.items() for a, layout in arrays_of(name, f, self.shard_rows).items()}
        self.check_files(fields)
        self.shards = {
            array: [Shard(path / shard_file(array, layout, shard), layout) for shard in range(self.n_shards)]
            for array, layout in self.layouts.items()
        }
        self.mapped = {array: MappedArray(self.shards[array]) for array, layout in self.layouts.items() if layout.coder is None}

    def check_files(self, fields: dict[str, Field]) -> None:
        """Check that the files are those that the fields call for, and that their metadata agrees with the root."""
        metadata = metadata_files(fields, self.n_rows, self.shard_rows)
        files = self.attributes["files"]
        n_files = len(metadata) + self.n_shards * len(self.layouts)  # before as many names are made as a root claims
        if len(files) != n_files or files.keys() != metadata.keys() | self.shard_files:
            raise StoreError(f"{self.path}/zarr.json: damaged: its list of files does not fit its fields")
        for file, content in metadata.items():
            try:
                intact = small_file(self.path / file) == canonical(content)
            except (OSError, ValueError):
                intact = False
            if not intact:
                raise StoreError(f"{self.path}/{file}: missing or damaged; restore the store from its remote, or make it again")

    @property
    def n_shards(self) -> int:
        return -(-self.n_rows // self.shard_rows)

    @property
    def shard_files(self) -> set[str]:
        return {shard_file(array, layout, shard) for array, layout in self.layouts.items() for shard in range(self.n_shards)}

    @cached_property
    def sample_id(self) -> np.ndarray:
        """(N, 16) uint8."""
        return self.read("sample_id")

    @cached_property
    def view(self) -> np.ndarray:
        """(N,) int32."""
        return self.read("view")

    def array(self, name: str) -> str:
        """The array that holds the values of a field that is not ragged; for an array, itself."""
        return f"{name}/values" if name in self.fields and self.fields[name].beside else name

    def plain(self, name: str) -> bool:
        """Whether rows of a field or array are stored as they are read."""
        return name not in self.fields or self.fields[name].plain

    def read(self, name: str, rows: Selection = None) -> np.ndarray:
        """Rows (all: None) of a field or array, (R, *shape), in the order asked for; each chunk they lie in is decoded once."""
        layout = self.layouts[self.array(name)]
        length = array_rows(layout, self.n_rows, self.n_shards)
        if isinstance(rows, np.ndarray):
            return self.gather(name, np.arange(length)[rows])
        first, last, step = (rows or slice(None)).indices(length)
        if step != 1:
            raise ValueError(f"rows {rows}: a slice here has no step; give an array of rows")
        out, n_filled = self.empty(name, max(0, last - first)), 0
        items = as_items(out)
        for piece in self.pieces(name, [slice(first, last)]):
            items[n_filled : n_filled + len(piece)] = piece
            n_filled += len(piece)
        return out

    def empty(self, name: str, n_rows: int) -> np.ndarray:
        """An uninitialised array for rows of a field, ragged ones padded, or of an array.

        It starts in the middle of a page: what is copied to it often starts near the start of one, and some processors
        take twice as long to copy between the same offsets of two pages.
        """
        spec = self.fields.get(name) or self.layouts[name]
        shape = spec.padded if isinstance(spec, Field) else spec.shape
        dtype = spec.decoded if isinstance(spec, Field) else np.dtype(spec.dtype)
        n_bytes = n_rows * math.prod(shape) * dtype.itemsize
        buffer = np.empty(n_bytes + PAGE, np.uint8)
        start = (PAGE // 2 - buffer.ctypes.data) % PAGE
        return buffer[start : start + n_bytes].view(dtype).reshape(n_rows, *shape)

    def pieces(self, name: str, blocks: Iterable[slice]) -> Iterator[np.ndarray]:
        """Rows of these blocks, one after another, chunk by chunk, as opaque items: (r,), valid until the next piece."""
        array = self.array(name)
        layout, shards = self.layouts[array], self.shards[array]
        buffer = None if layout.coder is None else np.empty(layout.chunk_bytes, np.uint8)
        for block in blocks:
            first = block.start
            while first < block.stop:
                shard, row = divmod(first, layout.shard_rows)
                chunk, row = divmod(row, layout.chunk_rows)
                piece = shards[shard].items(chunk, buffer)[row : row + block.stop - first]
                yield piece if self.plain(name) else as_items(self.decoded(name, shard, as_rows(piece, layout)))
                first += len(piece)

    def gather(self, name: str, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows >= 0 in any order: of all shards at once if raw, else chunk by chunk. out: (R, *shape), to fill."""
        array = self.array(name)
        layout, out = self.layouts[array], self.empty(name, len(rows)) if out is None else out
        if layout.coder is None and self.plain(name):
            self.mapped[array].gather(rows, out)
            return out
        order = np.argsort(rows)
        ascending = rows[order]
        span_rows = layout.shard_rows if layout.coder is None else layout.chunk_rows
        span_numbers = np.unique(ascending // span_rows)
        ends = np.searchsorted(ascending, (span_numbers + 1) * span_rows).tolist()
        for span, first, last in zip(span_numbers.tolist(), [0, *ends], ends, strict=False):
            shard, row = divmod(span * span_rows, layout.shard_rows)
            if layout.coder is None:
                stored_rows = np.empty((last - first, *layout.shape), layout.dtype)
                self.mapped[array].gather(ascending[first:last], stored_rows)
            else:
                stored_rows = self.shards[array][shard].chunk(row // span_rows)[ascending[first:last] - span * span_rows]
            as_items(out)[order[first:last]] = as_items(self.decoded(name, shard, stored_rows))
        return out

    def decoded(self, name: str, shard: int, values: np.ndarray) -> np.ndarray:
        """Rows of one shard as values."""
        if name not in self.fields:
            return values
        f = self.fields[name]
        if f.dtype == "bfloat16":
            values = from_bfloat16(values)
        elif f.dtype == "qint8":
            values = dequantize(values, self.beside(name, "scale", shard))
        return expand(values, self.beside(name, "basis", shard)) if f.dims else values

    def beside(self, name: str, what: str, shard: int) -> np.ndarray:
        """What is needed to decode a shard's rows: "scale" (2, channels), or "basis" (1 + dims, D)."""
        return self.shards[f"{name}/{what}"][shard].chunk(0)[0]

    def read_ragged(self, name: str, rows: Selection = None) -> tuple[np.ndarray, np.ndarray]:
        """Items of rows (all: None), one row after another, (M, *shape), and how many each row has, (R,)."""
        begins, ends = self.read(f"{name}/offsets", rows).T
        n_values = array_rows(self.layouts[f"{name}/values"], self.n_rows, self.n_shards)
        if (begins > ends).any() or (begins < 0).any() or (ends > n_values).any():
            raise StoreError(f"{self.path}: field {name!r}: damaged: row offsets outside its values")
        lengths, limit = ends - begins, self.fields[name].max_items
        if (lengths > limit).any():
            raise StoreError(f"{self.path}: field {name!r}: damaged: a row of {lengths.max()} items, expected at most {limit}")
        item_indices = np.arange(lengths.sum()) + np.repeat(begins - (lengths.cumsum() - lengths), lengths)
        return self.read(f"{name}/values", item_indices), lengths

    def read_padded(self, name: str, rows: Selection = None) -> tuple[np.ndarray, np.ndarray]:
        """As `read_ragged`, but items by row, padded with -1: (R, max_items, *shape)."""
        items, lengths = self.read_ragged(name, rows)
        out = np.full((len(lengths), self.fields[name].max_items, *items.shape[1:]), -1, items.dtype)
        out[np.arange(out.shape[1]) < lengths[:, None]] = items
        return out, lengths

    def files_of(self, name: str) -> list[str]:
        """Paths of a field's files, relative to the store."""
        return [file for file in self.attributes["files"] if file.startswith(f"{name}/")]

    def nbytes(self, name: str) -> int:
        """Bytes of a field on disk."""
        return sum((self.path / file).stat().st_size for file in self.files_of(name))

    def verify(self) -> None:
        """Check every file against the digest that the root records, and the rows' ids against theirs. Raises StoreError."""
        digests = self.attributes["files"]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for file, actual_digest in zip(digests, threads.map(lambda file: sha256(self.path / file), digests), strict=True):
                if actual_digest != digests[file]:
                    raise StoreError(
                        f"{self.path}/{file}: damaged: not the bytes that were published; restore it from a remote"
                    )
        hasher = hashlib.sha256()  # as digest_ids, without all ids in memory
        for name in IDS:
            for first in range(0, self.n_rows, self.shard_rows):
                hasher.update(self.read(name, slice(first, first + self.shard_rows)).data)
        if self.ids != hasher.hexdigest():
            raise StoreError(f"{self.path}/zarr.json: damaged: its ids are not those of its rows; restore it from a remote")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_aligned(*paths: Path) -> list[Store]:
    """Open stores whose row i is the same sample and view in all. Raises StoreError naming the first row that differs."""
    first, *others = stores = [open_store(path) for path in paths]
    for other in others:
        if other.ids != first.ids:
            n_rows = min(first.n_rows, other.n_rows)
            equal = (first.sample_id[:n_rows] == other.sample_id[:n_rows]).all(1) & (first.view[:n_rows] == other.view[:n_rows])
            row = int(np.argmin(equal)) if not equal.all() else n_rows
            raise StoreError(f"{other.path}: row {row} is not the sample of {first.path}; make both from one transfer set")
        if other.shard_rows != first.shard_rows:
            raise StoreError(f"{other.path}: shards of {other.shard_rows} rows, {first.path} has {first.shard_rows}")
    return stores
