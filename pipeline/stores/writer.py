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

from pipeline.atomic import link_or_copy, locked, sync_folder, sync_folders, write_whole
from pipeline.stores.checks import check_fields, check_identity
from pipeline.stores.encoding import Arrays, stored_arrays
from pipeline.stores.layout import (
    FORMAT,
    IDS,
    Field,
    arrays_of,
    canonical,
    digest,
    digest_ids,
    field_as_json,
    group_metadata,
    metadata_files,
    shard_file,
)
from pipeline.stores.shard import StoreError, encode_shard
from pipeline.stores.store import Store

Bases = dict[str, np.ndarray]  # {field: (1 + dims, D)}: recipes.principal_basis
KEY = 16  # characters of that key, which end the name of a scratch folder


class StoreWriter:
    """A store in the making: begun, or continued if its identity and the code that makes it are the same.

    A shard is finished when all of its files are whole, which a note beside them records.

    sample_id: (N, 16) uint8; view: (N,) int32: row i of every aligned store is (sample_id[i], view[i]). identity: JSON of
    everything that can change a byte and is not in the other arguments. bases: of fields with `dims`. code: a digest of the
    code that makes the rows; not kept in the store, since other code may make the same store. Raises StoreError.
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
        sample_id, view, self.bases = sample_id.astype("u1"), view.astype("<i4"), bases or {}
        identity = json.loads(json.dumps(identity))  # as it will be read: numbers as keys sort as strings
        check_identity(identity, str(path))
        self.path, self.sample_id, self.view, self.shard_rows = path, sample_id, view, shard_rows
        self.fields = {name: f.sized(shard_rows) for name, f in {**IDS, **fields}.items()}
        if self.bases:
            identity["bases"] = {
                name: hashlib.sha256(np.ascontiguousarray(basis).tobytes()).hexdigest() for name, basis in self.bases.items()
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
            self.let_go = weakref.finalize(self, os.close, locked(self.lock))
        except BlockingIOError:
            holder = "another process, or another writer of this one,"
            raise StoreError(f"{path}: {holder} is making it; wait until it is done, or stop it") from None
        check_absent(path)  # that process may just have finished
        self.scratch = folder / f"{path.name}-{digest([self.attributes, code])[:KEY]}"
        for stale in set(folder.glob(f"{glob.escape(path.name)}-{'[0-9a-f]' * KEY}")) - {self.scratch}:
            shutil.rmtree(stale)
        if not (self.scratch / "store").exists():  # killed just after publishing: what is left are notes of moved shards
            shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / "notes").mkdir(parents=True, exist_ok=True)

    @property
    def n_shards(self) -> int:
        return -(-len(self.view) // self.shard_rows)

    @property
    def unfinished(self) -> list[int]:
        """Shards still to write."""
        return [shard for shard in range(self.n_shards) if not self.note(shard).exists()]

    @property
    def rows_left(self) -> int:
        """Rows of these shards."""
        return sum(rows.stop - rows.start for rows in map(self.rows, self.unfinished))

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
                raise StoreError(f"{store.path}: field {name!r} is not stored as {self.path} declares it")
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
            raise StoreError(f"{self.path}: shard {shard} was given fields {sorted(arrays)}, expected {sorted(expected)}")
        digests = {}
        for name, values in arrays.items():
            stored = stored_arrays(self.path, name, values, self.fields[name], rows, self.bases.get(name))
            for array, layout in arrays_of(name, self.fields[name], self.shard_rows).items():
                file = shard_file(array, layout, shard)
                digests[file] = write_whole(self.scratch / "store" / file, *encode_shard(stored[array], layout))
        write_whole(self.note(shard), canonical(digests))

    def write_rest(self, make: Callable[[slice], Arrays]) -> None:
        """Write every unfinished shard: `make(rows)` computes one while the one before it is encoded and written."""
        with ThreadPoolExecutor(1) as thread:
            pending = None
            for shard in self.unfinished:
                arrays = make(self.rows(shard))
                if pending:
                    pending.result()
                pending = thread.submit(self.write, shard, arrays)
            if pending:
                pending.result()

    def publish(self) -> str:
        """Put the finished store in its place and return its digest."""
        if self.unfinished:
            raise StoreError(f"{self.path}: shards {self.unfinished} are not written yet; write them before publishing")
        digests = dict(self.linked)
        for shard in range(self.n_shards):
            digests |= json.loads(self.note(shard).read_bytes())
        missing = next((file for file in digests if not (self.scratch / "store" / file).is_file()), None)
        if missing:
            raise StoreError(f"{self.path}: {missing} is gone from {self.scratch}; remove that folder and run again")
        for file, content in metadata_files(self.fields, len(self.view), self.shard_rows).items():
            digests[file] = write_whole(self.scratch / "store" / file, canonical(content))
        attributes = {**self.attributes, "files": digests}
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
