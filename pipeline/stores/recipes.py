"""Compact storage of floats: bfloat16, int8 with a scale per shard and channel, coordinates in principal components.

Each is a pair of pure functions on the rows of one shard; FORMAT.md publishes how to decode them.
"""

from collections.abc import Sequence

import numpy as np

STORED = {"bfloat16": "uint16", "qint8": "int8"}  # the type of the array that holds a field of this type
ALIKE = 1000  # times a channel's range: with a larger offset float32 would not hold the steps
BLOCK = 64  # rows that are quantised at once
ROUNDING = {"float32": 2**-24, "float16": 2**-11, "bfloat16": 2**-8}  # half a unit in the last place, relative


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 of any shape -> its upper 16 bits, uint16, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(stored: np.ndarray) -> np.ndarray:
    """uint16 -> float32, exactly."""
    return np.left_shift(stored, 16, dtype=np.uint32).view(np.float32)


def quantize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R, D, *grid) float -> int8 of the same shape, and (2, D) float32: scale and zero point of every channel.

    Affine quantisation (1712.05877): value = (stored - zero point) * scale. 256 steps span the channel's values, and reach
    to 0 if these are nearly equal; a 0 within the span stays exactly 0. The error is at most half a step.
    """
    axes = (0, *range(2, values.ndim))
    low, high = values.min(axes).astype(np.float64), values.max(axes).astype(np.float64)
    nearly_equal = ALIKE * (high - low) < np.maximum(abs(low), abs(high))
    low, high = np.where(nearly_equal, np.minimum(low, 0), low), np.where(nearly_equal, np.maximum(high, 0), high)
    scale = ((high - low) / 255).astype(np.float32)
    step = np.where(scale > 0, scale, 1)
    zero_point = np.rint(-128 - low / step).astype(np.float32)
    stored = np.empty(values.shape, np.int8)
    for first in range(0, len(values), BLOCK):  # in blocks that stay in the processor's cache: three times as fast
        block = values[first : first + BLOCK] / channelwise(step, values.ndim)
        block += channelwise(zero_point, values.ndim)
        stored[first : first + BLOCK] = np.clip(np.rint(block, out=block), -128, 127, out=block)
    return stored, np.stack([scale, zero_point])


def dequantize(stored: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(R, D, *grid) int8 and (2, D) float32 -> (R, D, *grid) float32."""
    values = stored.astype(np.float32)
    values -= channelwise(scale[1], stored.ndim)
    values *= channelwise(scale[0], stored.ndim)
    return values


def principal_basis(batches: Sequence[np.ndarray], dims: int) -> np.ndarray:
    """(1 + dims, D) float32: the mean of batches (R, D, *grid) over rows and positions, then their leading components."""
    flat_batches = [np.moveaxis(batch, 1, -1).reshape(-1, batch.shape[1]) for batch in batches]
    mean = sum(x_PD.sum(0, dtype=np.float64) for x_PD in flat_batches) / sum(map(len, flat_batches))
    scatter = sum(centred.T @ centred for x_PD in flat_batches for centred in [x_PD - mean])
    _, vectors = np.linalg.eigh(scatter)
    components = vectors[:, ::-1][:, :dims].T
    # eigh leaves the sign of a component open: make its largest entry positive
    components = components * np.sign(np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1))
    return np.concatenate([mean[None], components]).astype(np.float32)


def project(values: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(R, D, *grid) -> coordinates (R, d, *grid) in a basis of (1 + d, D)."""
    return along_channels(values - channelwise(basis[0], values.ndim), basis[1:].T)


def expand(coordinates: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """(R, d, *grid) -> (R, D, *grid): the nearest to the projected values that the basis can express."""
    values = along_channels(coordinates, basis[1:])
    values += channelwise(basis[0], values.ndim)
    return values


def along_channels(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(R, D, *grid) times (D, d) -> (R, d, *grid), float32."""
    return np.ascontiguousarray(np.moveaxis(np.tensordot(values.astype(np.float32, copy=False), matrix, (1, 0)), -1, 1))


def channelwise(values: np.ndarray, ndim: int) -> np.ndarray:
    """(D,) -> (D, 1, ...), to meet (R, D, *grid)."""
    return values.reshape(-1, *[1] * (ndim - 2))
