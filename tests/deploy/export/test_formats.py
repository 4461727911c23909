"""The other formats compute what JAX does, for a network of every family."""

import numpy as np
import pytest

from ttl_jax.deploy.export import format

# name, edge of an image, cut, slim
NETWORKS = [
    ("resnet18", 32, "stage2/block1"),
    ("densenet121", 32, "transition1"),
    ("vgg16", 32, None),
    ("efficientnet_b0", 32, "stage2/block2"),
    ("efficientnet_lite0", 33, "stage3/block1"),
    ("cbr_tiny", 64, "stage2/pool"),
    ("bit_r50x1", 32, "stage1/block2"),
    ("clip_resnet50", 64, None),
    ("resnet18_3d", 32, "stage1/block1"),
    ("penet", 32, "stage1/block1"),
]


@pytest.mark.parametrize("name", ["litert", "stablehlo"])
@pytest.mark.parametrize(("network", "size", "cut"), NETWORKS)
def test_a_program_computes_the_same(name, network, size, cut, forward_of, images_of, tmp_path):
    if name == "litert":
        pytest.importorskip("litert_converter")
    slim = {"slim_from": 1, "slim": 8} if network == "vgg16" else None
    forward, written = forward_of(network, size, cut=cut, slim=slim), format.find(name)
    images, path = images_of(forward.shape), tmp_path / written.FILE
    written.write(forward, path, {})
    predict, _ = written.open(forward, path)
    wanted = forward(images)
    np.testing.assert_allclose(predict(images), wanted, atol=2e-5)
    np.testing.assert_allclose(predict(images[:1]), wanted[:1], atol=2e-5)
