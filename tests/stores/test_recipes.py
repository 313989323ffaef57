import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pipeline.stores.recipes import dequantize, expand, from_bfloat16, principal_basis, project, quantize, to_bfloat16


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
    assert (error <= scale[0] * 0.501).all()


@pytest.mark.parametrize("x", [np.maximum(values(), 0), -np.maximum(values(), 0), np.zeros((4, 6), np.float32)])
def test_zero_stays_exactly_zero(x):
    decoded = dequantize(*quantize(x))
    assert (decoded[x == 0] == 0).all()
    assert x.any() == decoded.any()


@pytest.mark.parametrize("offset", [0, 30, -100, 900, 1e6])
def test_an_offset_costs_no_steps_until_float32_has_none(offset):
    x = values((500, 3)) + np.float32(offset)
    decoded, (scale, _) = dequantize(*quantize(x)), quantize(x)[1]
    assert (abs(decoded - x) <= 0.51 * scale + 1e-6 * abs(offset)).all()
    assert offset == 1e6 or (scale <= 1.001 * np.ptp(x, 0) / 255).all()
    np.testing.assert_allclose(dequantize(*quantize(np.full((4, 2), 5.0, np.float32))), 5, rtol=1e-6)


def test_one_loud_channel_costs_the_others_nothing():
    loud = values()
    loud[:, 2] *= 1e4
    np.testing.assert_array_equal(dequantize(*quantize(loud))[:, 3:], dequantize(*quantize(values()))[:, 3:])


@pytest.mark.parametrize("shape", [(50, 6, 3, 2), (50, 6)])
def test_principal_components_are_those_of_scikit_learn(shape):
    x = values(shape) * np.arange(1, 7, dtype=np.float32).reshape(-1, *[1] * (len(shape) - 2)) + 5
    basis = principal_basis([x[:20], x[20:]], 3)
    lines = np.moveaxis(x, 1, -1).reshape(-1, 6)
    expected = PCA(3).fit(lines)
    found = np.moveaxis(expand(project(x, basis), basis), 1, -1).reshape(-1, 6)
    np.testing.assert_allclose(found, expected.inverse_transform(expected.transform(lines)), atol=1e-4)
    np.testing.assert_allclose(basis[1:] @ basis[1:].T, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(principal_basis([x], 3), basis, atol=1e-5)


def test_what_lies_in_few_dimensions_comes_back():
    x = np.einsum("rkp,kd->rdp", values((40, 2, 9)), values((2, 6), seed=1)) + values((6, 1), seed=2)
    basis = principal_basis([x[:20]], 2)
    np.testing.assert_allclose(expand(project(x, basis), basis), x, atol=1e-5)
