"""Which split a file is of, by its name."""

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
    words = path.stem.lower().replace("-", "_").split("_")
    return next((SPLITS[word] for word in words if word in SPLITS), None)
