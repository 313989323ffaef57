"""Which split a sample is in, by the hash of its content."""

import hashlib


def drawn(sample_id: bytes, val: float, test: float, seed: int) -> str:
    """train, val or test, in these shares; adding samples moves no others."""
    share = int.from_bytes(hashlib.sha256(b"%d " % seed + sample_id).digest()[:8], "little") / 2**64
    return "test" if share < test else "val" if share < test + val else "train"
