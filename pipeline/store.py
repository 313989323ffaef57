"""Aligned rows on Zarr v3, published whole: create, open, read, link, verify. FORMAT.md says what is on disk.

A store is complete when its root `zarr.json` carries our attributes: that file is written last, and then the folder is
renamed into place. Until then work lies in `.scratch` beside it, keyed by everything that can change a byte, so that a
killed run goes on where it stopped and a changed one starts clean.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.layout import (
    FORMAT,
    IDS,
    Field,
    array_rows,
    arrays_of,
    check_fields,
    field_as_json,
    group_metadata,
    metadata_files,
    shard_file,
)
from pipeline.recipes import decoded_dtype, dequantize, from_bfloat16, quantize, to_bfloat16
from pipeline.shard import Shard, StoreError, encode_shard, scatter

Rows = slice | np.ndarray | None
Arrays = dict[str, Any]  # {field: (R, *shape)}, or for a ragged field a list of R arrays (n, *shape)


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_ids(sample_id: np.ndarray, view: np.ndarray) -> str:
    return hashlib.sha256(sample_id.astype("u1").tobytes() + view.astype("<i4").tobytes()).hexdigest()


def create_store(
    path: Path, sample_id: np.ndarray, view: np.ndarray, fields: dict[str, Field], *, identity: dict[str, Any], shard_rows: int
) -> "StoreWriter":
    """Begin a store, or go on with one of the same identity.

    sample_id: (N, 16) uint8; view: (N,) int32: row i of every aligned store is (sample_id[i], view[i]). identity: JSON of
    everything that can change a byte and is not in the other arguments. Raises StoreError.
    """
    if sample_id.shape != (len(view), 16):
        raise StoreError(f"{path}: sample ids of shape {sample_id.shape}, expected ({len(view)}, 16)")
    check_fields(fields, len(view), shard_rows, str(path))
    return StoreWriter(Path(path), sample_id.astype("u1"), view.astype("<i4"), fields, identity, shard_rows)


class StoreWriter:
    """A store in the making. A shard is finished when all of its files are whole, which a note beside them records."""

    def __init__(
        self,
        path: Path,
        sample_id: np.ndarray,
        view: np.ndarray,
        fields: dict[str, Field],
        identity: dict[str, Any],
        shard_rows: int,
    ):
        self.path, self.sample_id, self.view, self.shard_rows = path, sample_id, view, shard_rows
        self.fields = {name: f.sized(shard_rows) for name, f in {**IDS, **fields}.items()}
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
        self.scratch = folder / f"{path.name}-{digest(self.attributes)[:16]}"
        for stale in set(folder.glob(f"{path.name}-*")) - {self.scratch}:
            shutil.rmtree(stale)
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

    def link(self, store: "Store", names: list[str]) -> None:
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
            parts = stored_arrays(self.path, name, values, self.fields[name], rows)
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
        if self.path.exists():
            raise StoreError(f"{self.path}: exists already; remove it first")
        files = dict(self.linked)
        for shard in range(self.n_shards):
            files |= json.loads(self.note(shard).read_bytes())
        for file, content in metadata_files(self.fields, len(self.view), self.shard_rows).items():
            files[file] = write_whole(self.scratch / "store" / file, canonical(content))
        attributes = {**self.attributes, "files": files}
        attributes["digest"] = digest(attributes)
        sync_folders(self.scratch / "store")
        write_whole(self.scratch / "store" / "zarr.json", canonical(group_metadata({"stillroom": attributes})))
        os.replace(self.scratch / "store", self.path)
        sync_folder(self.path.parent)
        shutil.rmtree(self.scratch)
        return str(attributes["digest"])


def stored_arrays(path: Path, name: str, values: Any, f: Field, rows: slice) -> Arrays:
    """The arrays behind one shard of a field. Raises StoreError that names the field and the first row at fault."""
    if f.max_items:
        return ragged_arrays(path, name, values, f, rows.start)
    values = checked(path, name, values, f.shape, decoded_dtype(f.dtype), rows.stop - rows.start, rows.start)
    if f.dtype == "bfloat16":
        narrow = to_bfloat16(values)
        checked(path, name, from_bfloat16(narrow), f.shape, "float32", None, rows.start)
        return {name: narrow}
    if f.dtype == "qint8":
        stored, scale = quantize(values)
        return {f"{name}/values": stored, f"{name}/scale": scale[None]}
    return {name: values}


def checked(
    path: Path, name: str, values: np.ndarray, shape: tuple[int, ...], dtype: Any, rows: int | None, first_row: int
) -> np.ndarray:
    """Values as `dtype`, or a StoreError that names the field and the first row at fault."""
    values = np.asarray(values)
    if values.shape[1:] != shape or rows not in (None, len(values)):
        raise StoreError(f"{path}: field {name!r} got shape {values.shape}, expected {('?' if rows is None else rows, *shape)}")
    if not np.can_cast(values.dtype, dtype, "same_kind"):
        raise StoreError(f"{path}: field {name!r} got {values.dtype} values, stored as {dtype}: convert them first")
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    if np.issubdtype(stored.dtype, np.floating):
        bad = ~np.isfinite(stored)
        if bad.any():
            place = np.argwhere(bad)[0]
            value = values[tuple(place)]
            why = f"overflows {dtype}: store it as float32" if np.isfinite(value) else "is not finite"
            raise StoreError(f"{path}: field {name!r}, row {first_row + place[0]}: {value} {why}")
    return stored


def ragged_arrays(path: Path, name: str, rows: list[np.ndarray], f: Field, first_row: int) -> Arrays:
    """A ragged field's two arrays for one shard: values packed from where its range begins, and (begin, end) of each row."""
    lengths = np.array([len(row) for row in rows], np.int64)
    if lengths.max() > f.max_items:
        raise StoreError(f"field {name!r}, row {first_row + lengths.argmax()}: {lengths.max()} items, at most {f.max_items}")
    ends = first_row * f.max_items + np.cumsum(lengths)
    values = np.concatenate([np.asarray(row).reshape(-1, *f.shape) for row in rows])
    values = checked(path, f"{name}/values", values, f.shape, f.dtype, None, first_row)
    return {f"{name}/values": values, f"{name}/offsets": np.stack([ends - lengths, ends], 1)}


