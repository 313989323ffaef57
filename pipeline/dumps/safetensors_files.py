"""Safetensors files: one, or a folder of them, each with its rows."""

from itertools import pairwise
from pathlib import Path
from typing import Any, final

import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.dumps.dump import NO_ROWS, Dump
from pipeline.stores.shard import StoreError

FLOATS = {"F64": "f8", "F32": "f4", "F16": "f2"}
WHOLE = {"U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8"}
DTYPES = FLOATS | WHOLE


@final
class SafetensorsFiles(Dump):
    """Every file holds the same arrays, for its own rows; "sample_id", and "view" if there are views."""

    def __init__(self, *, files: Path):
        self.files = files
        paths = sorted(files.glob("*.safetensors")) if files.is_dir() else [files]
        if not paths or not all(path.is_file() for path in paths):
            raise StoreError(f"{files}: no safetensors file here")
        self.parts = [opened(path) for path in paths]
        for path, part in zip(paths, self.parts, strict=True):
            if part.keys() != self.parts[0].keys() or "sample_id" not in part:
                raise StoreError(f"{path}: holds {', '.join(part)}, expected sample_id, and the same in all files")
        lengths = [{tuple(reader.get_shape()[:1]) for reader in part.values()} for part in self.parts]
        for path, file_lengths in zip(paths, lengths, strict=True):
            if len(file_lengths) > 1 or () in file_lengths:
                raise StoreError(f"{path}: its arrays differ in their number of rows, expected one per sample_id")
        row_counts = [count for ((count,),) in lengths]
        # an empty array cannot be sliced
        self.parts = [part for part, count in zip(self.parts, row_counts, strict=True) if count]
        if not self.parts:
            raise StoreError(f"{files}: {NO_ROWS}")
        self.ends = np.cumsum([0, *filter(None, row_counts)])

    def names(self) -> list[str]:
        return list(self.parts[0])

    def ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        ids, view = (self.whole(name) if name in self.parts[0] else None for name in ("sample_id", "view"))
        assert ids is not None
        return ids, view

    def whole(self, name: str) -> np.ndarray:
        self.shape(name)  # raises for a type that NumPy lacks
        return np.concatenate([part[name][:] for part in self.parts])

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        kinds = {part[name].get_dtype() for part in self.parts}
        shapes = {tuple(part[name].get_shape()[1:]) for part in self.parts}
        if len(kinds | shapes) != 2 or not kinds <= DTYPES.keys():
            raise StoreError(f"{self.files}: array {name!r} is {kinds} of rows {shapes}, expected one of {', '.join(DTYPES)}")
        return (sum(part[name].get_shape()[0] for part in self.parts), *shapes.pop()), np.dtype(DTYPES[kinds.pop()])

    def read(self, name: str, rows: np.ndarray) -> np.ndarray:
        blocks = []
        for part, (first, end) in zip(self.parts, pairwise(self.ends.tolist()), strict=True):
            part_rows = rows[(rows >= first) & (rows < end)] - first
            runs = np.split(part_rows, np.flatnonzero(np.diff(part_rows) > 1) + 1)  # one, which is empty, of no rows
            blocks += [part[name][int(run[0]) : int(run[-1]) + 1] for run in runs if len(run)]
        return np.concatenate(blocks)


def opened(path: Path) -> dict[str, Any]:
    """{array: reader of its slices}."""
    try:
        file = safe_open(path, framework="numpy")
        return {name: file.get_slice(name) for name in sorted(file.keys())}
    except (SafetensorError, OSError) as error:
        raise StoreError(f"{path}: cannot be read as safetensors: {error}") from None
