"""Whole networks: the forms that a CPU takes against XLA's own operations."""

import jax
import numpy as np
import pytest

from ttl_jax.models import cpu


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_gradients_of_a_network(name, gradients_of):
    cut = {"vgg16": "stage3/pool"}.get(name)
    # At 32 px the last stage normalises over 4 values: both paths are 2.6e-2 from float64's gradients there,
    # at 64 px 1.4e-5, and 3e-6 from each other (1.3e-5 on one core, where sums are taken in other parts).
    gradients = gradients_of(name, cut, 64 if name == "resnet18" else 32)
    ours, _ = gradients()
    with cpu.disabled():
        plain, _ = gradients()
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True)
    assert any(bool((mine != theirs).any()) for mine, theirs in pairs)  # two paths indeed
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert np.abs(mine - theirs).max() < 2e-5 * np.abs(theirs).max()
