"""Thinner tops: which widths are divided, in every family."""

import jax
import jax.numpy as jnp
import pytest

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.strategies import flatten


def shapes(name, size=64, **options):
    network = models.create(name, 2, **options)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return {path: leaf.shape for path, leaf in flatten(variables["params"]).items()}


def test_an_efficientnet_is_thinner_inside_from_the_block_and_outside_from_the_next_stage():
    slim = shapes("efficientnet_lite0", slim_from=7)  # the second block of stage 4
    whole = shapes("efficientnet_lite0")
    below = [path for path in whole if path.split("/")[0] in ("stem", "stage1", "stage2", "stage3")]
    assert all(slim[path] == whole[path] for path in below)
    assert slim["stage4/block1/project/conv/kernel"] == whole["stage4/block1/project/conv/kernel"]
    assert slim["stage4/block2/expand/conv/kernel"] == (1, 1, 80, 240)
    assert slim["stage4/block3/project/conv/kernel"] == (1, 1, 240, 80)
    assert slim["stage5/block1/project/conv/kernel"] == (1, 1, 240, 56)
    assert slim["stage7/block1/project/conv/kernel"] == (1, 1, 96 * 6, 160)
    assert slim["top/conv/kernel"] == (1, 1, 160, 640) and slim["head/kernel"] == (640, 2)


def test_vgg_and_alexnet_are_thinner_from_the_convolution():
    slim = shapes("vgg19", slim_from=10, slim=4)
    assert slim["stage4/conv1/kernel"] == (3, 3, 256, 512) and slim["stage4/conv2/kernel"] == (3, 3, 512, 128)
    assert slim["classifier/fc1/kernel"] == (7 * 7 * 128, 1024)
    slim = shapes("alexnet", slim_from=4)
    assert slim["stage3/conv1/kernel"] == (3, 3, 192, 384) and slim["stage3/conv2/kernel"] == (3, 3, 384, 128)


def test_cbr_is_thinner_from_the_convolution():
    slim = shapes("cbr_small", 128, slim_from=3)
    assert slim["stage2/conv/kernel"] == (7, 7, 32, 64) and slim["stage3/conv/kernel"] == (7, 7, 64, 64)


@pytest.mark.parametrize(("name", "block"), [("resnet50", 17), ("efficientnet_b0", 18), ("vgg16", 14)])
def test_a_block_that_does_not_exist_is_refused(name, block):
    with pytest.raises(UserError, match=f"slim_from={block}, slim=2 leaves {name} as it is"):
        models.create(name, 2, slim_from=block)
