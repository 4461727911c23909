"""Layers against NumPy written from the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.models.layers.basic import BatchNorm, Conv, Dropout, adaptive_average_pool, max_pool

RNG = np.random.default_rng(0)


def test_batchnorm_normalises_with_the_biased_and_keeps_the_unbiased_variance():
    x = RNG.normal(50.0, 2.0, size=(4, 3, 5, 2)).astype(np.float32)  # far from zero: cancellation
    layer = BatchNorm(momentum=0.9, epsilon=1e-5)
    variables = {
        "params": {"scale": jnp.array([1.5, -2.0]), "bias": jnp.array([0.1, 0.2])},
        "batch_stats": {"mean": jnp.array([49.0, 51.0]), "var": jnp.array([3.0, 4.0])},
    }
    y, moved = layer.apply(variables, jnp.asarray(x), True, mutable=["batch_stats"])
    flat = x.reshape(-1, 2).astype(np.float64)
    mean, biased, unbiased = flat.mean(0), flat.var(0), flat.var(0, ddof=1)
    expected = (x - mean) / np.sqrt(biased + 1e-5) * [1.5, -2.0] + [0.1, 0.2]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    stats = moved["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.9 * np.array([49, 51]) + 0.1 * mean, rtol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 * np.array([3, 4]) + 0.1 * unbiased, rtol=1e-5)
    y, _ = layer.apply(variables, jnp.asarray(x), False, mutable=["batch_stats"])
    expected = (x - [49, 51]) / np.sqrt(np.array([3, 4]) + 1e-5) * [1.5, -2.0] + [0.1, 0.2]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def test_batchnorms_gradients_are_those_of_its_paper():
    """Ioffe and Szegedy 2015, section 3, in float64."""
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, (4, 5, 6, 7)).astype(np.float32)
    g = rng.normal(size=x.shape).astype(np.float32)
    scale = rng.normal(size=7).astype(np.float32)
    statistics = {"mean": rng.normal(size=7).astype(np.float32), "var": np.ones(7, np.float32)}

    def normalised(scale, bias, x):
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": statistics}
        return BatchNorm().apply(variables, x, moving=True)

    @jax.jit
    def gradients(scale, bias, x, g):
        return jax.vjp(normalised, scale, bias, x)[1](g)

    found = gradients(scale, np.zeros(7, np.float32), x, g)
    axes, count = (0, 1, 2), 4 * 5 * 6
    x64, g64 = x.astype(np.float64), g.astype(np.float64)
    root = np.sqrt(x64.var(axes) + 1e-5)
    unit = (x64 - x64.mean(axes)) / root
    for_scale, for_bias = (g64 * unit).sum(axes), g64.sum(axes)
    for_x = scale / root * (g64 - for_bias / count - unit * for_scale / count)
    for mine, theirs in zip(found, (for_scale, for_bias, for_x), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (3, 1, 1), (1, 2, 0), (7, 2, 3)])
def test_convolution_pads_as_torch(size, stride, padding):
    x = RNG.normal(size=(2, 8, 9, 3))
    kernel = RNG.normal(size=(size, size, 3, 4))
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = (padded.shape[1] - size) // stride + 1
    columns = (padded.shape[2] - size) // stride + 1
    expected = np.zeros((2, rows, columns, 4))
    for row in range(rows):
        for column in range(columns):
            top, left = row * stride, column * stride
            window = padded[:, top : top + size, left : left + size]
            expected[:, row, column] = np.einsum("nhwc,hwcf->nf", window, kernel)
    found = Conv(4, size, stride, padding).apply({"params": {"kernel": kernel}}, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_tensorflow_same_padding_is_asymmetric_when_strided():
    x, kernel = RNG.normal(size=(1, 8, 8, 1)), RNG.normal(size=(3, 3, 1, 1))
    found = Conv(1, 3, 2, "SAME").apply({"params": {"kernel": kernel}}, jnp.asarray(x))
    padded = np.pad(x[0, :, :, 0], ((0, 1), (0, 1)))  # TensorFlow: all of it after the end
    expected = [
        [(padded[r : r + 3, c : c + 3] * kernel[:, :, 0, 0]).sum() for c in range(0, 8, 2)]
        for r in range(0, 8, 2)
    ]
    np.testing.assert_allclose(found[0, :, :, 0], expected, rtol=1e-5, atol=1e-5)


def test_max_pool_padding_never_wins():
    x = -1 - RNG.random(size=(1, 4, 4, 1))
    found = max_pool(jnp.asarray(x), 3, 2, 1)[0, :, :, 0]
    padded = np.pad(x[0, :, :, 0], 1, constant_values=-np.inf)
    expected = [[padded[r : r + 3, c : c + 3].max() for c in (0, 2)] for r in (0, 2)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_adaptive_average_pool_windows():
    x = RNG.normal(size=(1, 5, 10, 2))
    found = adaptive_average_pool(jnp.asarray(x), 3)
    rows = [(0, 2), (1, 4), (3, 5)]  # floor(i 5 / 3) .. ceil((i + 1) 5 / 3)
    columns = [(0, 4), (3, 7), (6, 10)]
    for i, (top, bottom) in enumerate(rows):
        for j, (left, right) in enumerate(columns):
            expected = x[0, top:bottom, left:right].mean((0, 1))
            np.testing.assert_allclose(found[0, i, j], expected, rtol=1e-5, atol=1e-6)


def test_dropout_keeps_the_expectation():
    keys = jax.random.split(jax.random.key(0), 4000)
    y = np.asarray(Dropout(0.25).apply({}, jnp.ones((4000, 3)), keys))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    np.testing.assert_allclose((y == 0).mean(), 0.25, atol=0.02)
    rows = np.asarray(Dropout(0.5, whole=True).apply({}, jnp.ones((4000, 3)), keys))
    assert ((rows == 0).all(1) | (rows > 0).all(1)).all()
