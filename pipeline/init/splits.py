"""Which split a file belongs to, by its name, or by those of the folders it is in."""

from pathlib import Path

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}


def split_of(path: Path) -> str | None:
    words = [word.rstrip("0123456789") for word in path.stem.lower().replace("-", "_").split("_")]  # train2017
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def split_around(path: Path, data: Path) -> str | None:
    """The split of a file or folder, or else of the closest folder around it that is below the data."""
    paths = [path, *(parent for parent in path.parents if parent != data and parent.is_relative_to(data))]
    return next(filter(None, map(split_of, paths)), None)
