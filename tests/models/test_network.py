"""Still units, captured features, cached features, and dropout that belongs to the example."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models

IMAGES = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))


@pytest.fixture(scope="module")
def resnet():
    network = models.create("resnet18", 3)
    return network, network.init(jax.random.key(0), IMAGES)


def test_still_units_keep_their_statistics_and_others_move(resnet):
    network, variables = resnet
    _, moved = network.apply(
        variables, IMAGES, train=True, still=("stem", "stage1/block1"), mutable=["batch_stats"]
    )
    before, after = variables["batch_stats"], moved["batch_stats"]
    np.testing.assert_array_equal(before["stem"]["norm"]["mean"], after["stem"]["norm"]["mean"])
    np.testing.assert_array_equal(
        before["stage1"]["block1"]["norm2"]["var"], after["stage1"]["block1"]["norm2"]["var"]
    )
    for name in ("mean", "var"):
        for block in (after["stage1"]["block2"]["norm1"], after["stage4"]["block1"]["norm2"]):
            assert not np.allclose(block[name], 0 if name == "mean" else 1)


def test_all_still_equals_inference(resnet):
    network, variables = resnet
    everything = [unit.name for unit in models.units("resnet18")]
    still, _ = network.apply(variables, IMAGES, train=True, still=everything, mutable=["batch_stats"])
    np.testing.assert_array_equal(still, network.apply(variables, IMAGES))


def test_features_captured_at_a_unit_give_the_same_logits_from_there(resnet):
    network, variables = resnet
    logits, captured = network.apply(variables, IMAGES, capture=("stage2/block2", "stem"))
    assert captured["stem"].shape == (4, 8, 8, 64)
    again = network.apply(variables, captured["stage2/block2"], after="stage2/block2")
    np.testing.assert_allclose(again, logits, rtol=1e-6, atol=1e-6)


def test_a_cut_network_gives_the_features_of_the_whole_one(resnet):
    network, variables = resnet
    _, captured = network.apply(variables, IMAGES, capture=("stage3/block2",))
    cut = models.create("resnet18", 0, cut="stage3/block2")
    features = cut.apply(variables, IMAGES)
    np.testing.assert_allclose(features, captured["stage3/block2"].mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_dropout_belongs_to_the_example_not_to_its_place():
    # Cut: every skip connection drops its branch with a probability of its own, here 0.025 and 0.05.
    # A cut network's head has no dropout of its own.
    network = models.create("efficientnet_b0", 3, cut="stage3/block2")
    network = network.clone(head=replace(network.head, dropout=0.2))
    images = jax.random.normal(jax.random.key(1), (32, 32, 32, 3))
    variables = jax.jit(network.init)(jax.random.key(0), images)
    units = tuple(unit.name for unit in models.units("efficientnet_b0"))
    keys = jax.random.split(jax.random.key(7), 32)

    @partial(jax.jit, static_argnums=2)
    def logits(images, keys, still):
        found, _ = network.apply(
            variables, images, train=True, keys=keys, still=still, mutable=["batch_stats"]
        )
        return found / scale  # an untrained network's are small

    def run(order, still):
        return np.asarray(logits(images[order], keys[order], still))

    inference, scale = jax.jit(network.apply)(variables, images), 1.0
    scale = float(np.abs(inference).max())
    straight, order = np.arange(32), np.random.default_rng(0).permutation(32)
    noisy = run(straight, units)  # only the head's dropout is on
    np.testing.assert_allclose(run(order, units), noisy[order], rtol=1e-5, atol=1e-6)
    silent = run(straight, (*units, "head"))
    assert np.abs(noisy - silent).max() > 1e-3
    np.testing.assert_allclose(silent, inference / scale, rtol=1e-5, atol=1e-6)
    # Whole branches too: with other keys others are dropped, all else (the batch's statistics) being equal.
    dropped = run(straight, ("head",))
    np.testing.assert_allclose(run(order, ("head",)), dropped[order], rtol=1e-4, atol=1e-4)
    assert np.abs(dropped - np.asarray(logits(images, keys[::-1], ("head",)))).max() > 1e-3


@pytest.mark.parametrize("cut", [None, 2, 4])  # compiled and cut it was NaN with JAX 0.12 on a CPU
def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(cut):
    half = models.create("resnet18", 3, cut=cut, dtype=jnp.bfloat16)
    variables = half.init(jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    full = models.create("resnet18", 3, cut=cut).apply(variables, IMAGES)
    error = np.abs(np.asarray(jax.jit(half.apply)(variables, IMAGES), np.float32) - full).max()
    assert 0 < error < 0.05 * np.abs(full).max()
