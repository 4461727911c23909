"""Faithfulness of maps: against SciPy, and for models whose curves are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import spearmanr

from ttl_jax import models
from ttl_jax.analysis import faithfulness
from ttl_jax.analysis.faithfulness import curves, inside, randomised, rank_correlation


def test_weights_are_shuffled_from_the_head_down_unit_by_unit():
    network = models.create("cbr_tiny", 3, cut="stage3/pool")
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), variables)
    flat = dict(jax.tree_util.tree_flatten_with_path(variables)[0])
    steps = list(randomised(network, variables, seed=1))
    names = [name for name, _ in steps]
    with_weights = [spec.name for spec in network.units if spec.name in str_paths(flat)]
    assert names == ["head", *reversed(with_weights)] and len(names) == 4
    for place, (_, mixed) in enumerate(steps):
        for path, leaf in jax.tree_util.tree_flatten_with_path(mixed)[0]:
            unit = unit_of(path)
            changed = not np.array_equal(leaf, flat[path])
            assert changed == (names.index(unit) <= place), (unit, path)
            np.testing.assert_array_equal(np.sort(leaf, axis=None), np.sort(flat[path], axis=None))


def unit_of(path):
    keys = [key.key for key in path]
    return "head" if keys[1] == "head" else f"{keys[1]}/conv"  # the norm is of the same unit


def str_paths(flat):
    return {unit_of(path) for path in flat}


def test_a_deep_network_is_randomised_in_few_steps_down_to_its_stem():
    network = models.create("resnet50", 2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    tiny = jax.tree.map(lambda leaf: np.zeros(leaf.shape[-1:], np.float32), shapes)
    names = [name for name, _ in randomised(network, tiny)]
    assert len(names) == faithfulness.LAYERS and names[0] == "head" and names[-1] == "stem"


def test_rank_correlation_is_spearmans():
    random = np.random.default_rng(0)
    one = random.random((3, 5, 6)).round(1)  # with ties
    other = one + random.normal(scale=[[[0.1]], [[1]], [[10]]], size=one.shape)
    want = [
        spearmanr(np.maximum(a, 0).ravel(), np.maximum(b, 0).ravel())[0]
        for a, b in zip(one, other, strict=True)
    ]
    np.testing.assert_allclose(rank_correlation(one, other), want, atol=1e-6)
    assert (rank_correlation(one, np.zeros_like(one)) == 0).all()


def test_curves_of_a_model_that_counts_one_quarter_of_the_image():
    """p = the share of the top left quarter that is as in the image: every curve is known."""
    random = np.random.default_rng(0)
    images = random.normal(size=(4, 16, 16, 3)).astype(np.float32)

    def probability(seen):
        return (seen == images).all(axis=-1)[:, :8, :8].mean(axis=(1, 2))

    right, wrong = np.zeros((4, 2, 2)), np.zeros((4, 2, 2))
    right[:, 0, 0], wrong[:, 1, 1] = 1, 1
    # pixel by pixel, so that the interpolation of maps does not blur the quarter's border
    right, wrong = (each.repeat(8, axis=1).repeat(8, axis=2) for each in (right, wrong))
    good = curves(probability, images, right).areas()
    # straight down to 0 at a quarter, then 0: 1/8 of the area; straight up to 1, then 1: 7/8
    np.testing.assert_allclose(good["deletion"], 1 / 8, atol=1e-6)
    np.testing.assert_allclose(good["insertion"], 7 / 8, atol=1e-6)
    # at random every share of all pixels is the same share of the quarter
    for name in ("deletion_at_random", "insertion_at_random"):
        np.testing.assert_allclose(good[name], 1 / 2, atol=0.05)
    bad = curves(probability, images, wrong).areas()
    # the wrong quarter first, the rest in random order: 1 for a quarter, then straight down
    np.testing.assert_allclose(bad["deletion"], 1 / 4 + 3 / 8, atol=0.05)
    # a map that says nothing is chance
    np.testing.assert_allclose(curves(probability, images, 0 * right).areas()["deletion"], 1 / 2, atol=0.05)


def test_volumes_have_curves_too():
    images = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 1)).astype(np.float32)

    def probability(seen):
        return (seen == images)[:, :2].mean(axis=(1, 2, 3, 4))

    maps = np.zeros((2, 4, 8, 8))
    maps[:, :2] = 1
    np.testing.assert_allclose(curves(probability, images, maps).areas()["deletion"], 1 / 4, atol=1e-6)


def test_energy_and_peak_inside_a_mask_by_hand():
    maps, masks = np.zeros((4, 4, 4)), np.zeros((4, 4, 4), bool)
    masks[:, :2, :2] = True
    maps[0, 0, 0] = 2  # all inside
    maps[1] = 1  # an even map: the mask's share
    maps[2, 0, 0], maps[2, 3, 3], maps[2, 2, 2] = 1, 3, -5  # what speaks against the class does not count
    found = inside(maps, masks)  # the last map is empty
    np.testing.assert_allclose(found.energy, [1, 1 / 4, 1 / 4, np.nan])
    np.testing.assert_array_equal(found.area, 1 / 4)
    assert found.hit.tolist() == [True, True, False, False]


def test_a_map_is_enlarged_to_its_mask():
    masks = np.zeros((1, 2, 64, 64), bool)
    masks[:, 0, :32] = True
    maps = np.zeros((1, 2, 4, 4))
    maps[:, 0, :2] = 1
    found = inside(maps, masks)
    assert found.energy[0] > 0.8 and found.hit[0] and found.area[0] == 1 / 4
