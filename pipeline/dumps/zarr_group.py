"""A Zarr group, of any Zarr client; a store of ours is one too."""

from pathlib import Path
from typing import Any, final

import numpy as np
import zarr

from pipeline.dumps.dump import Dump
from pipeline.shard import StoreError
from pipeline.store import open_store


@final
class ZarrGroup(Dump):
    """Arrays by their path in the group; "sample_id", and "view" if there are views."""

    def __init__(self, *, files: Path):
        self.files = files
        try:
            self.group = zarr.open_group(files, mode="r")
            self.arrays: dict[str, Any] = dict(self.group.members(max_depth=None))
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(f"{files}: not to be read as a Zarr group: {error}") from None
        self.arrays = {name: x for name, x in sorted(self.arrays.items()) if isinstance(x, zarr.Array)}
        if "sample_id" not in self.arrays:
            raise StoreError(f"{files}: no array sample_id, which names the rows")
        if "stillroom" in self.group.attrs:  # else a chunk that is missing is all zero, as Zarr has it
            open_store(files).verify()

    def names(self) -> list[str]:
        return list(self.arrays)

    def ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        view = self.arrays.get("view")
        return np.asarray(self.arrays["sample_id"][:]), None if view is None else np.asarray(view[:])

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        return tuple(self.arrays[name].shape), np.dtype(self.arrays[name].dtype)

    def read(self, name: str, rows: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(self.arrays[name].oindex[rows])
        except (RuntimeError, ValueError, OSError) as error:
            raise StoreError(f"{self.files}: array {name!r} is damaged: {error}") from None
