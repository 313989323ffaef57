"""A Zarr group, written by any client; a Stillroom store is one too."""

import math
import os
from pathlib import Path
from typing import Any, final

import numpy as np
import zarr

from pipeline.dumps.dump import Dump
from pipeline.stores.shard import StoreError
from pipeline.stores.store import open_store


@final
class ZarrGroup(Dump):
    """Arrays by their path in the group; "sample_id", and "view" if there are views."""

    def __init__(self, *, files: Path):
        self.files = files
        try:
            self.group = zarr.open_group(files, mode="r")
            self.arrays: dict[str, Any] = dict(self.group.members(max_depth=None))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreError(f"{files}: cannot be read as a Zarr group: {error}") from None
        self.arrays = {name: array for name, array in sorted(self.arrays.items()) if isinstance(array, zarr.Array)}
        if "sample_id" not in self.arrays:
            raise StoreError(f"{files}: no array sample_id, which identifies the rows")
        if "stillroom" in self.group.attrs:  # otherwise Zarr reads a missing chunk as zeros
            open_store(files).verify()

    def names(self) -> list[str]:
        return list(self.arrays)

    def ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.read("sample_id", slice(None)), self.read("view", slice(None)) if "view" in self.arrays else None

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        array, n_files = self.arrays[name], files_in(self.files / name)
        n_expected = math.prod(-(-n // c) for n, c in zip(array.shape, array.shards or array.chunks, strict=True))
        if n_files < n_expected:  # Zarr would also read files lost on the way as zeros
            raise StoreError(
                f"{self.files}: array {name!r} has {n_files} of its {n_expected} chunk files; copy the rest, or, if they are "
                f"all zeros, write them too (write_empty_chunks)"
            )
        return tuple(array.shape), np.dtype(array.dtype)

    def read(self, name: str, rows: np.ndarray | slice) -> np.ndarray:
        try:
            return np.asarray(self.arrays[name].oindex[rows])
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise StoreError(f"{self.files}: array {name!r} is damaged: {error}") from None


def files_in(array: Path) -> int:
    """The number of files of chunks, or of shards; metadata is `zarr.json`, or `.zarray` and its like."""
    return sum(name != "zarr.json" and name[0] != "." for _, _, names in os.walk(array) for name in names)
