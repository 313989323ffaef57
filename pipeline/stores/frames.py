"""How many bytes a compressed frame says it decodes to: read from its header before a decoder sees it.

A forger can make checksums and digests that fit. c-blosc believes a frame that claims to be longer than it is, and reads
memory beyond it; and a frame that decodes to less than a chunk leaves old memory in the rest of the buffer.
"""

import struct
from typing import Any

BLOSC = struct.Struct("<4xI4xI")  # bytes decoded, bytes of the whole frame
ZSTD = b"\x28\xb5\x2f\xfd"
ZSTD_HEADER = 18  # bytes at most


def blosc_bytes(data: Any) -> int:
    """What one Blosc frame says it decodes to; 0 if the data is not exactly one frame."""
    if len(data) < BLOSC.size:
        return 0
    decoded, length = BLOSC.unpack_from(data)
    return decoded if length == len(data) else 0


def zstd_bytes(data: Any) -> int:
    """What the first Zstandard frame (RFC 8878, 3.1.1.1) says it decodes to; 0 if it is not one, or does not say."""
    head = bytes(data[:ZSTD_HEADER])
    if head[:4] != ZSTD or len(head) == 4:
        return 0
    size, single_segment, dictionary = head[4] >> 6, head[4] >> 5 & 1, head[4] & 3
    width = (single_segment, 2, 4, 8)[size]
    first = 6 - single_segment + (0, 1, 2, 4)[dictionary]
    return int.from_bytes(head[first : first + width], "little") + 256 * (width == 2)
