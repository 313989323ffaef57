"""Every random seed, derived from the one in params."""

import hashlib

import numpy as np


def derive_seed(seed: int, *path: str | int) -> int:
    """A seed in [0, 2^63) for one use, e.g. `derive_seed(seed, "teacher", name)`: independent of every other path's."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers for one part of made-up data, independent of the size of the other parts."""
    return np.random.default_rng([seed, *name.encode()])
