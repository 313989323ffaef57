"""Files that exist whole or not at all, whatever happens."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(path: Path, *parts: Any) -> str:
    """Write bytes-like parts as one file; returns its SHA-256, in hex."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, running = path.with_name(path.name + ".tmp"), hashlib.sha256()
    with naming(path), draft.open("wb") as file:  # in this order: closing the file writes too
        for part in parts:
            file.write(part)
            running.update(part)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
    return running.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all, with sorted keys."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        draft = target.with_name(target.name + ".tmp")
        with source.open("rb") as whole, naming(target), draft.open("wb") as file:
            shutil.copyfileobj(whole, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Make an error in writing to a file name that file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def held(path: Path) -> int:
    """Lock a file and return its handle. The lock lasts until the handle is closed or the process ends, however it ends.

    Raises BlockingIOError if the file is locked already.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # a file system without locks: treat the file as free
            return handle
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # its last owner deleted it between open and lock: nobody else would find this file


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        sync_folder(Path(folder))
