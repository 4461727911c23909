"""What several tests of networks do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.models.layers.batch_scope import batch_scope


@pytest.fixture
def fresh_traces():
    """For tests that swap a part of a layer: no trace of before is used, and none of theirs afterwards."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@pytest.fixture
def gradients_of(fresh_traces):
    """(network, cut, pixels) -> a function that traces anew and gives gradients and moved statistics."""

    def prepare(name, cut, size, dtype=jnp.float32):
        network = models.create(name, 3, cut=cut, dtype=dtype)
        drawn = weights.initialise(name, 3, cut=cut)
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), drawn)
        images = jnp.asarray(np.random.default_rng(0).normal(size=(4, size, size, 3)), dtype)

        def gradients():
            def loss(params):
                given = {"params": params, "batch_stats": variables["batch_stats"]}
                with batch_scope(None, None):
                    logits, moved = network.apply(given, images, train=True, mutable=["batch_stats"])
                return jnp.mean(jax.nn.log_softmax(logits)[:, 0]), moved

            jax.clear_caches()
            return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

        return gradients

    return prepare
