"""A store's zarr.json, believed only if it matches its digest."""

import json
from pathlib import Path
from typing import Any

from pipeline.stores.layout import FORMAT, digest, group_metadata
from pipeline.stores.shard import StoreError, regular_size

LARGEST = 2**26  # bytes: some 400 000 files, more than a process can map


def read_root(path: Path) -> tuple[dict[str, Any], str]:
    """A store's attributes, and their digest. Raises StoreError."""
    try:
        root = json.loads(small_file(path / "zarr.json"))
    except FileNotFoundError:
        raise StoreError(f"{path}: no complete store here; run the stage that makes it, or `dvc pull` it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path}/zarr.json: cannot be read ({error}); restore the store or make it again") from None
    try:
        attributes = dict(root["attributes"]["stillroom"])
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"{path}: a Zarr group, but not a Stillroom store: its root has no `stillroom` attributes") from None
    if attributes.get("format") != FORMAT:
        raise StoreError(f"{path}: format {attributes.get('format')!r}, this stillroom reads {FORMAT}; use a newer stillroom")
    stated = attributes.pop("digest", None)
    try:
        intact = stated == digest(attributes) and root == group_metadata({"stillroom": {**attributes, "digest": stated}})
    except (ValueError, RecursionError):  # NaN, infinity, endless nesting: these have no digest
        intact = False
    if not intact:
        raise StoreError(
            f"{path}/zarr.json: damaged: its content does not match its digest; restore the store or make it again"
        )
    return attributes, stated


def small_file(path: Path) -> bytes:
    """Content of a metadata file. Raises OSError, or ValueError if it cannot be one."""
    size = regular_size(path)
    if size > LARGEST:
        raise ValueError(f"{size} bytes, expected at most {LARGEST}")
    return path.read_bytes()
