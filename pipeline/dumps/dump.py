"""Knowledge that somebody else wrote: the abstract dump, and how its rows are matched with ours."""

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from pipeline.project.class_spec import near
from pipeline.stores.shard import StoreError
from pipeline.stores.store import Store

ID_HELP = "give the ids of data/knowledge/transfer.zarr: uint8 (N, 16), or as 32 hex digits each"

NO_ROWS = "it has no rows; dump some"


class Dump(ABC):
    """Arrays whose rows i are of the same sample. A final class reads one format; files: as given in params."""

    files: Path

    @abstractmethod
    def names(self) -> list[str]:
        """Its arrays."""

    @abstractmethod
    def ids(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Sample ids, uint8 (N, 16) or hex (N,), and views (N,); None: all are view 0."""

    @abstractmethod
    def shape(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """The shape of one of its arrays, (N, ...), and its type."""

    @abstractmethod
    def read(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Rows, ascending, of one of its arrays: (R, ...)."""


def floats(dump: Dump, name: str, rows: np.ndarray) -> np.ndarray:
    """Rows in any order, float32 or narrower."""
    ascending, back = np.unique(rows, return_inverse=True)
    array = dump.read(name, ascending)[back]
    with np.errstate(over="ignore"):  # the writer reports what is infinite
        return array.astype("=f4" if array.dtype.itemsize > 4 else array.dtype.newbyteorder("="), copy=False)


def check_arrays(dump: Dump, outputs: dict[str, str]) -> None:
    """Refuse outputs that are not features or logits of the dump's rows. Raises StoreError that names the array."""
    ids, _ = dump.ids()
    if not ids.ndim:
        raise StoreError(f"{dump.files}: sample ids are a single value; {ID_HELP}")
    rows = len(ids)
    if not rows:
        raise StoreError(f"{dump.files}: {NO_ROWS}")
    for output, name in outputs.items():
        if name not in dump.names():
            array_names = ", ".join(dump.names())
            raise StoreError(f"{dump.files}: no array {name!r} for {output}{near(name, dump.names())}; there are {array_names}")
        shape, dtype = dump.shape(name)
        if dtype.kind != "f" or len(shape) < 2:
            raise StoreError(f"{dump.files}: array {name!r} is {dtype} of shape {shape}, expected floats (N, channels, *grid)")
        if shape[0] != rows:
            raise StoreError(f"{dump.files}: array {name!r} has {shape[0]} rows, but there are {rows} sample ids")


def keys_of(dump: Dump) -> dict[tuple[bytes, int], int]:
    """{(sample id, view): row}. Raises StoreError for ids that are malformed or repeated."""
    ids, view = dump.ids()
    if ids.dtype.kind in "US" and ids.ndim == 1:
        try:
            raw_ids = [bytes.fromhex(text.decode() if isinstance(text, bytes) else text) for text in ids.tolist()]
        except ValueError as error:
            raise StoreError(f"{dump.files}: a sample id is not a hex number ({error}); {ID_HELP}") from None
    elif ids.dtype == np.uint8 and ids.ndim == 2:
        raw_ids = [row.tobytes() for row in ids]
    else:
        raise StoreError(f"{dump.files}: sample ids are {ids.dtype} of shape {ids.shape}; {ID_HELP}")
    short_row = next((row for row, sample in enumerate(raw_ids) if len(sample) != 16), None)
    if short_row is not None:
        raise StoreError(f"{dump.files}: the sample id of row {short_row} has {len(raw_ids[short_row])} bytes; {ID_HELP}")
    if view is not None and (view.dtype.kind not in "iu" or view.shape != (len(raw_ids),)):
        raise StoreError(f"{dump.files}: views are {view.dtype} of shape {view.shape}, expected integers ({len(raw_ids)},)")
    keys: dict[tuple[bytes, int], int] = {}
    for row, key in enumerate(zip(raw_ids, [0] * len(raw_ids) if view is None else view.tolist(), strict=True)):
        if keys.setdefault(key, row) != row:
            raise StoreError(f"{dump.files}: rows {keys[key]} and {row} are both of {named(key)}")
    return keys


def places(keys: dict[tuple[bytes, int], int], store: Store) -> np.ndarray:
    """For each row of a store, the dump's row with the same key, (N,); -1: it has none."""
    store_keys = zip((row.tobytes() for row in store.sample_id), store.view.tolist(), strict=True)
    return np.array([keys.get(key, -1) for key in store_keys])


def check_complete(dump: Dump, dump_rows: np.ndarray, store: Store) -> None:
    """Refuse a dump that lacks rows of a store. Raises StoreError that names the first."""
    lacking_rows = np.flatnonzero(dump_rows < 0)
    if len(lacking_rows):
        key = store.sample_id[lacking_rows[0]].tobytes(), int(store.view[lacking_rows[0]])
        raise StoreError(
            f"{dump.files}: lacks {len(lacking_rows)} of the {store.n_rows} rows of {store.path}, the first of them row "
            f"{lacking_rows[0]}, {named(key)}; dump those inputs too"
        )


def named(key: tuple[bytes, int]) -> str:
    return f"sample {key[0].hex()}, view {key[1]}"
