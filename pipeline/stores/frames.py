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
    decoded_bytes, frame_bytes = BLOSC.unpack_from(data)
    return decoded_bytes if frame_bytes == len(data) else 0


def zstd_bytes(data: Any) -> int:
    """What the first Zstandard frame (RFC 8878, 3.1.1.1) says it decodes to; 0 if it is not one, or does not say."""
    header = bytes(data[:ZSTD_HEADER])
    if header[:4] != ZSTD or len(header) == 4:
        return 0
    size_flag, single_segment, dictionary_flag = header[4] >> 6, header[4] >> 5 & 1, header[4] & 3
    width = (single_segment, 2, 4, 8)[size_flag]
    start = 6 - single_segment + (0, 1, 2, 4)[dictionary_flag]
    return int.from_bytes(header[start : start + width], "little") + 256 * (width == 2)
