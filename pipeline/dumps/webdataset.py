"""WebDataset shards: plain tar files, one sample after another."""

import io
import tarfile
from pathlib import Path
from typing import final

import numpy as np

from pipeline.dumps.dump import Dump
from pipeline.stores.shard import StoreError


@final
class WebDataset(Dump):
    """A .tar file or a folder of them, with members "<sample id in hex>.<array>.npy", for view v "<id>-<v>.<array>.npy"."""

    def __init__(self, *, files: Path):
        self.files = files
        paths = sorted(files.glob("*.tar")) if files.is_dir() else [files]
        if not paths or not all(path.is_file() for path in paths):
            raise StoreError(f"{files}: no .tar file here")
        self.members: dict[str, dict[str, tuple[Path, int, int]]] = {}  # {key: {array: where}}
        for path in paths:
            try:
                with tarfile.open(path, "r:") as tar:
                    self.add(path, tar)
            except (tarfile.TarError, OSError, EOFError) as error:
                raise StoreError(f"{path}: cannot be read as a tar file: {error}") from None
        self.keys = list(self.members)
        if not self.keys:
            raise StoreError(f"{files}: no member called <sample id in hex>.<array>.npy")

    def add(self, path: Path, tar: tarfile.TarFile) -> None:
        for member in tar:
            key, _, array = Path(member.name).name.partition(".")
            if member.isreg() and array.endswith(".npy"):
                location = path, member.offset_data, member.size
                if self.members.setdefault(key, {}).setdefault(array.removesuffix(".npy"), location) != location:
                    raise StoreError(f"{path}: {member.name} is there twice")

    def names(self) -> list[str]:
        return sorted(self.members[self.keys[0]])

    def ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        parts = [key.partition("-") for key in self.keys]
        bad_view = next((view for _, _, view in parts if view and not (view.isdecimal() and len(view) < 10)), None)
        if bad_view is not None:
            raise StoreError(f"{self.files}: view {bad_view!r} of a member is not a number of at most 9 digits")
        return np.array([sample for sample, _, _ in parts]), np.array([int(view or 0) for _, _, view in parts])

    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        lacking_key = next((key for key in self.keys if name not in self.members[key]), None)
        if lacking_key is not None:
            raise StoreError(f"{self.files}: sample {lacking_key} has no member {lacking_key}.{name}.npy")
        first = self.one(name, self.keys[0])
        return (len(self.keys), *first.shape), first.dtype

    def read(self, name: str, rows: np.ndarray) -> np.ndarray:
        first = self.one(name, self.keys[0])
        arrays = [self.one(name, self.keys[row]) for row in rows.tolist()]
        for row, array in zip(rows.tolist(), arrays, strict=True):
            if (array.shape, array.dtype.kind) != (first.shape, first.dtype.kind):
                raise StoreError(
                    f"{self.files}: array {name!r} of sample {self.keys[row]} is {array.dtype} of shape {array.shape}, "
                    f"expected {first.dtype} of shape {first.shape}, as for sample {self.keys[0]}"
                )
        return np.stack(arrays)

    def one(self, name: str, key: str) -> np.ndarray:
        path, offset, size = self.members[key][name]
        with path.open("rb") as file:
            file.seek(offset)
            content = io.BytesIO(file.read(size))
        try:
            return np.lib.format.read_array(content, allow_pickle=False)
        except (ValueError, MemoryError, OverflowError) as error:
            raise StoreError(f"{path}: {key}.{name}.npy cannot be read as an array without pickle: {error}") from None
