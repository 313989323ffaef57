"""Values of a field -> the arrays behind it, checked: errors name the field and the row that does not fit."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stores.layout import Field
from pipeline.stores.recipes import STORED, from_bfloat16, project, quantize, to_bfloat16
from pipeline.stores.shard import StoreError

Arrays = dict[str, Any]  # {field: (R, *shape)}, or for a ragged field a list of R arrays (n, *shape)


def stored_arrays(path: Path, name: str, values: Any, f: Field, rows: slice, basis: np.ndarray | None = None) -> Arrays:
    """The arrays behind one shard of a field. Raises StoreError that names the field and the first row at fault."""
    if f.max_items:
        return ragged_arrays(path, name, values, f, rows)
    values = checked(path, name, values, f.shape, f.decoded, range(rows.start, rows.stop))
    extra = {}
    if f.dims:
        if basis is None or basis.shape != f.beside["basis"]:
            raise StoreError(f"{path}: field {name!r} needs a basis of shape {f.beside['basis']}; give one to StoreWriter")
        values, extra["basis"] = project(values, basis), basis[None]
        if f.dtype not in STORED:
            values = checked(path, name, values, values.shape[1:], f.dtype, range(rows.start, rows.stop))
    if f.dtype == "bfloat16":
        bits = to_bfloat16(values)
        checked(path, name, from_bfloat16(bits), values.shape[1:], "float32", range(rows.start, rows.stop))
        values = bits
    elif f.dtype == "qint8":
        values, scale = quantize(values)
        extra["scale"] = scale[None]
    return {f"{name}/values": values, **{f"{name}/{key}": array for key, array in extra.items()}} if extra else {name: values}


def checked(
    path: Path, name: str, values: np.ndarray, shape: tuple[int, ...], dtype: Any, rows: range | np.ndarray
) -> np.ndarray:
    """Values as `dtype`, or a StoreError that names the field and the first row at fault. rows: each value's, in the store."""
    values = np.asarray(values)
    if values.shape != (len(rows), *shape):
        raise StoreError(f"{path}: field {name!r} has shape {values.shape}, expected {(len(rows), *shape)}")
    if not np.can_cast(values.dtype, dtype, "same_kind"):
        raise StoreError(f"{path}: field {name!r} has {values.dtype} values, to be stored as {dtype}: convert them first")
    with np.errstate(over="ignore"):
        stored = values.astype(dtype, copy=False)
    if np.issubdtype(stored.dtype, np.floating):
        not_finite = ~np.isfinite(stored)
        if not_finite.any():
            index = np.argwhere(not_finite)[0]
            value = values[tuple(index)]
            reason = f"overflows {dtype}: store it as bfloat16 or float32" if np.isfinite(value) else "is not finite"
            raise StoreError(f"{path}: field {name!r}, row {rows[index[0]]}: {value} {reason}")
    elif not np.can_cast(values.dtype, stored.dtype) and (changed := stored != values).any():
        index = np.argwhere(changed)[0]
        raise StoreError(f"{path}: field {name!r}, row {rows[index[0]]}: {values[tuple(index)]} does not fit {dtype}")
    return stored


def ragged_arrays(path: Path, name: str, values: list[np.ndarray], f: Field, rows: slice) -> Arrays:
    """A ragged field's two arrays for one shard: values packed from where its range begins, and (begin, end) of each row."""
    if len(values) != rows.stop - rows.start:
        raise StoreError(f"{path}: field {name!r} has {len(values)} rows, expected {rows.stop - rows.start}")
    lengths = np.array([len(items) for items in values], np.int64)
    for row, (items, length) in enumerate(zip(values, lengths.tolist(), strict=True), rows.start):
        where = f"{path}: field {name!r}, row {row}"
        if length > f.max_items:
            raise StoreError(f"{where}: {length} items, expected at most {f.max_items}")
        if length and items.shape[1:] != f.shape:
            raise StoreError(f"{where}: items of shape {items.shape[1:]}, expected {f.shape}")
    ends = rows.start * f.max_items + np.cumsum(lengths)
    items = np.concatenate([row_items.reshape(-1, *f.shape) for row_items in values])
    row_indices = np.repeat(np.arange(rows.start, rows.stop), lengths)
    items = checked(path, name, items, f.shape, f.dtype, row_indices)
    return {f"{name}/values": items, f"{name}/offsets": np.stack([ends - lengths, ends], 1)}
