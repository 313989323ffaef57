"""Stores whose every byte was checked on this machine: a check is paid once, until a file changes."""

import contextlib
from pathlib import Path

from platformdirs import user_cache_path

from pipeline.atomic import write_json
from pipeline.stores.layout import digest
from pipeline.stores.store import Store, open_store


def open_verified(path: Path) -> Store:
    """Open a store whose every byte is known to be whole on this machine. Raises StoreError."""
    store = open_store(path)
    ensure_verified(store)
    return store


def ensure_verified(store: Store) -> None:
    """Check a store's digests, unless these very files were checked before. Raises StoreError.

    What was checked is remembered in a cache folder, by store digest and every file's inode, size and time
    of modification. Uncompressed data needs this: a shard swapped for another of the same array has checksums that fit.
    """
    note = remembered(store)
    if not note.exists():
        store.verify()
        with contextlib.suppress(OSError):  # another process notes the same; or it cannot be noted, and is checked each time
            write_json(note, {"store": store.digest})


def remembered(store: Store) -> Path:
    """Where the check of these files would be noted."""
    stats = {file: (store.path / file).stat() for file in store.attributes["files"]}
    stamps = {file: [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns] for file, stat in stats.items()}
    return user_cache_path("stillroom") / "verified" / f"{digest([store.digest, stamps])}.json"
