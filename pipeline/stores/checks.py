"""Refuse fields that no honest writer makes, before they become paths or arrays."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.stores.layout import CODECS, DTYPES, IDS, Field, arrays_of, padding_problem
from pipeline.stores.recipes import STORED
from pipeline.stores.shard import StoreError

LARGEST = 2**40  # elements of an array: more is an attack, not a store
LARGEST_CHUNK = 2**31 - 1  # bytes: a reader allocates a whole chunk
DEEPEST = 64  # levels of an identity, or of a field's attributes
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*")


def check_fields(fields: dict[str, Field], n_rows: int, shard_rows: int, where: str) -> None:
    """Refuse fields that no honest writer makes. Raises StoreError."""
    if not whole(n_rows, 1) or not whole(shard_rows, 1):
        raise StoreError(f"{where}: {n_rows} rows in shards of {shard_rows}: both must be at least 1")
    for name, f in fields.items():
        contains_another = any(other.startswith(name + "/") for other in fields)
        problem = "another field lies inside it" if contains_another else problem_of(name, f, n_rows, shard_rows)
        if problem:
            raise StoreError(f"{where}: field {name!r}: {problem}")


def problem_of(name: str, f: Field, n_rows: int, shard_rows: int) -> str | None:
    if not NAME.fullmatch(name):
        return "its name is not a relative path of plain names"
    if any(part == "zarr.json" or part.endswith(".tmp") for part in name.split("/")):
        return "its name clashes with a store's own files; expected no zarr.json and no .tmp in it"
    if f.dtype not in DTYPES:
        return f"dtype {f.dtype!r} is not one of {', '.join(DTYPES)}"
    if f.codec not in CODECS:
        return f"codec {f.codec!r} is not one of {', '.join(CODECS)}"
    if (f.dtype == "qint8" and not f.shape) or (f.dtype in STORED and f.max_items):
        return f"{f.dtype} is for fields of one array with channels"
    if not all(whole(size, 1) for size in f.shape) or not whole(f.max_items, 0):
        return f"shape {f.shape}, expected whole numbers above 0"
    if name in IDS and (f.dtype, f.shape, f.max_items, f.dims) != (IDS[name].dtype, IDS[name].shape, 0, 0):
        return f"{f.kind} of shape {f.shape}, expected {IDS[name].dtype} of shape {IDS[name].shape}, not ragged"
    if f.max_items and f.decoded.kind not in "if":
        return padding_problem(f.decoded)
    if not whole(f.dims, 0) or (f.dims and (f.max_items or not f.shape or f.dims >= f.shape[0] or not is_float(f))):
        return f"{f.dims} principal components need floats of one array with more channels than that"
    if not isinstance(f.attributes, dict) or not shallow(f.attributes, DEEPEST):
        return f"its attributes are not a JSON object of at most {DEEPEST} levels"
    if max(n_rows, shard_rows) * max(1, f.max_items) * int(np.prod(f.shape, dtype=object)) > LARGEST:
        return "it is absurdly large"
    if f.chunk_rows is not None and (not whole(f.chunk_rows, 1) or shard_rows % f.chunk_rows):
        return f"chunk_rows {f.chunk_rows} does not divide shards of {shard_rows} rows"
    layouts = arrays_of(name, replace(f, chunk_rows=f.chunk_rows or 1), shard_rows).values()
    chunk_bytes = max(layout.chunk_bytes for layout in layouts)
    if chunk_bytes > LARGEST_CHUNK:
        return f"a chunk of {chunk_bytes} bytes, expected at most {LARGEST_CHUNK}; give fewer chunk_rows or narrower rows"
    return None


def check_identity(identity: Any, where: str) -> None:
    """Refuse an identity that no honest writer makes. Raises StoreError."""
    if not isinstance(identity, dict) or not shallow(identity, DEEPEST):
        raise StoreError(f"{where}: its identity is not a JSON object of at most {DEEPEST} levels")


def shallow(value: Any, levels: int) -> bool:
    """Whether JSON is nested at most so many levels deep: code that prints or compares it recurses once per level."""
    children = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return levels >= 0 and all(shallow(child, levels - 1) for child in children)


def whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def is_float(f: Field) -> bool:
    return f.dtype in STORED or f.dtype.startswith("float")
