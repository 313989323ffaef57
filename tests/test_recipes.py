import numpy as np
import pytest
import torch

from pipeline.recipes import dequantize, from_bfloat16, quantize, to_bfloat16


def values(shape=(50, 6, 3, 2), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_bfloat16_rounds_as_torch_does():
    bits = np.random.default_rng(0).integers(0, 2**32, 10**6, dtype=np.uint32)
    x = bits.view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], np.float32([0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1e-45])])
    expected = torch.from_numpy(x).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(from_bfloat16(to_bfloat16(x)), expected)


@pytest.mark.parametrize("shape", [(50, 6, 3, 2), (50, 6), (1, 6, 7)])
def test_quantized_values_are_within_half_a_step_of_each_channel(shape):
    x = values(shape) * 10.0 ** np.arange(-3, 3).reshape(-1, *[1] * (len(shape) - 2)).astype(np.float32) + 0.3
    stored, scale = quantize(x)
    assert stored.dtype == np.int8 and stored.shape == x.shape and scale.shape == (2, 6)
    error = np.abs(dequantize(stored, scale) - x).max((0, *range(2, len(shape))))
    assert (error <= scale[0] * 0.5001).all()


@pytest.mark.parametrize("x", [np.maximum(values(), 0), -np.maximum(values(), 0), np.zeros((4, 6), np.float32)])
def test_zero_stays_exactly_zero(x):
    decoded = dequantize(*quantize(x))
    assert (decoded[x == 0] == 0).all()
    assert x.any() == decoded.any()


def test_one_loud_channel_costs_the_others_nothing():
    loud = values()
    loud[:, 2] *= 1e4
    np.testing.assert_array_equal(dequantize(*quantize(loud))[:, 3:], dequantize(*quantize(values()))[:, 3:])
