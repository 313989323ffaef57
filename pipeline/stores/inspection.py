"""What is in a store, and where two stores differ."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.stores.store import Store


def describe(store: Store) -> dict[str, Any]:
    """What a store is and what it holds, as JSON."""
    return {
        "path": str(store.path),
        "digest": store.digest,
        "format": store.attributes["format"],
        "rows": store.n_rows,
        "shard_rows": store.shard_rows,
        "bytes": sum((store.path / file).stat().st_size for file in store.attributes["files"]),
        "identity": store.identity,
        "fields": {name: describe_field(store, name) for name in store.fields},
    }


def describe_field(store: Store, name: str) -> dict[str, Any]:
    """Shape of a row, dtype and codec; bytes on disk, and as a share of the decoded rows'."""
    field, stored_bytes = store.fields[name], store.nbytes(name)
    return {
        "shape": [f"<={field.max_items}", *field.shape] if field.max_items else list(field.shape),
        "dtype": field.kind,
        "codec": "zstd" if field.max_items else field.codec,
        "chunk_rows": field.chunk_rows,
        "bytes": stored_bytes,
        "share_of_decoded": stored_bytes / (field.row_bytes * store.n_rows),
    }


def differences(a: Store, b: Store) -> Iterator[str]:
    """Where two stores differ, a line each: identity by key, rows, fields, values. No lines if they hold the same.

    Raises StoreError if they claim to be the same, but one is damaged.
    """
    if a.digest == b.digest:
        a.verify()
        b.verify()
        return
    left_identity, right_identity = flat(a.identity), flat(b.identity)
    for key in sorted(left_identity.keys() | right_identity.keys()):
        if left_identity.get(key) != right_identity.get(key):
            yield f"identity {key}: {left_identity.get(key, 'absent')} | {right_identity.get(key, 'absent')}"
    for attribute in ("n_rows", "shard_rows"):
        if getattr(a, attribute) != getattr(b, attribute):
            yield f"{attribute}: {getattr(a, attribute)} | {getattr(b, attribute)}"
    for name in sorted(a.fields.keys() ^ b.fields.keys()):
        yield f"field {name}: only in {(a if name in a.fields else b).path}"
    if a.ids != b.ids:
        yield "rows: not the same samples in the same order, so values are not compared"
        return
    for name in sorted(a.fields.keys() & b.fields.keys()):
        yield from field_differences(a, b, name)


def field_differences(a: Store, b: Store, name: str) -> Iterator[str]:
    left_field, right_field = a.fields[name], b.fields[name]
    for attribute in ("shape", "dtype", "codec", "max_items", "dims", "attributes"):
        if getattr(left_field, attribute) != getattr(right_field, attribute):
            yield f"field {name}: {attribute} {getattr(left_field, attribute)} | {getattr(right_field, attribute)}"
    if (left_field.shape, left_field.max_items) != (right_field.shape, right_field.max_items):
        return
    n_differing, max_distance = 0, 0.0
    for first in range(0, a.n_rows, a.shard_rows):
        rows = slice(first, min(first + a.shard_rows, a.n_rows))
        (left_values, left_lengths), (right_values, right_lengths) = (values(store, name, rows) for store in (a, b))
        shard_count, shard_distance = compare(left_values, right_values, left_lengths != right_lengths)
        n_differing, max_distance = n_differing + shard_count, max(max_distance, shard_distance)
    if n_differing:
        yield f"field {name}: {n_differing} of {a.n_rows} rows differ, by at most {max_distance:.4g}"


def values(store: Store, name: str, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    """Rows as (R, ...), and how many items each has, (R,); of a ragged field (R, most items, ...), padded."""
    if store.fields[name].max_items:
        return store.read_padded(name, rows)
    array = store.read(name, rows)
    return array, np.ones(len(array), np.int64)


def compare(left: np.ndarray, right: np.ndarray, lacking: np.ndarray) -> tuple[int, float]:
    """How many rows differ, and by how much at most: infinitely where one lacks items of the other (lacking, (R,))."""
    left, right = (array.reshape(len(array), -1) for array in (left, right))
    differs = left != right
    if left.dtype.kind == "f" and right.dtype.kind == "f":
        differs &= ~(np.isnan(left) & np.isnan(right))
    max_distance = np.nan_to_num(apart(left[differs], right[differs]), nan=np.inf).max(initial=0)
    return int((differs.any(1) | lacking).sum()), math.inf if lacking.any() else float(max_distance)


def apart(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Distances, float64; whole numbers are subtracted as such, since floats do not hold all of them beyond 2**53."""
    if left.dtype == right.dtype and left.dtype.kind in "iu":
        distance = np.maximum(left, right) - np.minimum(left, right)  # may wrap around, and is right if read as unsigned
        return distance.view(f"u{distance.itemsize}").astype(np.float64)
    return np.abs(left.astype(np.float64) - right.astype(np.float64))


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted key: leaf} of nested JSON objects."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        inner_key: leaf
        for key, item in value.items()
        for inner_key, leaf in flat(item, f"{prefix}.{key}" if prefix else str(key)).items()
    }
