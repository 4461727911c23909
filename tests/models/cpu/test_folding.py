"""Folded networks have the logits of the plain ones."""

import jax
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.models.cpu import folding
from ttl_jax.training.predictor import Predictor, logits_of, make_predict

# name, units that are kept, size, pairs among them: one network of each family with BatchNorm
FAMILIES = [
    ("resnet18", 3, 32, 5), ("resnet50", 2, 32, 5), ("densenet121", 2, 32, 2), ("vgg16_bn", 2, 32, 2),
    ("efficientnet_lite0", 3, 32, 6), ("cbr_tiny", 2, 32, 1), ("clip_resnet50", 2, 32, 7),
    ("resnet18_3d", 2, 16, 2),
]  # fmt: skip


def drawn(variables, seed=0):
    """Statistics and parameters of BatchNorms as training leaves them: none is 0 or 1."""
    rng = np.random.default_rng(seed)

    def one(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 2.0, leaf.shape).astype(np.float32)
        return rng.normal(0, 0.3, leaf.shape).astype(np.float32) if name in ("mean", "bias") else leaf

    return jax.tree_util.tree_map_with_path(one, variables)


@pytest.mark.parametrize(("name", "cut", "size", "count"), FAMILIES)
def test_every_family_has_the_same_logits(name, cut, size, count):
    network = models.create(name, 3, cut=cut)
    variables = drawn(weights.initialise(name, 3, cut=cut))
    shape = models.input_shape(name, size, depth=8)
    images = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    predict = make_predict(network, lambda images: images)
    plain = np.asarray(predict(variables, images))
    folded = np.asarray(predict.fixed(variables, images)(images))
    assert np.abs(folded - plain).max() <= 1e-5 * np.abs(plain).max()
    pairs: dict = {}
    with folding.folding(pairs):
        jax.eval_shape(network.apply, variables, images)
    assert len(pairs) == count


def test_other_weights_are_folded_anew_and_batches_give_what_one_gives():
    network = models.create("resnet18", 3, cut=2)
    predict = make_predict(network, lambda images: images)
    images = np.random.default_rng(1).normal(size=(6, 32, 32, 3)).astype(np.float32)
    batches = [
        {"image": images[:4], "mask": np.ones(4)},
        {"image": images[2:], "mask": np.array([0, 0, 1, 1])},
    ]
    for seed in (0, 1):
        variables = drawn(weights.initialise("resnet18", 3, cut=2), seed)
        wanted = np.asarray(predict(variables, images))
        np.testing.assert_allclose(logits_of(predict, variables, batches), wanted, rtol=1e-5, atol=1e-6)


def test_a_compute_type_of_fewer_bits_is_not_folded():
    predict = make_predict(
        models.create("resnet18", 3, cut=2, dtype=jax.numpy.bfloat16), lambda images: images
    )
    assert isinstance(predict, Predictor)
    variables = drawn(weights.initialise("resnet18", 3, cut=2))
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(predict.fixed(variables, images)(images), predict(variables, images))
