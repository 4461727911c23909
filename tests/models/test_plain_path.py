"""Whole networks: the forms that a CPU takes against XLA's own convolutions and pools."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.models import convolution, max_pool


def gradients(network, variables, images):
    def loss(params):
        given = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, _ = network.apply(given, images, train=True, mutable=["batch_stats"])
        return jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    return jax.jit(jax.grad(loss))(variables["params"])


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_gradients_of_a_network(name, monkeypatch):
    cut = {"vgg16": "stage3/pool"}.get(name)
    network, variables = models.create(name, 3, cut=cut), weights.initialise(name, 3, cut=cut)
    # At 32 px the last stage normalises over 4 values: both paths are 2.6e-2 from float64's gradients there,
    # at 64 px 1.4e-5, and 3e-6 from each other.
    size = 64 if name == "resnet18" else 32
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, size, size, 3)), jnp.float32)
    ours = gradients(network, variables, images)
    monkeypatch.setattr(convolution, "_on_cpu", lambda cpu, other: other)
    monkeypatch.setattr(max_pool, "_pool", max_pool._plain)
    jax.clear_caches()
    plain = gradients(network, variables, images)
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True)
    assert any(bool((mine != theirs).any()) for mine, theirs in pairs)  # two paths indeed
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()
