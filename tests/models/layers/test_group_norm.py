"""GroupNorm and standardised convolutions against NumPy written from the definitions."""

import jax.numpy as jnp
import numpy as np

from ttl_jax.models.layers.group_norm import GroupNorm, StandardisedConv

RNG = np.random.default_rng(0)


def test_group_norm_normalises_each_example_and_group():
    x = RNG.normal(3.0, 2.0, size=(2, 4, 3, 5, 6)).astype(np.float32)
    scale, bias = RNG.normal(size=6).astype(np.float32), RNG.normal(size=6).astype(np.float32)
    found = GroupNorm(3).apply({"params": {"scale": scale, "bias": bias}}, jnp.asarray(x))
    for example in range(2):
        for group in range(3):
            channels = slice(2 * group, 2 * group + 2)
            part = x[example, ..., channels].astype(np.float64)
            expected = (part - part.mean()) / np.sqrt(part.var() + 1e-5) * scale[channels] + bias[channels]
            np.testing.assert_allclose(found[example, ..., channels], expected, rtol=1e-5, atol=1e-5)


def test_standardised_kernels_have_mean_0_and_variance_1():
    kernel = RNG.normal(0.3, 2.0, size=(3, 3, 4, 5)).astype(np.float32)
    x = np.zeros((1, 5, 5, 4), np.float32)
    x[0, 2, 2] = [1, 2, 3, 4]  # an impulse gives the kernel back, turned around
    found = StandardisedConv(5, 3).apply({"params": {"kernel": kernel}}, jnp.asarray(x))
    flat = kernel.astype(np.float64)
    flat = (flat - flat.mean((0, 1, 2))) / np.sqrt(flat.var((0, 1, 2)) + 1e-8)
    expected = np.einsum("hwio,i->hwo", flat[::-1, ::-1], x[0, 2, 2])
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)
