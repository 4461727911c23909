"""Grad-CAM against its formula written out in NumPy, for heads whose derivative is known by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models
from ttl_jax.analysis.cam_gallery import overlay
from ttl_jax.analysis.grad_cam import last_map, make_grad_cam
from ttl_jax.errors import UserError


def filled(head):
    """The same head with random values: a fresh one is all 0."""
    random = np.random.default_rng(2)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), head)


def made(head):
    """A small network with random weights, images, and its last map from a forward pass."""
    network = models.create("cbr_tiny", 3, cut="stage2/pool", head=head)
    images = np.random.default_rng(0).integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
    variables = network.init(jax.random.key(1), jnp.zeros((1, 32, 32, 3)))
    head = filled(variables["params"]["head"])
    variables = {**variables, "params": {**variables["params"], "head": head}}
    unit = network.units[-1].name
    _, captured = network.apply(variables, images / np.float32(255), capture=(unit,))
    maps = make_grad_cam(network, lambda x: x.astype(jnp.float32) / 255, unit)
    return np.asarray(captured[unit], np.float64), head, lambda c: np.asarray(maps(variables, images, c))


def by_hand(features, derivative):
    """eq. 1 and 2: mean over places of the derivative, weighted sum over channels, ReLU."""
    weights = derivative.mean(axis=(1, 2))
    return np.maximum(np.einsum("nhwc,nc->nhw", features, weights), 0)


def test_under_a_pooled_linear_head_it_is_the_class_activation_map():
    features, head, maps = made("gap")
    places = features.shape[1] * features.shape[2]
    assert places > 1
    seen = 0.0  # some classes have evidence against them only: an empty map
    for classes in (np.array([0, 2]), np.array([1, 1]), np.array([2, 0])):
        derivative = np.broadcast_to(head["kernel"].T[classes][:, None, None] / places, features.shape)
        want = by_hand(features, derivative)
        np.testing.assert_allclose(maps(classes), want, rtol=1e-4, atol=1e-6)
        seen = max(seen, want.max())
    assert seen > 0.01


def test_through_a_hidden_layer_only_active_units_count():
    features, head, maps = made("mlp")
    hidden = features.mean(axis=(1, 2)) @ head["hidden"]["kernel"] + head["hidden"]["bias"]
    active = (hidden > 0)[:, :, None] * head["out"]["kernel"][None]
    slope = np.einsum("ch,nhk->nck", head["hidden"]["kernel"], active)  # of each logit by the pooled mean
    classes = np.array([2, 0])
    picked = slope[np.arange(2), :, classes] / (features.shape[1] * features.shape[2])
    want = by_hand(features, np.broadcast_to(picked[:, None, None], features.shape))
    assert want.max() > 0
    np.testing.assert_allclose(maps(classes), want, rtol=1e-4, atol=1e-6 * want.max())


@pytest.mark.parametrize(("size", "unit"), [(64, "stage5/conv3"), (128, "stage5/pool"), (2, None)])
def test_the_topmost_map_with_places_enough_is_taken(size, unit):
    network = models.create("vgg16", 2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    if unit is None:
        with pytest.raises(UserError, match="too small"):
            last_map(network, shapes, (size, size, 3))
    else:
        assert last_map(network, shapes, (size, size, 3)) == unit


def test_the_overlay_leaves_what_has_no_evidence():
    image = np.full((8, 8, 3), 100, np.uint8)
    heat = np.zeros((4, 4))
    np.testing.assert_array_equal(overlay(image, heat), image)
    heat[0, 0] = 3.0
    covered = overlay(image, heat).astype(int)
    assert abs(covered[0, 0] - 100).max() > 50 and (covered[4:, 4:] == 100).all()
