"""A normalised convolution whose backward makes its input again, against plain autodiff."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.models.cpu.convolution import convolution
from ttl_jax.models.cpu.recompute import normalised_convolution
from ttl_jax.models.layers import basic


def arguments(window, channels=5, features=4):
    rng = np.random.default_rng(0)
    shapes = ((3, 6, 6, channels), (channels,), (channels,), (window, window, channels, features))
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def plain(x, factor, offset, kernel, strides, padding, groups):
    return convolution(nn.relu(x * factor + offset), kernel, strides, padding, groups)


@pytest.mark.parametrize(("window", "padding"), [(1, ((0, 0), (0, 0))), (3, ((1, 1), (1, 1)))])
def test_values_and_gradients(window, padding):
    def both(function):
        def loss(*given):
            y = function(*given, (1, 1), padding, 1)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(*arguments(window))

    for mine, theirs in zip(*map(jax.tree.leaves, (both(normalised_convolution), both(plain))), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


def test_only_what_came_in_is_kept():
    given = arguments(3)

    def kept(function):
        _, backward = jax.vjp(lambda *given: function(*given, (1, 1), ((1, 1), (1, 1)), 1), *given)
        return sorted(leaf.size for leaf in jax.tree.leaves(backward))

    vectors = given[1].size  # which may be there in two shapes
    maps = [size for size in kept(normalised_convolution) if size > vectors]
    assert maps == sorted(leaf.size for leaf in given if leaf.size > vectors)
    assert sum(kept(plain)) > sum(kept(normalised_convolution))


def test_a_gradient_that_is_not_finite_stays_where_it_is():
    x, factor, offset, kernel = arguments(1)
    _, backward = jax.vjp(
        lambda x: normalised_convolution(x, factor, offset, kernel, (1, 1), ((0, 0), (0, 0)), 1), x
    )
    for value in (np.nan, np.inf):
        (gradient,) = backward(jnp.ones((3, 6, 6, 4)).at[0, 0, 0, 0].set(value))
        assert np.isfinite(gradient[1:]).all() and not np.isfinite(gradient[0, 0, 0]).all()


def test_gradients_of_a_dense_block(gradients_of, monkeypatch):
    with jax.enable_x64(True):  # float32's rounding is larger than the gradients of some leaves
        gradients = gradients_of("densenet121", "transition1", 64, jnp.float64)
        ours = gradients()
        monkeypatch.setattr(basic, "normalised_convolution", plain)
        for mine, theirs in zip(*map(jax.tree.leaves, (ours, gradients())), strict=True):
            assert mine.dtype == np.float64
            assert np.abs(mine - theirs).max() <= 1e-10 * np.abs(theirs).max() + 1e-16
