"""Max pooling and its gradient against loops over windows, with ties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.models.cpu.max_pool import max_pool

CASES = [  # height, width, window, stride, padding
    (8, 10, 3, 2, 1), (9, 7, 3, 2, 1), (8, 8, 2, 2, 0), (9, 7, 2, 2, 0),
    (7, 9, 3, 1, 1), (10, 11, 3, 3, 0), (8, 9, 2, 3, 1),
]  # fmt: skip


def by_loops(x, g_of, size, stride, padding):
    """Values, and the gradient to the first maximum of each window in row-major order."""
    n, height, width, channels = x.shape
    out = [(length + 2 * padding - size) // stride + 1 for length in (height, width)]
    y, dx = np.zeros((n, *out, channels), x.dtype), np.zeros_like(x)
    g = g_of(y.shape)
    for image, row, column, channel in np.ndindex(*y.shape):
        best = None
        for r in range(row * stride - padding, row * stride - padding + size):
            for c in range(column * stride - padding, column * stride - padding + size):
                inside = 0 <= r < height and 0 <= c < width
                if inside and (best is None or x[image, r, c, channel] > x[image, *best, channel]):
                    best = (r, c)
        y[image, row, column, channel] = x[image, *best, channel]
        dx[image, *best, channel] += g[image, row, column, channel]
    return y, g, dx


@pytest.mark.parametrize("height, width, size, stride, padding", CASES)
def test_values_and_gradient_with_ties(height, width, size, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.integers(-2, 2, (2, height, width, 3)).astype(np.float32)  # many ties, negative edges
    y, g, dx = by_loops(x, lambda shape: rng.normal(size=shape).astype(np.float32), size, stride, padding)
    found, pull = jax.vjp(lambda x: max_pool(x, size, stride, padding), jnp.asarray(x))
    np.testing.assert_array_equal(found, y)
    np.testing.assert_allclose(pull(jnp.asarray(g))[0], dx, atol=1e-6)


@pytest.mark.parametrize("height, width, size, stride, padding", CASES)
def test_its_tangent_is_that_of_the_first_maximum(height, width, size, stride, padding):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-2, 2, (2, height, width, 3)), jnp.float32)
    tangent = jnp.asarray(rng.normal(size=x.shape), jnp.float32)

    def pool(x):
        return max_pool(x, size, stride, padding)

    y, moved = jax.jvp(pool, (x,), (tangent,))
    _, pull = jax.vjp(pool, x)
    np.testing.assert_allclose(jnp.vdot(moved, y + 1), jnp.vdot(tangent, pull(y + 1)[0]), rtol=1e-5)
    mapped, tangents = jax.vmap(lambda x, t: jax.jvp(pool, (x[None],), (t[None],)))(x, tangent)
    np.testing.assert_array_equal(mapped[:, 0], y)
    np.testing.assert_array_equal(tangents[:, 0], moved)


def test_not_a_number_comes_through():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    assert bool(jnp.isnan(max_pool(x, 3, 2, 1)).any())


def test_no_select_and_scatter_on_a_cpu_and_still_there_elsewhere():
    gradient = jax.jit(jax.grad(lambda x: max_pool(x, 3, 2, 1).sum()))
    traced = gradient.trace(jnp.zeros((1, 8, 8, 2)))
    assert "select_and_scatter" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    assert "select_and_scatter" in traced.lower(lowering_platforms=("cuda",)).as_text()


def test_three_dimensions():
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 4, 2)).astype(np.float32)
    expected = x.reshape(1, 2, 2, 2, 2, 2, 2, 2).max((2, 4, 6))
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), 2, 2), expected)
