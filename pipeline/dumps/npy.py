"""A folder of .npy files."""

from pathlib import Path
from typing import final

import numpy as np

from pipeline.dumps.dump import Dump
from pipeline.stores.shard import StoreError


@final
class Npy(Dump):
    """One file per array; sample_id.npy, and view.npy if there are views."""

    def __init__(self, *, files: Path):
        self.files = files
        if not (files / "sample_id.npy").is_file():
            raise StoreError(f"{files}: no sample_id.npy, which identifies the rows; give a folder of .npy files that has it")
        self.arrays = {path.stem: opened(path) for path in sorted(files.glob("*.npy"))}

    def names(self) -> list[str]:
        return list(self.arrays)

    def ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.arrays["sample_id"], self.arrays.get("view")

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        return self.arrays[name].shape, self.arrays[name].dtype

    def read(self, name: str, rows: np.ndarray) -> np.ndarray:
        return self.arrays[name][rows]


def opened(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")  # np.load would also open an archive of arrays
    except (ValueError, OSError, OverflowError) as error:
        raise StoreError(f"{path}: cannot be read as an array without pickle: {error}") from None
