"""The masks are JAX's own, bit for bit."""

import jax
import numpy as np
import pytest

from ttl_jax.models.random_mask import bernoulli


@pytest.mark.parametrize("shape", [(), (1, 1, 1), (1280,), (5, 7, 3)])
@pytest.mark.parametrize("chance", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_masks_are_those_of_jax(shape, chance):
    keys = jax.random.split(jax.random.key(7), 9)
    ours, theirs = (
        np.asarray(jax.jit(jax.vmap(lambda key, draw=draw: draw(key, chance, shape)))(keys))
        for draw in (bernoulli, jax.random.bernoulli)
    )
    assert ours.dtype == bool and np.array_equal(ours, theirs)
