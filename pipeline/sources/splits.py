"""Which split a sample is in: as the name of its file says, or else the hash of what it is."""

import hashlib
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


def drawn(sample_id: bytes, val: float, test: float, seed: int) -> str:
    """train, val or test, in these shares: samples that are added move no others."""
    share = int.from_bytes(hashlib.sha256(b"%d " % seed + sample_id).digest()[:8], "little") / 2**64
    return "test" if share < test else "val" if share < test + val else "train"