def write_whole(path: Path, *parts: Any) -> str:
    """Write bytes-like parts as a file that is there whole or not at all, whatever happens; returns its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, running = path.with_name(path.name + ".tmp"), hashlib.sha256()
    with draft.open("wb") as file:
        for part in parts:
            file.write(part)
            running.update(part)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    return running.hexdigest()


def link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        draft = target.with_name(target.name + ".tmp")
        shutil.copyfile(source, draft)
        os.replace(draft, target)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        sync_folder(Path(folder))


def open_store(path: Path) -> "Store":
    """Open a complete store. Raises StoreError for one that is incomplete, foreign, damaged or newer than this code."""
    path = Path(path)
    try:
        root = json.loads((path / "zarr.json").read_bytes())
    except FileNotFoundError:
        raise StoreError(f"{path}: no complete store here; run the stage that makes it, or `dvc pull` it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}/zarr.json: cannot be read ({error}); restore the store or make it again") from None
    try:
        attributes = dict(root["attributes"]["stillroom"])
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"{path}: a Zarr group, but no store of ours: its root has no `stillroom` attributes") from None
    if attributes.get("format") != FORMAT:
        raise StoreError(f"{path}: format {attributes.get('format')!r}, this stillroom reads {FORMAT}; use a newer stillroom")
    stated = attributes.pop("digest", None)
    if stated != digest(attributes) or root != group_metadata({"stillroom": {**attributes, "digest": stated}}):
        raise StoreError(
            f"{path}/zarr.json: damaged: its content does not match its digest; restore the store or make it again"
        )
    try:
        return Store(path, attributes, stated)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}/zarr.json: malformed ({error!r}); no stillroom writes this") from None


class Store:
    """A complete store, memory-mapped. Read only: published files may be links into a cache that others share."""

    def __init__(self, path: Path, attributes: dict[str, Any], stated_digest: str):
        self.path, self.attributes, self.digest = path, attributes, stated_digest
        self.identity: dict[str, Any] = attributes["identity"]
        self.ids: str = attributes["ids"]
        self.n_rows: int = attributes["n_rows"]
        self.shard_rows: int = attributes["shard_rows"]
        every = {name: Field(**{**f, "shape": tuple(f["shape"])}) for name, f in attributes["fields"].items()}
        check_fields(every, self.n_rows, self.shard_rows, str(path))
        self.fields = {name: f for name, f in every.items() if name not in IDS}
        self.layouts = {a: layout for name, f in every.items() for a, layout in arrays_of(name, f, self.shard_rows).items()}
        self.check_files(every)
        self.shards = {
            array: [Shard(path / shard_file(array, layout, s), layout) for s in range(self.n_shards)]
            for array, layout in self.layouts.items()
        }

    def check_files(self, fields: dict[str, Field]) -> None:
        """The files are those that the fields call for, and what describes them says what the root says."""
        metadata = metadata_files(fields, self.n_rows, self.shard_rows)
        shards = {shard_file(a, layout, s) for a, layout in self.layouts.items() for s in range(self.n_shards)}
        if self.attributes["files"].keys() != metadata.keys() | shards:
            raise StoreError(f"{self.path}/zarr.json: damaged: its list of files is not that of its fields")
        for file, content in metadata.items():
            try:
                same = (self.path / file).read_bytes() == canonical(content)
            except OSError:
                same = False
            if not same:
                raise StoreError(f"{self.path}/{file}: missing or damaged; restore the store from its remote, or make it again")

    @property
    def n_shards(self) -> int:
        return -(-self.n_rows // self.shard_rows)

    @cached_property
    def sample_id(self) -> np.ndarray:
        """(N, 16) uint8."""
        return self.read("sample_id")

    @cached_property
    def view(self) -> np.ndarray:
        """(N,) int32."""
        return self.read("view")

    def array(self, name: str) -> str:
        """The array that holds the values of a field that is not ragged; of an array, itself."""
        return f"{name}/values" if name in self.fields and self.fields[name].dtype == "qint8" else name

    def read(self, name: str, rows: Rows = None) -> np.ndarray:
        """Rows (all: None) of a field or array, (R, *shape), in the order asked for; every chunk in reach is decoded once."""
        layout = self.layouts[self.array(name)]
        length = array_rows(layout, self.n_rows, self.n_shards)
        if isinstance(rows, np.ndarray):
            return self.gather(name, np.arange(length)[rows])
        first, last, _ = (rows or slice(None)).indices(length)
        out, done = self.empty(name, max(0, last - first)), 0
        for piece in self.pieces(name, first, last):
            out[done : done + len(piece)] = piece
            done += len(piece)
        return out

    def empty(self, name: str, rows: int) -> np.ndarray:
        f, layout = self.fields.get(name), self.layouts[self.array(name)]
        return np.empty((rows, *layout.shape), decoded_dtype(f.dtype) if f else layout.dtype)

    def pieces(self, name: str, first: int, last: int) -> Iterator[np.ndarray]:
        """Rows [first, last), chunk by chunk; each (r, *shape), read-only, plain raw ones views of the mapped file."""
        array = self.array(name)
        layout = self.layouts[array]
        while first < last:
            shard, row = divmod(first, layout.shard_rows)
            number, row = divmod(row, layout.chunk_rows)
            piece = self.shards[array][shard].chunk(number)[row : row + last - first]
            yield self.decoded(name, shard, piece)
            first += len(piece)

    def gather(self, name: str, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Rows >= 0 in any order: from each mapped shard at once if raw, else from each chunk. out: (R, *shape), to fill."""
        array = self.array(name)
        layout, out, order = self.layouts[array], self.empty(name, len(rows)) if out is None else out, np.argsort(rows)
        ascending = rows[order]
        span = layout.shard_rows if layout.coder is None else layout.chunk_rows
        spans = np.unique(ascending // span)
        ends = np.searchsorted(ascending, (spans + 1) * span).tolist()
        for number, first, last in zip(spans.tolist(), [0, *ends], ends, strict=False):
            shard, row = divmod(number * span, layout.shard_rows)
            within, source = ascending[first:last] - number * span, self.shards[array][shard]
            stored = source.gather(within) if layout.coder is None else source.chunk(row // span)[within]
            scatter(self.decoded(name, shard, stored), order[first:last], out)
        return out

    def decoded(self, name: str, shard: int, stored: np.ndarray) -> np.ndarray:
        """Rows of one shard as values."""
        dtype = self.fields[name].dtype if name in self.fields else ""
        if dtype == "bfloat16":
            return from_bfloat16(stored)
        return dequantize(stored, self.shards[f"{name}/scale"][shard].chunk(0)[0]) if dtype == "qint8" else stored

    def read_ragged(self, name: str, rows: Rows = None) -> tuple[np.ndarray, np.ndarray]:
        """Items of rows (all: None), one row after another, (M, *shape), and how many each row has, (R,)."""
        begin, end = self.read(f"{name}/offsets", rows).T
        limit = array_rows(self.layouts[f"{name}/values"], self.n_rows, self.n_shards)
        if (begin > end).any() or (begin < 0).any() or (end > limit).any():
            raise StoreError(f"{self.path}: field {name!r}: damaged: row offsets outside its values")
        items = np.concatenate([np.arange(b, e) for b, e in zip(begin, end, strict=True)], dtype=np.int64, casting="unsafe")
        return self.read(f"{name}/values", items), end - begin

    def files_of(self, name: str) -> list[str]:
        """Paths of a field's files, relative to the store."""
        return [file for file in self.attributes["files"] if file.startswith(f"{name}/")]

    def nbytes(self, name: str) -> int:
        """Bytes of a field on disk."""
        return sum((self.path / file).stat().st_size for file in self.files_of(name))

    def verify(self) -> None:
        """Check every file against the digest that the root records. Raises StoreError naming the first that differs."""
        stated = self.attributes["files"]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for file, found in zip(stated, threads.map(lambda file: sha256(self.path / file), stated), strict=True):
                if found != stated[file]:
                    raise StoreError(
                        f"{self.path}/{file}: damaged: not the bytes that were published; restore it from a remote"
                    )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_aligned(*paths: Path) -> list[Store]:
    """Open stores whose row i is the same sample and view in all. Raises StoreError naming the first row that differs."""
    first, *others = stores = [open_store(path) for path in paths]
    for other in others:
        if other.ids != first.ids:
            short = min(first.n_rows, other.n_rows)
            same = (first.sample_id[:short] == other.sample_id[:short]).all(1) & (first.view[:short] == other.view[:short])
            row = int(np.argmin(same)) if not same.all() else short
            raise StoreError(f"{other.path}: row {row} is not the sample of {first.path}; make both from one transfer set")
        if other.shard_rows != first.shard_rows:
            raise StoreError(f"{other.path}: shards of {other.shard_rows} rows, {first.path} has {first.shard_rows}")
    return stores
