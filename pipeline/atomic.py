"""Files that exist whole or not at all, whatever happens."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def drafted(path: Path) -> Iterator[BinaryIO]:
    """A draft to write to, which takes the place of a file when the block ends well. An OSError in it names that file.

    The draft is locked: a second writer of the file waits, and then writes its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".tmp")
    try:
        with os.fdopen(locked(draft, wait=True), "wb") as file:  # inside `try`: closing the file writes too
            yield file
            file.flush()
            file.truncate()  # a killed writer may have left more
            os.fsync(file.fileno())
            os.replace(draft, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_whole(path: Path, *parts: Any) -> str:
    """Write bytes-like parts as one file; returns its SHA-256, in hex."""
    hasher = hashlib.sha256()
    with drafted(path) as file:
        for part in parts:
            file.write(part)
            hasher.update(part)
    return hasher.hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all, with sorted keys."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        with source.open("rb") as original, drafted(target) as copy:
            shutil.copyfileobj(original, copy)


def locked(path: Path, wait: bool = False) -> int:
    """Lock a file and return its handle. The lock lasts until the handle is closed or the process ends, however it ends.

    Raises BlockingIOError if the file is locked already, unless told to wait.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            raise
        except OSError:  # a file system without locks: treat the file as free
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(handle)):
                return handle
        os.close(handle)  # its last owner deleted or renamed it between open and lock: nobody else would find this file


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folders(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        sync_folder(Path(folder))
