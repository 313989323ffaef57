"""Stores in the making: created, written by whole shards, published by rename.

A store is complete when its root `zarr.json` carries our attributes: that file is written last, and then the folder is
renamed into place. Until then work lies in `.scratch` beside it, keyed by everything that can change a byte, so that a
killed run goes on where it stopped and a changed one starts clean. One process at a time makes a store: it holds a lock
beside that scratch.
"""

import glob
import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.atomic import held, link_or_copy, sync_folder, sync_folders, write_whole
from pipeline.layout import (
    FORMAT,
    IDS,
    Field,
    arrays_of,
    canonical,
    check_fields,
    check_identity,
    digest,
    digest_ids,
    field_as_json,
    group_metadata,
    metadata_files,
    shard_file,
)
from pipeline.recipes import STORED, from_bfloat16, project, quantize, to_bfloat16
from pipeline.shard import StoreError, encode_shard
from pipeline.store import Store

Arrays = dict[str, Any]  # {field: (R, *shape)}, or for a ragged field a list of R arrays (n, *shape)
Bases = dict[str, np.ndarray]  # {field: (1 + dims, D)}: recipes.principal_basis
KEY = 16  # characters of it end the name of a scratch folder


class StoreWriter:
    """A store in the making, begun, or gone on with if it is of the same identity, made by the same code.

    A shard is finished when all of its files are whole, which a note beside them records.

    sample_id: (N, 16) uint8; view: (N,) int32: row i of every aligned store is (sample_id[i], view[i]). identity: JSON of
    everything that can change a byte and is not in the other arguments. bases: of fields with `dims`. code: a digest of what
    makes the rows; it is not in the store, which other code may make alike. Raises StoreError.
    """

    def __init__(
        self,
        path: Path,
        sample_id: np.ndarray,
        view: np.ndarray,
        fields: dict[str, Field],
        *,
        identity: dict[str, Any],
        shard_rows: int,
        bases: Bases | None = None,
        code: str = "",
    ):
        check_absent(path)
        if sample_id.shape != (len(view), 16):
            raise StoreError(f"{path}: sample ids of shape {sample_id.shape}, expected ({len(view)}, 16)")
        check_fields(fields, len(view), shard_rows, str(path))
        sample_id, view, bases = sample_id.astype("u1"), view.astype("<i4"), bases or {}
        self.bases = bases
        identity = json.loads(json.dumps(identity))  # as it will be read: numbers as keys sort as strings
        check_identity(identity, str(path))
        self.path, self.sample_id, self.view, self.shard_rows = path, sample_id, view, shard_rows
        self.fields = {name: f.sized(shard_rows) for name, f in {**IDS, **fields}.items()}
        if bases:
            identity["bases"] = {
                name: hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for name, x in bases.items()
            }
        self.attributes = {
            "format": FORMAT,
            "identity": identity,
            "n_rows": len(view),
            "shard_rows": shard_rows,
            "ids": digest_ids(sample_id, view),
            "fields": {name: field_as_json(f) for name, f in self.fields.items()},
        }
        self.linked: dict[str, str] = {}
        self.linked_fields: set[str] = set()
        folder = path.parent / ".scratch"
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = folder / f"{path.name}.lock"
        try:
            self.let_go = weakref.finalize(self, os.close, held(self.lock))
        except BlockingIOError:
            who = "another process, or another writer of this one,"
            raise StoreError(f"{path}: {who} is making it; wait until it is done, or stop it") from None
        check_absent(path)  # that process may just have been done
        self.scratch = folder / f"{path.name}-{digest([self.attributes, code])[:KEY]}"
        for stale in set(folder.glob(f"{glob.escape(path.name)}-{'[0-9a-f]' * KEY}")) - {self.scratch}:
            shutil.rmtree(stale)
        if not (self.scratch / "store").exists():  # killed after it was published: notes of shards that are elsewhere
            shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "notes").mkdir(parents=True, exist_ok=True)

    @property
    def n_shards(self) -> int:
        return -(-len(self.view) // self.shard_rows)

    @property
    def unfinished(self) -> list[int]:
        """Shards still to write."""
        return [shard for shard in range(self.n_shards) if not self.note(shard).exists()]

    def note(self, shard: int) -> Path:
        return self.scratch / "notes" / f"{shard}.json"

    def rows(self, shard: int) -> slice:
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, len(self.view)))

    def link(self, store: Store, names: list[str]) -> None:
        """Take fields over from an aligned store as they are: hard links, copies where linking fails."""
        if (store.ids, store.shard_rows) != (self.attributes["ids"], self.shard_rows):
            raise StoreError(f"{store.path}: its rows or shards are not those of {self.path}; make both from one transfer set")
        for name in names:
            if store.fields[name] != self.fields[name]:
                raise StoreError(f"{store.path}: field {name!r} is stored otherwise than {self.path} declares it")
            for file in store.files_of(name):
                link_or_copy(store.path / file, self.scratch / "store" / file)
                self.linked[file] = store.attributes["files"][file]
        self.linked_fields |= set(names)

    def write(self, shard: int, arrays: Arrays) -> None:
        """Write a whole shard of every field that is not linked. Raises StoreError on wrong, infinite or NaN values."""
        rows = self.rows(shard)
        arrays = {**arrays, "sample_id": self.sample_id[rows], "view": self.view[rows]}
        expected = self.fields.keys() - self.linked_fields
        if arrays.keys() != expected:
            raise StoreError(f"{self.path}: shard {shard} got fields {sorted(arrays)}, expected {sorted(expected)}")
        digests = {}
        for name, values in arrays.items():
            parts = stored_arrays(self.path, name, values, self.fields[name], rows, self.bases.get(name))
            for array, layout in arrays_of(name, self.fields[name], self.shard_rows).items():
                file = shard_file(array, layout, shard)
                digests[file] = write_whole(self.scratch / "store" / file, *encode_shard(parts[array], layout))
        write_whole(self.note(shard), canonical(digests))

    def write_rest(self, make: Callable[[slice], Arrays]) -> None:
        """Write every unfinished shard: `make(rows)` gives one while the one before it is encoded and written."""
        with ThreadPoolExecutor(1) as beside:
            writing = None
            for shard in self.unfinished:
                arrays = make(self.rows(shard))
                if writing:
                    writing.result()
                writing = beside.submit(self.write, shard, arrays)
            if writing:
                writing.result()

    def publish(self) -> str:
        """Put the finished store in its place and return its digest."""
        if self.unfinished:
            raise StoreError(f"{self.path}: shards {self.unfinished} are not written yet; write them before publishing")
        files = dict(self.linked)
        for shard in range(self.n_shards):
            files |= json.loads(self.note(shard).read_bytes())
        gone = next((file for file in files if not (self.scratch / "store" / file).is_file()), None)
        if gone:
            raise StoreError(f"{self.path}: {gone} is gone from {self.scratch}; remove that folder and run again")
        for file, content in metadata_files(self.fields, len(self.view), self.shard_rows).items():
            files[file] = write_whole(self.scratch / "store" / file, canonical(content))
        attributes = {**self.attributes, "files": files}
        attributes["digest"] = digest(attributes)
        sync_folders(self.scratch / "store")
        write_whole(self.scratch / "store" / "zarr.json", canonical(group_metadata({"stillroom": attributes})))
        os.replace(self.scratch / "store", self.path)
        sync_folder(self.path.parent)
        shutil.rmtree(self.scratch)
        self.lock.unlink(missing_ok=True)
        self.let_go()
        return str(attributes["digest"])


def check_absent(path: Path) -> None:
    if path.exists():
        raise StoreError(f"{path}: exists already; remove it first")


def stored_arrays(path: Path, name: str, values: Any, f: Field, rows: slice, basis: np.ndarray | None = None) -> Arrays:
    """The arrays behind one shard of a field. Raises StoreError that names the field and the first row at fault."""
    if f.max_items:
        return ragged_arrays(path, name, values, f, rows)
    values = checked(path, name, values, f.shape, f.decoded, range(rows.start, rows.stop))
    beside = {}
    if f.dims:
        if basis is None or basis.shape != f.beside["basis"]:
            raise StoreError(f"{path}: field {name!r} needs a basis of shape {f.beside['basis']}; give one to StoreWriter")
        values, beside["basis"] = project(values, basis), basis[None]
        if f.dtype not in STORED:
            values = checked(path, name, values, values.shape[1:], f.dtype, range(rows.start, rows.stop))
    if f.dtype == "bfloat16":
        narrow = to_bfloat16(values)
        checked(path, name, from_bfloat16(narrow), values.shape[1:], "float32", range(rows.start, rows.stop))
        values = narrow
    elif f.dtype == "qint8":
        values, scale = quantize(values)
        beside["scale"] = scale[None]
    return {f"{name}/values": values, **{f"{name}/{k}": x for k, x in beside.items()}} if beside else {name: values}


def checked(
    path: Path, name: str, values: np.ndarray, shape: tuple[int, ...], dtype: Any, rows: range | np.ndarray
) -> np.ndarray:
    """Values as `dtype`, or a StoreError that names the field and the first row at fault. rows: of the store, one a value."""
    values = np.asarray(values)
    if values.shape != (len(rows), *shape):
        raise StoreError(f"{path}: field {name!r} got shape {values.shape}, expected {(len(rows), *shape)}")
    if not np.can_cast(values.dtype, dtype, "same_kind"):
        raise StoreError(f"{path}: field {name!r} got {values.dtype} values, stored as {dtype}: convert them first")
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    if np.issubdtype(stored.dtype, np.floating):
        bad = ~np.isfinite(stored)
        if bad.any():
            place = np.argwhere(bad)[0]
            value = values[tuple(place)]
            why = f"overflows {dtype}: store it as bfloat16 or float32" if np.isfinite(value) else "is not finite"
            raise StoreError(f"{path}: field {name!r}, row {rows[place[0]]}: {value} {why}")
    elif not np.can_cast(values.dtype, stored.dtype) and (odd := stored != values).any():
        place = np.argwhere(odd)[0]
        raise StoreError(f"{path}: field {name!r}, row {rows[place[0]]}: {values[tuple(place)]} does not fit {dtype}")
    return stored


def ragged_arrays(path: Path, name: str, values: list[np.ndarray], f: Field, rows: slice) -> Arrays:
    """A ragged field's two arrays for one shard: values packed from where its range begins, and (begin, end) of each row."""
    if len(values) != rows.stop - rows.start:
        raise StoreError(f"{path}: field {name!r} got {len(values)} rows, expected {rows.stop - rows.start}")
    lengths = np.array([len(row) for row in values], np.int64)
    for row, (items, length) in enumerate(zip(values, lengths.tolist(), strict=True), rows.start):
        where = f"{path}: field {name!r}, row {row}"
        if length > f.max_items:
            raise StoreError(f"{where}: {length} items, at most {f.max_items}")
        if length and items.shape[1:] != f.shape:
            raise StoreError(f"{where}: items of shape {items.shape[1:]}, expected {f.shape}")
    ends = rows.start * f.max_items + np.cumsum(lengths)
    items = np.concatenate([row.reshape(-1, *f.shape) for row in values])
    row_of_each = np.repeat(np.arange(rows.start, rows.stop), lengths)
    items = checked(path, name, items, f.shape, f.dtype, row_of_each)
    return {f"{name}/values": items, f"{name}/offsets": np.stack([ends - lengths, ends], 1)}
